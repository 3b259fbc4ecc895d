/** The table that all clients share; PARLEY_SCENE has the addresses of its servers. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";

import { Client, GatewayError, type Reply, v1 } from "../src/index.js";

interface Scenario {
  name: string;
  at: string;
  call: "chat" | "stream" | "embed" | "models";
  model?: string;
  input?: string | string[] | { repeat: string; times: number };
  request?: JsonValue;
  timeout?: number;
  resume?: boolean;
  cancel_after?: number;
  expect: Record<string, unknown>;
}

interface Seen {
  reply?: Reply;
  events: v1.StreamChatResponse[];
  vectors: Float32Array[];
  models: string[];
  took: number;
}

const scene = process.env["PARLEY_SCENE"];
const table = JSON.parse(readFileSync(new URL("../../../scenarios.json", import.meta.url), "utf-8")) as {
  scenarios: Scenario[];
};
const skip = scene ? false : "PARLEY_SCENE is not set: `make clients-test` runs these scenarios against their servers";

assert(table.scenarios.length > 0);
for (const scenario of table.scenarios) {
  test(scenario.name, { skip, timeout: 90_000 }, async () => {
    const addresses = JSON.parse(scene ?? "{}") as Record<string, string>;
    const { error: wanted, ...expect } = scenario.expect;
    const seen: Seen = { events: [], vectors: [], models: [], took: 0 };
    const begun = performance.now();
    const client = new Client(addresses[scenario.at]);
    try {
      const called = run(client, scenario, seen);
      if (wanted) checkError(await failure(called), wanted as Record<string, unknown>);
      else await called;
    } finally {
      client.close();
    }
    seen.took = (performance.now() - begun) / 1000;
    for (const [name, value] of Object.entries(expect)) check(name, value, seen);
  });
}

async function failure(called: Promise<void>): Promise<GatewayError> {
  try {
    await called;
  } catch (error) {
    assert(error instanceof GatewayError, String(error));
    return error;
  }
  assert.fail("the call did not fail");
}

async function run(client: Client, scenario: Scenario, seen: Seen): Promise<void> {
  const { model = "", input, timeout = 20 } = scenario;
  const json = scenario.request ?? {};
  switch (scenario.call) {
    case "chat": {
      const request = fromJson(v1.ChatRequestSchema, json);
      seen.reply = await client.chat(model, prompt(input), { request, timeout });
      return;
    }
    case "stream": {
      const request = fromJson(v1.ChatRequestSchema, json);
      const stream = client.stream(model, prompt(input), { request, timeout, resume: scenario.resume ?? false });
      try {
        for await (const event of stream.events()) {
          seen.events.push(event);
          if (texts(seen).length === scenario.cancel_after) stream.cancel();
        }
      } finally {
        seen.reply = stream.partial;
      }
      return;
    }
    case "embed":
      seen.vectors = (await client.embed(model, input as string[], { timeout })).vectors;
      return;
    case "models":
      for await (const { id } of client.models(fromJson(v1.ListModelsRequestSchema, json), { timeout })) {
        seen.models.push(id);
      }
      return;
  }
}

function prompt(input: Scenario["input"]): string | string[] {
  if (input === undefined) return [];
  if (typeof input === "string" || Array.isArray(input)) return input;
  return input.repeat.repeat(input.times);
}

function texts(seen: Seen): string[] {
  return seen.events.flatMap(({ event }) =>
    event.case === "partDelta" && event.value.delta.case === "text" ? [event.value.delta.value] : [],
  );
}

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

/** Whether what was seen is what the table says under `name`. */
function check(name: string, value: unknown, seen: Seen): void {
  const reply = seen.reply as Reply;
  switch (name) {
    case "text":
      if (typeof value === "string") assert.equal(reply.text, value);
      else {
        const long = value as { length: number; sha256: string };
        assert.equal(reply.text.length, long.length);
        assert.equal(createHash("sha256").update(reply.text).digest("hex"), long.sha256);
      }
      return;
    case "partial_text":
      return assert.equal(reply.text, value);
    case "reasoning":
      return assert.equal(reply.reasoning, value);
    case "refusal":
      return assert.equal(reply.refusal, value);
    case "finish_reason":
      return assert.equal(reply.finishReason, value);
    case "native_finish_reason":
      return assert.equal(reply.raw.nativeFinishReason, value);
    case "provider":
      return assert.equal(reply.route?.provider, value);
    case "tool_calls": {
      const calls = reply.toolCalls.map((call) => ({ name: call.name, arguments: call.arguments }));
      return assert.deepEqual(calls, value);
    }
    case "texts_at_least":
      return assert(texts(seen).length >= Number(value));
    case "first_event":
      return assert.equal(snake(seen.events[0]?.event.case ?? ""), value);
    case "last_event":
      return assert.equal(snake(seen.events.at(-1)?.event.case ?? ""), value);
    case "sequences": {
      const numbers = seen.events.filter(({ event }) => event.case !== "heartbeat").map(({ sequence }) => sequence);
      assert.deepEqual(numbers, [...new Set(numbers)].sort((a, b) => a - b));
      return assert.equal(numbers[0], 1);
    }
    case "vectors":
      return assert.equal(seen.vectors.length, value);
    case "dimensions":
      return assert.deepEqual([...new Set(seen.vectors.map((vector) => vector.length))], [value]);
    case "equal": {
      const [one, other] = value as [number, number];
      return assert.deepEqual(seen.vectors[one], seen.vectors[other]);
    }
    case "contains":
      return assert.deepEqual((value as string[]).filter((id) => !seen.models.includes(id)), []);
    case "within":
      return assert(seen.took < Number(value), `it took ${seen.took} s`);
    default:
      assert.fail(`the table expects ${name}, which is not known here`);
  }
}

function checkError(error: GatewayError, wanted: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(wanted)) {
    switch (name) {
      case "kind":
        assert.equal(error.constructor.name, value, error.stack);
        assert.equal(error.name, value);
        break;
      case "code":
        assert.equal(snake(Code[error.code]).slice(1).toUpperCase().replace("CANCELED", "CANCELLED"), value);
        break;
      case "reason":
        assert.equal(error.reason, value);
        break;
      case "retryable":
        assert.equal(error.retryable, value);
        break;
      case "retry_after":
        assert.equal(error.retryAfter, value);
        break;
      case "violations":
        assert.deepEqual(error.violations.map(({ field }) => field), value);
        break;
      case "has_request_id":
        assert.equal(error.requestId !== "", value);
        break;
      default:
        assert.fail(`the table expects error.${name}, which is not known here`);
    }
  }
}
