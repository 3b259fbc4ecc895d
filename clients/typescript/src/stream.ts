/** An answer that is still arriving. */

import { setTimeout as sleep } from "node:timers/promises";

import { Code, ConnectError } from "@connectrpc/connect";

import { fromRpc, type GatewayError, truncated } from "./errors.js";
import { Fold } from "./fold.js";
import { Reply } from "./reply.js";
import type { Resumption } from "./resumption.js";
import type { StreamChatResponse } from "./v1.js";

/** What a stream needs of its client. */
export interface Source {
  readonly address: string;
  /** The call that brings the events, from the beginning. */
  begin(): Promise<AsyncIterator<StreamChatResponse>>;
  /** The call that brings those after a sequence; undefined where the stream does not resume by itself. */
  again?: (responseId: string, after: number) => AsyncIterator<StreamChatResponse>;
  /** Have the generation stopped, unless it is to go on without a reader. */
  stop(responseId: string): void;
  readonly abort: AbortController;
}

/**
 * One answer, seen through lenses: iterate for the text, over `events()` for everything; `reply()` is the whole.
 *
 * All lenses read the same events: what one has taken the others do not see again, but `reply()` and `partial` know all of
 * them. Leaving a loop early ends the call, and the work of the provider with it. A stream that breaks throws a typed
 * error; `partial` keeps what has arrived. One reader at a time; others may call `cancel()`.
 */
export class Stream implements AsyncIterable<string>, AsyncDisposable {
  readonly #fold = new Fold();
  #incoming: AsyncIterator<StreamChatResponse> | undefined;
  #begun = false;
  #over = false;
  #error: GatewayError | undefined;

  constructor(
    private readonly source: Source,
    private readonly at: Resumption,
  ) {}

  /** The text as it comes, without reasoning and refusals. */
  async *[Symbol.asyncIterator](): AsyncGenerator<string, void, void> {
    for await (const { event } of this.events()) {
      if (event.case !== "partDelta" || event.value.delta.case !== "text") continue;
      if (this.#fold.kind(event.value.partIndex) === "text") yield event.value.delta.value; // refusals have text too
    }
  }

  /** Everything as it comes, heartbeats too. Skip kinds that you do not know. */
  async *events(): AsyncGenerator<StreamChatResponse, void, void> {
    let ended = false;
    try {
      for (let event = await this.#next(); event; event = await this.#next()) yield event;
      ended = true;
    } finally {
      if (!ended) this.cancel();
    }
  }

  /** The whole answer: reads what has not been read yet. */
  async reply(): Promise<Reply> {
    while (await this.#next());
    return this.partial;
  }

  /** What has arrived so far; its `finishReason` is "unspecified" until that is everything. */
  get partial(): Reply {
    return new Reply(this.#fold.response());
  }

  /** The ID by which a resumable answer can be taken up again; empty before its first event, or if it cannot. */
  get responseId(): string {
    return this.at.responseId;
  }

  /** Number of the newest event that has arrived; 0 before the first. */
  get lastSequence(): number {
    return this.at.last;
  }

  /** End the call now, and the work behind it. Whoever is reading gets `Cancelled`. */
  cancel(): void {
    if (this.source.abort.signal.aborted) return;
    this.source.abort.abort();
    this.#incoming?.next().catch(() => {}); // lets go of the call's timer, also where nobody reads on
    if (this.responseId && !this.#fold.complete) this.source.stop(this.responseId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cancel();
  }

  async #next(): Promise<StreamChatResponse | undefined> {
    while (!this.#error && !this.#over) {
      const { signal } = this.source.abort;
      try {
        this.#incoming ??= await this.source.begin();
        const { done, value } = await this.#incoming.next();
        if (!done) return this.#seen(value);
        if (this.#fold.complete) this.#over = true;
        else if (signal.aborted) throw new ConnectError("cancelled", Code.Canceled);
        else await this.#takeUp(truncated());
      } catch (cause) {
        if (cause === this.#error) throw cause;
        const { aborted } = signal;
        await this.#takeUp(fromRpc(cause, this.source.address, { begun: this.#begun, aborted }));
      }
    }
    if (this.#error) throw this.#error;
    return undefined;
  }

  #seen(event: StreamChatResponse): StreamChatResponse {
    this.#begun = true;
    this.at.seen(event);
    this.#fold.feed(event);
    return event;
  }

  /** Ask for the rest after `error`; throws it where that is not to be done. */
  async #takeUp(error: GatewayError): Promise<void> {
    const wait = this.source.again && this.at.wait(error);
    const { signal } = this.source.abort;
    if (this.source.again && wait !== undefined && (await waited(wait, signal))) {
      this.#incoming = this.source.again(this.responseId, this.lastSequence);
      return;
    }
    this.#error = this.at.told(error);
    throw this.#error;
  }
}

/** Wait; whether nobody has aborted in the meantime. */
async function waited(milliseconds: number, signal: AbortSignal): Promise<boolean> {
  try {
    await sleep(milliseconds, undefined, { signal });
    return true;
  } catch {
    return false;
  }
}
