/** What can go wrong, and what to do about it. */

import { Client, GatewayError, InvalidRequest, ModelNotFound } from "@parley-gateway/client";

const client = new Client();

try {
  await client.chat("mock/no-such-model", "hello", { timeout: 10 });
} catch (error) {
  if (!(error instanceof ModelNotFound)) throw error;
  console.log(error.message); // reason, message, and the request ID that the gateway's operator can look up
  for await (const model of client.models()) console.log("there is", model.id);
}

try {
  await client.chat("mock/echo", "hello", { temperature: 9 });
} catch (error) {
  if (!(error instanceof InvalidRequest)) throw error;
  for (const { field, description } of error.violations) console.log(field, "→", description);
}

// The gateway has tried again already, and fallen back where it may. What is left is yours to decide:
const stream = client.stream("mock/echo", "hello", { fallbacks: ["mock/other"] });
try {
  console.log((await stream.reply()).text);
} catch (error) {
  if (!(error instanceof GatewayError)) throw error;
  console.log("so far:", stream.partial.text);
  if (error.retryable) console.log(`worth another try in ${error.retryAfter ?? 1} s`);
}
client.close();
