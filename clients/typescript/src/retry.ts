/**
 * Which calls are made again by the client itself: those that could not reach a gateway. What a gateway gave up on is not:
 * it has made its own attempts, and says so with a pushback that is honoured here as gRPC's own clients honour it.
 */

import { setTimeout as sleep } from "node:timers/promises";

import { Code, ConnectError } from "@connectrpc/connect";

/** As in the gRPC service config of the other clients. */
export interface RetryPolicy {
  readonly maxAttempts: number;
  /** Milliseconds. */
  readonly initialBackoff: number;
  readonly maxBackoff: number;
  readonly backoffMultiplier: number;
}

/** `call()`, and again while it fails as above. `signal` ends the waiting. */
export async function retried<T>(
  call: () => Promise<T>,
  policy: RetryPolicy,
  signal: AbortSignal,
  chance: () => number = Math.random,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await call();
    } catch (error) {
      const wait = attempt < policy.maxAttempts ? waitBefore(error, attempt, policy, chance) : undefined;
      if (wait === undefined || signal.aborted) throw error;
      try {
        await sleep(wait, undefined, { signal });
      } catch {
        throw error;
      }
    }
  }
}

/** Milliseconds until the next attempt; undefined: there is none. */
export function waitBefore(
  error: unknown,
  attempt: number,
  policy: RetryPolicy,
  chance: () => number,
): number | undefined {
  if (!(error instanceof ConnectError) || error.code !== Code.Unavailable) return undefined;
  const pushback = error.metadata.get("grpc-retry-pushback-ms");
  if (pushback !== null) {
    const wait = Number(pushback);
    return Number.isInteger(wait) && wait >= 0 ? wait : undefined;
  }
  const longest = Math.min(policy.initialBackoff * policy.backoffMultiplier ** (attempt - 1), policy.maxBackoff);
  return longest * (0.8 + 0.4 * chance());
}
