// Written from clients/python/src/parley/errors.py by `make gen`; do not edit.

import { Code } from "@connectrpc/connect";

import { type Facts, GatewayError } from "./failure.js";
import * as reasons from "./reasons.js";

/** By reason: its code, whether the same call may do better in a moment, its class. */
export const byReason: Record<string, readonly [Code, boolean, new (facts: Facts) => GatewayError]> = {
  INVALID_REQUEST: [Code.InvalidArgument, false, reasons.InvalidRequest],
  UNSUPPORTED_PARAMETER: [Code.InvalidArgument, false, reasons.UnsupportedParameter],
  OPERATION_UNSUPPORTED: [Code.InvalidArgument, false, reasons.OperationUnsupported],
  CONTEXT_LENGTH_EXCEEDED: [Code.InvalidArgument, false, reasons.ContextLengthExceeded],
  REQUEST_TOO_LARGE: [Code.InvalidArgument, false, reasons.RequestTooLarge],
  IDEMPOTENCY_KEY_REUSED: [Code.InvalidArgument, false, reasons.IdempotencyKeyReused],
  PAGE_TOKEN_INVALID: [Code.InvalidArgument, false, reasons.PageTokenInvalid],
  CREDENTIALS_INVALID: [Code.Unauthenticated, false, reasons.Unauthenticated],
  CREDENTIALS_MISSING: [Code.Unauthenticated, false, reasons.CredentialsMissing],
  MODEL_NOT_FOUND: [Code.NotFound, false, reasons.ModelNotFound],
  CACHE_MISS: [Code.NotFound, false, reasons.CacheMiss],
  RESPONSE_NOT_FOUND: [Code.NotFound, false, reasons.ResponseNotFound],
  RESUME_WINDOW_EXPIRED: [Code.FailedPrecondition, false, reasons.ResumeWindowExpired],
  SEQUENCE_OUT_OF_RANGE: [Code.OutOfRange, false, reasons.SequenceOutOfRange],
  RESPONSE_CANCELLED: [Code.Canceled, false, reasons.ResponseCancelled],
  SLOW_CONSUMER: [Code.ResourceExhausted, false, reasons.SlowConsumer],
  PROVIDER_CREDENTIALS_REJECTED: [Code.FailedPrecondition, false, reasons.CredentialsRejected],
  PROMPT_BLOCKED: [Code.FailedPrecondition, false, reasons.PromptBlocked],
  PROVIDER_RATE_LIMITED: [Code.ResourceExhausted, true, reasons.RateLimited],
  RATE_LIMITED: [Code.ResourceExhausted, true, reasons.CallerRateLimited],
  PROVIDER_QUOTA_EXHAUSTED: [Code.ResourceExhausted, false, reasons.QuotaExhausted],
  COST_LIMIT_EXCEEDED: [Code.ResourceExhausted, false, reasons.CostLimitExceeded],
  IDEMPOTENT_REQUEST_IN_PROGRESS: [Code.Aborted, true, reasons.IdempotentRequestInProgress],
  PROVIDER_UNAVAILABLE: [Code.Unavailable, true, reasons.Unavailable],
  PROVIDER_OVERLOADED: [Code.Unavailable, true, reasons.Overloaded],
  PROVIDER_TIMEOUT: [Code.Unavailable, true, reasons.AttemptTimeout],
  PROVIDER_CIRCUIT_OPEN: [Code.Unavailable, true, reasons.CircuitOpen],
  STREAM_INTERRUPTED: [Code.Unavailable, true, reasons.StreamInterrupted],
  TRUNCATED: [Code.Unavailable, true, reasons.Truncated],
  CONNECTION_FAILED: [Code.Unavailable, true, reasons.ConnectionFailed],
  PROVIDER_PROTOCOL_ERROR: [Code.Internal, true, reasons.ProtocolError],
  DEADLINE_EXCEEDED: [Code.DeadlineExceeded, false, reasons.DeadlineExceeded],
  GATEWAY_OVERLOADED: [Code.Unavailable, true, reasons.GatewayOverloaded],
  STATE_UNAVAILABLE: [Code.Unavailable, true, reasons.StateUnavailable],
  SHUTTING_DOWN: [Code.Unavailable, true, reasons.ShuttingDown],
  INTERNAL: [Code.Internal, false, reasons.Bug],
  MESSAGE_TOO_LARGE: [Code.ResourceExhausted, false, reasons.MessageTooLarge],
  CANCELLED: [Code.Canceled, false, reasons.Cancelled],
};

/** The class that is nearest to a reason that is not known, by code. */
export const nearest: Partial<Record<Code, new (facts: Facts) => GatewayError>> = {
  [Code.InvalidArgument]: reasons.InvalidRequest,
  [Code.Unavailable]: reasons.Unavailable,
  [Code.DeadlineExceeded]: reasons.DeadlineExceeded,
  [Code.Canceled]: reasons.Cancelled,
};
