/** The shortest conversation. Start a gateway first: `make run`. */

import { Client, system } from "@parley-gateway/client";

const client = new Client(); // at PARLEY_ADDRESS, else at 127.0.0.1:50051
const first = await client.chat("mock/echo", "hello");
console.log(first.text);

// To go on, send the reply back in its place. What the provider needs to recognise it travels along.
const conversation = [system("Be brief."), "hello", first, "and goodbye"];
const reply = await client.chat("mock/echo", conversation, { temperature: 0.2 });
console.log(reply.text, reply.finishReason, reply.usage?.outputTokens, reply.costNanoUsd);
client.close();
