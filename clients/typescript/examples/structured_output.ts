/** An answer as a value. */

import { Client } from "@parley-gateway/client";

interface Ticket {
  summary: string;
  urgency: "low" | "high";
}

const schema = {
  type: "object",
  properties: { summary: { type: "string", description: "One sentence." }, urgency: { enum: ["low", "high"] } },
  required: ["summary", "urgency"],
  additionalProperties: false,
};

const client = new Client();
const reply = await client.chat("mock/echo", "My invoice is wrong and I leave in an hour!", {
  schema: { name: "ticket", schema },
});
const ticket = reply.json() as Ticket; // or InvalidOutput; check it with the validator of your choice
console.log(ticket.urgency, "-", ticket.summary);
client.close();
