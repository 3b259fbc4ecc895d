/** A model that calls functions. */

import { Client, type Prompt, Reply, toolResult, type v1 } from "@parley-gateway/client";

const turns = 10;
const tools = [
  {
    name: "weather",
    description: "The weather now.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];

function weather({ city }: Record<string, unknown>): string {
  if (city === "Atlantis") throw new RangeError("no such city");
  return `21 °C in ${String(city)}`;
}

const model = process.argv[2] ?? "mock/echo"; // a model that uses tools makes it more interesting
const client = new Client();
const conversation: (string | v1.Message | Reply)[] = ["What is the weather in Oslo?"];
for (let turn = 0; turn < turns; turn += 1) {
  const reply = await client.chat(model, conversation satisfies Prompt, { tools });
  if (!reply.toolCalls.length) {
    console.log(reply.text);
    break;
  }
  conversation.push(reply);
  for (const call of reply.toolCalls) {
    console.log(`→ ${call.name}(${call.argumentsJson})`);
    try {
      conversation.push(toolResult(call, weather(call.arguments)));
    } catch (error) {
      conversation.push(toolResult(call, String(error), { isError: true })); // the model is told, and may do better
    }
  }
}
client.close();
