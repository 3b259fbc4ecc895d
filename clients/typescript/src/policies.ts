// Written from clients/python/src/parley/channel.py by `make gen`; do not edit.

import type { RetryPolicy } from "./retry.js";

export const forModels: RetryPolicy = {
  maxAttempts: 3,
  initialBackoff: 250,
  maxBackoff: 4000,
  backoffMultiplier: 2,
};

export const forLookups: RetryPolicy = {
  maxAttempts: 4,
  initialBackoff: 100,
  maxBackoff: 2000,
  backoffMultiplier: 2,
};
