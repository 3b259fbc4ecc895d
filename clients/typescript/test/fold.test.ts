import assert from "node:assert/strict";
import { test } from "node:test";

import { create } from "@bufbuild/protobuf";

import { Fold, fold, Reply, v1 } from "../src/index.js";

type Event = v1.StreamChatResponse["event"];

const event = (event: Event, sequence = 0): v1.StreamChatResponse =>
  create(v1.StreamChatResponseSchema, { sequence, event });
const text = (value: string): v1.Part => create(v1.PartSchema, { kind: { case: "text", value } });
const started = (partIndex: number, part = text("")): v1.StreamChatResponse =>
  event({ case: "partStarted", value: create(v1.PartStartedSchema, { partIndex, part }) });
const delta = (partIndex: number, value: string): v1.StreamChatResponse =>
  event({ case: "partDelta", value: create(v1.PartDeltaSchema, { partIndex, delta: { case: "text", value } }) });

const said = (...events: v1.StreamChatResponse[]): Reply => new Reply(fold(events));

test("parts are in the order of their indexes", () => {
  assert.equal(said(started(0), started(1), delta(1, "world"), delta(0, "hello ")).text, "hello world");
  assert.equal(said(started(1), delta(1, "world"), started(0), delta(0, "hello ")).text, "hello world");
});

test("a delta without its start is kept", () => {
  assert.equal(said(delta(0, "hel"), delta(0, "lo")).text, "hello");
});

test("another attempt takes parts back", () => {
  const value = create(v1.FallbackStartedSchema, { firstValidPartIndex: 1 });
  const again = event({ case: "fallbackStarted", value });
  assert.equal(said(started(0), delta(0, "no"), again, started(1), delta(1, "yes")).text, "yes");
});

test("a part of an unknown kind keeps its place", () => {
  const reply = said(started(0), delta(0, "a"), started(1, create(v1.PartSchema)), started(2), delta(2, "b"));
  assert.equal(reply.text, "ab");
  assert.equal(reply.message.parts.length, 3);
});

test("the response so far is a copy", () => {
  const state = new Fold();
  state.feed(started(0));
  state.feed(delta(0, "a"));
  const before = new Reply(state.response());
  state.feed(delta(0, "b"));
  const value = create(v1.ResponseCompletedSchema, { finishReason: v1.FinishReason.STOP });
  state.feed(event({ case: "completed", value }));
  assert.deepEqual([before.text, before.finishReason], ["a", "unspecified"]);
  const whole = new Reply(state.response());
  assert.deepEqual([whole.text, whole.finishReason, state.complete], ["ab", "stop", true]);
});
