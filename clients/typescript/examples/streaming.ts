/** Text as it comes, everything as it comes, and a stream that goes on by itself when its connection breaks. */

import { Client } from "@parley-gateway/client";

const client = new Client();

const stream = client.stream("mock/echo", "one two three", { resume: true });
for await (const text of stream) process.stdout.write(text); // leaving early would end the call, at the provider too
const reply = await stream.reply(); // the whole, as chat would have given it
console.log(`\n${reply.finishReason}, ${reply.usage?.outputTokens} tokens`);

const other = client.stream("mock/echo", "four five six");
for await (const { sequence, event } of other.events()) console.log(sequence, event.case); // reasoning, usage, …

client.close();
