import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";

import { fromRpc, truncated } from "../src/errors.js";
import { ErrorInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import {
  Cancelled,
  Client,
  ConnectionFailed,
  GatewayError,
  InvalidRequest,
  RateLimited,
  ResponseNotFound,
  StreamInterrupted,
  Truncated,
  Unavailable,
  v1,
} from "../src/index.js";
import { Resumption } from "../src/resumption.js";
import { retried, waitBefore } from "../src/retry.js";

const policy = { maxAttempts: 3, initialBackoff: 100, maxBackoff: 150, backoffMultiplier: 2 };

function told(code: Code, reason: string): GatewayError {
  const value = create(ErrorInfoSchema, { reason, domain: "parley", metadata: { attempts: "3" } });
  const details = [{ desc: ErrorInfoSchema, value }];
  return fromRpc(new ConnectError("no", code, { "x-request-id": "req_1" }, details), "gw:1");
}

test("an error is also all more general ones", () => {
  const error = told(Code.Unavailable, "STREAM_INTERRUPTED");
  assert(error instanceof StreamInterrupted && error instanceof Unavailable && !(error instanceof RateLimited));
  assert.equal(error.message, "STREAM_INTERRUPTED: no (attempts: 3, request req_1)");
  assert.equal(error.retryable, true);
});

test("a reason with another code is not taken", () => {
  const error = told(Code.InvalidArgument, "PROVIDER_RATE_LIMITED");
  assert(error instanceof InvalidRequest);
  assert.equal(error.reason, "PROVIDER_RATE_LIMITED");
});

test("what no gateway said", () => {
  const refused = fromRpc(new ConnectError("connect ECONNREFUSED 127.0.0.1:1", Code.Unavailable), "gw:1");
  assert(refused instanceof ConnectionFailed && refused.message.includes("is it running?"));
  const reset = new ConnectError("http/2 stream closed with error code CANCEL (0x8)", Code.Canceled);
  assert(fromRpc(reset, "gw:1") instanceof ConnectionFailed);
  assert(fromRpc(reset, "gw:1", { aborted: true }) instanceof Cancelled);
  assert(truncated() instanceof Truncated);
  assert.equal(fromRpc(new ConnectError("x", Code.PermissionDenied), "gw:1").reason, "PERMISSION_DENIED");
});

test("only calls that could not reach a gateway are made again", () => {
  const failed = (code: Code, pushback?: string): ConnectError =>
    new ConnectError("x", code, pushback === undefined ? {} : { "grpc-retry-pushback-ms": pushback });
  const wait = (error: unknown, attempt = 1) => waitBefore(error, attempt, policy, () => 0.5);
  assert.equal(wait(failed(Code.Unavailable)), 100);
  assert.equal(wait(failed(Code.Unavailable), 2), 150);
  assert.equal(wait(failed(Code.Unavailable, "40")), 40);
  assert.equal(wait(failed(Code.Unavailable, "-1")), undefined);
  assert.equal(wait(failed(Code.Unavailable, "soon")), undefined);
  assert.equal(wait(failed(Code.ResourceExhausted)), undefined);
  assert.equal(wait(new TypeError("x")), undefined);
});

test("not for ever, and not after an abort", async () => {
  let calls = 0;
  const call = async (): Promise<never> => {
    calls += 1;
    throw new ConnectError("x", Code.Unavailable);
  };
  const quick = { ...policy, initialBackoff: 1, maxBackoff: 1 };
  await assert.rejects(retried(call, quick, new AbortController().signal));
  assert.equal(calls, 3);
  await assert.rejects(retried(call, policy, AbortSignal.abort()));
  assert.equal(calls, 4);
});

test("a stream is taken up again, longer each time and not for ever", () => {
  const at = new Resumption("", 0, () => 1);
  const broken = fromRpc(new ConnectError("reset", Code.Unavailable), "gw:1");
  assert.equal(at.wait(broken), undefined, "it has not begun");
  const value = create(v1.ResponseStartedSchema, { responseId: "resp_1", resumeExpireTime: { seconds: 2_000_000_000n } });
  at.seen(create(v1.StreamChatResponseSchema, { sequence: 1, event: { case: "started", value } }));
  assert.deepEqual([1, 2, 3, 4, 5, 6, 7].map(() => at.wait(broken)), [50, 100, 200, 400, 800, 1600, undefined]);
  const gone = told(Code.NotFound, "RESPONSE_NOT_FOUND");
  assert(gone instanceof ResponseNotFound);
  assert.equal(at.told(gone), broken, "what broke the stream says more");
  at.seen(create(v1.StreamChatResponseSchema, { sequence: 7 }));
  assert.deepEqual([at.wait(broken), at.last], [50, 7]);
  assert.equal(at.wait(gone), undefined, "this is about the answer itself");
});

test("a token does not travel in clear", () => {
  assert.throws(() => new Client("gw.example.com:443", { token: "secret" }), /in clear/);
  assert.throws(() => new Client("https://gw.example.com"), /host:port/);
  for (const address of ["localhost:1", "127.0.0.1:1", "[::1]:1"]) new Client(address, { token: "secret" }).close();
  new Client("gw.example.com:443", { token: "secret", tls: true }).close();
});
