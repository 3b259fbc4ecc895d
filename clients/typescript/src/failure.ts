/** What every failed call has; the classes of `reasons.ts` are made of it. */

import type { Code } from "@connectrpc/connect";

import type { ProviderError, ResponseFailure } from "./gen/parley/v1/error_pb.js";

/** Anything that this SDK throws on purpose, apart from misuse (TypeError, RangeError). */
export class ParleyError extends Error {
  override readonly name: string = "ParleyError";
}

/** The model's text or tool arguments are not what was asked for. */
export class InvalidOutput extends ParleyError {
  override readonly name: string = "InvalidOutput";
}

/** One thing wrong with a request: the proto path of the field, and what is wrong. */
export interface Violation {
  readonly field: string;
  readonly description: string;
  readonly reason: string;
}

/** What came with a status. */
export interface Facts {
  readonly code: Code;
  readonly reason: string;
  readonly message: string;
  readonly retryable: boolean;
  /** Seconds to wait at least, where the gateway or the provider said so. */
  readonly retryAfter?: number | undefined;
  /** What the gateway's operator needs to find the call in logs and traces. */
  readonly requestId: string;
  readonly violations: readonly Violation[];
  readonly providerError?: ProviderError | undefined;
  /** How often the gateway tried, where it says so. */
  readonly attempts?: number | undefined;
  /** How far a stream had come. */
  readonly failure?: ResponseFailure | undefined;
  /** Every dynamic piece of the message, for programs. */
  readonly facts: Readonly<Record<string, string>>;
  readonly cause?: unknown;
}

/** The call failed. Errors of a known reason are of a class of their own, such as `RateLimited`. */
export class GatewayError extends ParleyError {
  override readonly name: string = "GatewayError";
  readonly code: Code;
  /** In UPPER_SNAKE_CASE; what programs decide by. */
  readonly reason: string;
  /** Whether the same call may do better in a moment. */
  readonly retryable: boolean;
  readonly retryAfter: number | undefined;
  readonly requestId: string;
  readonly violations: readonly Violation[];
  readonly providerError: ProviderError | undefined;
  readonly attempts: number | undefined;
  readonly failure: ResponseFailure | undefined;
  readonly facts: Readonly<Record<string, string>>;

  constructor(facts: Facts) {
    super(text(facts), { cause: facts.cause });
    this.code = facts.code;
    this.reason = facts.reason;
    this.retryable = facts.retryable;
    this.retryAfter = facts.retryAfter;
    this.requestId = facts.requestId;
    this.violations = facts.violations;
    this.providerError = facts.providerError;
    this.attempts = facts.attempts;
    this.failure = facts.failure;
    this.facts = facts.facts;
  }
}

function text(facts: Facts): string {
  const notes: string[] = [];
  if ((facts.attempts ?? 0) > 1) notes.push(`attempts: ${facts.attempts}`);
  if (facts.retryAfter !== undefined) notes.push(`try again in ${facts.retryAfter} s`);
  if (facts.requestId) notes.push(`request ${facts.requestId}`);
  const lines = [`${facts.reason}: ${facts.message}${notes.length ? ` (${notes.join(", ")})` : ""}`];
  for (const { field, description } of facts.violations) {
    if (!facts.message.includes(description)) lines.push(`  ${field}: ${description}`);
  }
  return lines.join("\n");
}
