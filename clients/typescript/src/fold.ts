/** From the events of a stream to the response they describe. */

import { clone, create } from "@bufbuild/protobuf";

import * as v1 from "./v1.js";

interface OpenPart {
  part: v1.Part;
  readonly texts: string[];
  readonly citations: v1.Citation[];
}

/**
 * Puts a response together: `feed` every event, ask for `response()` at any time. Before `completed` it is what there is
 * so far, without finish reason; `complete` is false.
 */
export class Fold {
  complete = false;
  readonly #head = create(v1.ChatResponseSchema);
  readonly #parts = new Map<number, OpenPart>();
  #logprobs: v1.TokenLogprob[] = [];

  /** Take in the next event. Kinds that change nothing (heartbeats, unknown ones) are skipped. */
  feed({ event }: v1.StreamChatResponse): void {
    switch (event.case) {
      case "partDelta":
        this.#delta(event.value);
        break;
      case "partStarted":
        this.#parts.set(event.value.partIndex, opened(event.value.part));
        break;
      case "partCompleted":
        this.#open(event.value.partIndex, event.value.part).part = event.value.part ?? create(v1.PartSchema);
        break;
      case "fallbackStarted":
        this.#void(event.value.firstValidPartIndex);
        break;
      case "usage":
        this.#head.usage = event.value;
        break;
      case "warning":
        this.#head.warnings.push(event.value);
        break;
      case "started":
        this.#start(event.value);
        break;
      case "completed":
        this.#end(event.value);
        break;
    }
  }

  /** The kind of a part that has begun; undefined if it has none that is known here. */
  kind(index: number): v1.Part["kind"]["case"] {
    return this.#parts.get(index)?.part.kind.case;
  }

  /** The response so far. */
  response(): v1.ChatResponse {
    const response = clone(v1.ChatResponseSchema, this.#head);
    const parts = [...this.#parts].sort(([a], [b]) => a - b).map(([, part]) => whole(part));
    response.message = create(v1.MessageSchema, { role: v1.Role.ASSISTANT, parts });
    response.logprobs = [...this.#logprobs];
    return response;
  }

  #open(index: number, part: v1.Part | undefined): OpenPart {
    let found = this.#parts.get(index);
    if (!found) this.#parts.set(index, (found = opened(part)));
    return found;
  }

  #delta(delta: v1.PartDelta): void {
    const part = this.#open(delta.partIndex, implied(delta)); // a sender that forgot partStarted costs the kind only
    switch (delta.delta.case) {
      case "text":
      case "reasoning":
      case "argumentsJson":
        part.texts.push(delta.delta.value);
        break;
      case "citation":
        part.citations.push(delta.delta.value);
        break;
    }
    this.#logprobs.push(...delta.logprobs);
  }

  /** Forget the parts below an index: another attempt says anew what they said. */
  #void(below: number): void {
    if (below <= 0) return;
    for (const index of [...this.#parts.keys()]) if (index < below) this.#parts.delete(index);
    this.#logprobs = [];
  }

  #start(started: v1.ResponseStarted): void {
    this.#head.id = started.responseId;
    this.#head.model = started.model;
    if (started.createTime) this.#head.createTime = started.createTime;
    if (started.provider || started.providerModel) {
      this.#head.route = create(v1.RouteInfoSchema, { provider: started.provider, model: started.providerModel });
    }
  }

  #end(completed: v1.ResponseCompleted): void {
    this.complete = true;
    this.#head.finishReason = completed.finishReason;
    this.#head.nativeFinishReason = completed.nativeFinishReason;
    this.#head.stopSequence = completed.stopSequence;
    if (completed.usage) this.#head.usage = completed.usage;
    if (completed.route) this.#head.route = completed.route;
    this.#head.warnings = completed.warnings;
  }
}

/** The response that `events` describe. */
export function fold(events: Iterable<v1.StreamChatResponse>): v1.ChatResponse {
  const state = new Fold();
  for (const event of events) state.feed(event);
  return state.response();
}

const opened = (part: v1.Part | undefined): OpenPart => ({
  part: part ?? create(v1.PartSchema),
  texts: [],
  citations: [],
});

function whole({ part, texts, citations }: OpenPart): v1.Part {
  const made = clone(v1.PartSchema, part);
  const text = texts.join("");
  switch (made.kind.case) {
    case "text":
      made.kind.value = text;
      break;
    case "refusal":
    case "reasoning":
      made.kind.value.text = text;
      break;
    case "toolCall":
      made.kind.value.argumentsJson = text;
      break;
  }
  made.citations.push(...citations);
  return made;
}

/** An empty part of the kind that `delta` belongs to. */
function implied({ delta }: v1.PartDelta): v1.Part {
  switch (delta.case) {
    case "text":
    case "citation":
      return create(v1.PartSchema, { kind: { case: "text", value: "" } });
    case "reasoning":
      return create(v1.PartSchema, { kind: { case: "reasoning", value: create(v1.ReasoningPartSchema) } });
    case "argumentsJson":
      return create(v1.PartSchema, { kind: { case: "toolCall", value: create(v1.ToolCallSchema) } });
    default:
      return create(v1.PartSchema);
  }
}
