/** What travels, and what is asked: seen by a server in the same process. */

import assert from "node:assert/strict";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";

import { context, propagation, trace, TraceFlags } from "@opentelemetry/api";
import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { Client, v1 } from "../src/index.js";
import { chatRequest } from "../src/request.js";

const seen: { headers: Headers; cancelled: string[] } = { headers: new Headers(), cancelled: [] };
let server: http2.Http2Server;
let address = "";

before(async () => {
  const handler = connectNodeAdapter({
    routes: (router) =>
      router.service(v1.GatewayService, {
        chat: (_request: v1.ChatRequest, { requestHeader }: HandlerContext) => {
          seen.headers = requestHeader;
          return create(v1.ChatResponseSchema);
        },
        async *streamChat(_request: v1.StreamChatRequest, { signal }: HandlerContext) {
          const value = create(v1.ResponseStartedSchema, { responseId: "resp_1", resumeExpireTime: { seconds: 1n } });
          yield create(v1.StreamChatResponseSchema, { sequence: 1, event: { case: "started", value } });
          await new Promise((resolve) => signal.addEventListener("abort", resolve));
        },
        cancelChat: ({ responseId }: v1.CancelChatRequest) => {
          seen.cancelled.push(responseId);
          return create(v1.CancelChatResponseSchema);
        },
      }),
  });
  server = http2.createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});

after(() => {
  server.close();
});

test("token, headers and trace travel with every call", async () => {
  propagation.setGlobalPropagator({
    inject: (at, carrier, setter) => {
      const span = trace.getSpanContext(at);
      if (span) setter.set(carrier, "traceparent", `00-${span.traceId}-${span.spanId}-01`);
    },
    extract: (at) => at,
    fields: () => ["traceparent"],
  });
  const span = { traceId: "01".repeat(16), spanId: "02".repeat(8), traceFlags: TraceFlags.SAMPLED };
  const client = new Client(address, { token: "secret", headers: { "x-team": "red" } });
  const spanned = trace.setSpanContext(context.active(), span);
  // Without a context manager nothing is ever active, so the context is made so for the time of one call.
  context.setGlobalContextManager({
    active: () => spanned,
    with: (_at, call, self, ...rest) => call.apply(self as never, rest),
    bind: (_at, target) => target,
    enable() {
      return this;
    },
    disable() {
      return this;
    },
  });
  await client.chat("mock/echo", "hello", { headers: { "x-parley-priority": "2" } });
  client.close();
  const sent = Object.fromEntries(["authorization", "x-team", "x-parley-priority", "traceparent"].map((n) => [n, seen.headers.get(n)]));
  assert.deepEqual(sent, {
    authorization: "Bearer secret",
    "x-team": "red",
    "x-parley-priority": "2",
    traceparent: `00-${"01".repeat(16)}-${"02".repeat(8)}-01`,
  });
  assert(Number.parseInt(seen.headers.get("grpc-timeout") ?? "0") > 0);
});

async function left(options: { resume?: boolean; resumable?: boolean }): Promise<string[]> {
  seen.cancelled = [];
  const client = new Client(address);
  for await (const _event of client.stream("mock/echo", "hello", options).events()) break;
  const due = performance.now() + (options.resume && !options.resumable ? 5000 : 300);
  while (!seen.cancelled.length && performance.now() < due) await new Promise((resolve) => setTimeout(resolve, 10));
  client.close();
  return seen.cancelled;
}

test("leaving a stream that resumes by itself stops the work", async () => {
  assert.deepEqual(await left({ resume: true }), ["resp_1"]);
});

test("leaving one that outlasts its reader does not", async () => {
  assert.deepEqual(await left({ resume: true, resumable: true }), []);
});

test("a signal ends a call", async () => {
  const client = new Client(address);
  const abort = new AbortController();
  const stream = client.stream("mock/echo", "hello", { signal: abort.signal });
  setTimeout(() => abort.abort(), 50);
  await assert.rejects(stream.reply(), { name: "Cancelled" });
  client.close();
});

test("options say what they mean", () => {
  const request = chatRequest("mock/echo", ["hello"], {
    temperature: 0.5,
    maxOutputTokens: 7,
    stop: ["a", "b"],
    seed: 3,
    fallbacks: ["x/y", "x/z"],
    idempotencyKey: "k",
    tools: [{ name: "f", parameters: { type: "object" }, strict: true }],
    schema: { name: "out", schema: { type: "object" } },
    request: { endUserId: "u" },
  });
  assert.equal(request.sampling?.temperature, 0.5);
  assert.equal(request.sampling.maxOutputTokens, 7);
  assert.deepEqual(request.sampling.stopSequences, ["a", "b"]);
  assert.equal(request.sampling.seed, 3n);
  assert.equal(request.routing?.fallbacks[1]?.model, "x/z");
  assert.deepEqual([request.idempotencyKey, request.endUserId], ["k", "u"]);
  const [tool] = request.tools;
  assert(tool?.kind.case === "function");
  assert.deepEqual([tool.kind.value.parametersJsonSchema, tool.kind.value.strict], ['{"type":"object"}', true]);
  assert(request.output?.format.case === "jsonSchema");
  assert.equal(request.output.format.value.jsonSchema, '{"type":"object"}');
});
