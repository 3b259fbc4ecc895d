/** When a stream that broke is taken up again, and how long that waits: no clock, no I/O. */

import {
  ConnectionFailed,
  type GatewayError,
  ResponseNotFound,
  ResumeWindowExpired,
  ShuttingDown,
  StateUnavailable,
  Truncated,
} from "./errors.js";
import type { StreamChatResponse } from "./v1.js";

const tries = 6;
const first = 50;
const longest = 2000;
const takenUp = [ConnectionFailed, ShuttingDown, StateUnavailable, Truncated];

/**
 * How far a stream has come, and whether it may go on after a failure. Only what says nothing of the answer itself is
 * taken up: a connection that broke, a gateway that goes away or cannot look up what another one generates. Six tries
 * without a single event in between are enough.
 */
export class Resumption {
  #tries = 0;
  #broken: GatewayError | undefined;

  constructor(
    public responseId = "",
    public last = 0,
    private readonly chance: () => number = Math.random,
  ) {}

  /** An event has arrived. */
  seen({ sequence, event }: StreamChatResponse): void {
    this.#tries = 0;
    this.last = Math.max(this.last, sequence); // heartbeats have 0
    if (event.case === "started" && event.value.resumeExpireTime) this.responseId = event.value.responseId;
  }

  /** Milliseconds until the stream is to be asked for again after `error`; undefined: it is over. */
  wait(error: GatewayError): number | undefined {
    const taken = takenUp.some((kind) => error instanceof kind);
    if (!this.responseId || !taken) return undefined;
    if (this.#tries === 0) this.#broken = error;
    this.#tries += 1;
    if (this.#tries > tries) return undefined;
    return Math.min(first * 2 ** (this.#tries - 1), longest) * (0.5 + this.chance() / 2);
  }

  /** What to tell of `error`: where the answer is gone, what broke the stream says more than that. */
  told(error: GatewayError): GatewayError {
    const gone = error instanceof ResponseNotFound || error instanceof ResumeWindowExpired;
    return this.#tries && this.#broken && gone ? this.#broken : error;
  }
}
