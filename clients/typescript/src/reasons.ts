// Written from clients/python/src/parley/errors.py by `make gen`; do not edit.

import { GatewayError } from "./failure.js";

/** The request breaks the contract, or the provider says it does. */
export class InvalidRequest extends GatewayError {
  override readonly name: string = "InvalidRequest";
}

/** The chosen model cannot meet a wish, and the request asked to be refused then. */
export class UnsupportedParameter extends InvalidRequest {
  override readonly name: string = "UnsupportedParameter";
}

/** The model or its provider does not do this operation. */
export class OperationUnsupported extends InvalidRequest {
  override readonly name: string = "OperationUnsupported";
}

/** The prompt, or prompt and asked output, do not fit the context window. */
export class ContextLengthExceeded extends InvalidRequest {
  override readonly name: string = "ContextLengthExceeded";
}

/** The provider found the body too large. */
export class RequestTooLarge extends InvalidRequest {
  override readonly name: string = "RequestTooLarge";
}

/** You have used the idempotency key for another request. */
export class IdempotencyKeyReused extends InvalidRequest {
  override readonly name: string = "IdempotencyKeyReused";
}

/** A page token that this server did not give, or gave for other arguments. */
export class PageTokenInvalid extends InvalidRequest {
  override readonly name: string = "PageTokenInvalid";
}

/** The gateway does not know the key that you show. */
export class Unauthenticated extends GatewayError {
  override readonly name: string = "Unauthenticated";
}

/** The gateway asks for a key, and you show none: pass token, or set PARLEY_TOKEN. */
export class CredentialsMissing extends Unauthenticated {
  override readonly name: string = "CredentialsMissing";
}

/** Nothing goes by that name; client.models() lists what does. */
export class ModelNotFound extends GatewayError {
  override readonly name: string = "ModelNotFound";
}

/** You want an answer from the gateway's cache only, and it is not there. No provider was asked. */
export class CacheMiss extends GatewayError {
  override readonly name: string = "CacheMiss";
}

/** You have no resumable response with that ID. */
export class ResponseNotFound extends GatewayError {
  override readonly name: string = "ResponseNotFound";
}

/** The response was there, but what you ask for is no longer kept. */
export class ResumeWindowExpired extends GatewayError {
  override readonly name: string = "ResumeWindowExpired";
}

/** The response has not come as far as you resume it from. */
export class SequenceOutOfRange extends GatewayError {
  override readonly name: string = "SequenceOutOfRange";
}

/** CancelChat stopped the response. */
export class ResponseCancelled extends GatewayError {
  override readonly name: string = "ResponseCancelled";
}

/** You read the stream too slowly for the gateway to wait, or to keep what you have not read. */
export class SlowConsumer extends GatewayError {
  override readonly name: string = "SlowConsumer";
}

/** The provider refuses the gateway's own key: its operator must act. */
export class CredentialsRejected extends GatewayError {
  override readonly name: string = "CredentialsRejected";
}

/** A safety filter refused the input. (Output that is filtered is not an error but a finish reason.) */
export class PromptBlocked extends GatewayError {
  override readonly name: string = "PromptBlocked";
}

/** The provider's rate limit; waiting helps. */
export class RateLimited extends GatewayError {
  override readonly name: string = "RateLimited";
}

/** A limit that the gateway sets you, or your tenant, is used up; waiting retry_after seconds helps. */
export class CallerRateLimited extends RateLimited {
  override readonly name: string = "CallerRateLimited";
}

/** The provider account has no money or quota left; waiting does not help. */
export class QuotaExhausted extends GatewayError {
  override readonly name: string = "QuotaExhausted";
}

/** The call should cost more than routing.max_cost_nano_usd allows. Nobody was asked. */
export class CostLimitExceeded extends GatewayError {
  override readonly name: string = "CostLimitExceeded";
}

/** A call with the same idempotency key is under way, and is too long to be joined: ask again when it is over. */
export class IdempotentRequestInProgress extends GatewayError {
  override readonly name: string = "IdempotentRequestInProgress";
}

/** The provider failed or could not be reached. */
export class Unavailable extends GatewayError {
  override readonly name: string = "Unavailable";
}

/** The provider says that it has too much to do. */
export class Overloaded extends Unavailable {
  override readonly name: string = "Overloaded";
}

/** The provider took longer than one attempt may. */
export class AttemptTimeout extends Unavailable {
  override readonly name: string = "AttemptTimeout";
}

/** The provider has failed too often; the gateway does not ask it before retry_after seconds have passed. */
export class CircuitOpen extends Unavailable {
  override readonly name: string = "CircuitOpen";
}

/** The provider ended or broke before its own end marker. */
export class StreamInterrupted extends Unavailable {
  override readonly name: string = "StreamInterrupted";
}

/** The stream ended with OK but without its last event, which a gateway never does: something between cut it. */
export class Truncated extends StreamInterrupted {
  override readonly name: string = "Truncated";
}

/** No gateway answered at the address, or the connection to it broke. */
export class ConnectionFailed extends Unavailable {
  override readonly name: string = "ConnectionFailed";
}

/** The provider answered something that is not its protocol. */
export class ProtocolError extends GatewayError {
  override readonly name: string = "ProtocolError";
}

/** The time that the call had is over: its timeout, or the gateway's own limit. */
export class DeadlineExceeded extends GatewayError {
  override readonly name: string = "DeadlineExceeded";
}

/** Too many calls wait for their turn in the gateway; trying again after a while helps. */
export class GatewayOverloaded extends GatewayError {
  override readonly name: string = "GatewayOverloaded";
}

/** What the gateways share cannot be asked for now, and the call needs it; try again in a moment. */
export class StateUnavailable extends GatewayError {
  override readonly name: string = "StateUnavailable";
}

/** This gateway is going away; the next call goes to another one, so trying again helps. */
export class ShuttingDown extends GatewayError {
  override readonly name: string = "ShuttingDown";
}

/** An unexpected failure inside the gateway: its log has more under request_id. */
export class Bug extends GatewayError {
  override readonly name: string = "Bug";
}

/** A message is over the limit of this channel or of the server's; raised by gRPC before any handler sees it. */
export class MessageTooLarge extends GatewayError {
  override readonly name: string = "MessageTooLarge";
}

/** The call was cancelled, by stream.cancel() or by closing the client. */
export class Cancelled extends GatewayError {
  override readonly name: string = "Cancelled";
}
