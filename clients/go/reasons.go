// Code generated from clients/python/src/parley/errors.py by make gen. DO NOT EDIT.

package parley

import "google.golang.org/grpc/codes"

// InvalidRequest: The request breaks the contract, or the provider says it does.
type InvalidRequest struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *InvalidRequest) Unwrap() error { return &e.GatewayError }

// UnsupportedParameter: The chosen model cannot meet a wish, and the request asked to be refused then.
type UnsupportedParameter struct{ InvalidRequest }

// Unwrap gives the more general error, for errors.As.
func (e *UnsupportedParameter) Unwrap() error { return &e.InvalidRequest }

// OperationUnsupported: The model or its provider does not do this operation.
type OperationUnsupported struct{ InvalidRequest }

// Unwrap gives the more general error, for errors.As.
func (e *OperationUnsupported) Unwrap() error { return &e.InvalidRequest }

// ContextLengthExceeded: The prompt, or prompt and asked output, do not fit the context window.
type ContextLengthExceeded struct{ InvalidRequest }

// Unwrap gives the more general error, for errors.As.
func (e *ContextLengthExceeded) Unwrap() error { return &e.InvalidRequest }

// RequestTooLarge: The provider found the body too large.
type RequestTooLarge struct{ InvalidRequest }

// Unwrap gives the more general error, for errors.As.
func (e *RequestTooLarge) Unwrap() error { return &e.InvalidRequest }

// IdempotencyKeyReused: You have used the idempotency key for another request.
type IdempotencyKeyReused struct{ InvalidRequest }

// Unwrap gives the more general error, for errors.As.
func (e *IdempotencyKeyReused) Unwrap() error { return &e.InvalidRequest }

// PageTokenInvalid: A page token that this server did not give, or gave for other arguments.
type PageTokenInvalid struct{ InvalidRequest }

// Unwrap gives the more general error, for errors.As.
func (e *PageTokenInvalid) Unwrap() error { return &e.InvalidRequest }

// Unauthenticated: The gateway does not know the key that you show.
type Unauthenticated struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *Unauthenticated) Unwrap() error { return &e.GatewayError }

// CredentialsMissing: The gateway asks for a key, and you show none: pass token, or set PARLEY_TOKEN.
type CredentialsMissing struct{ Unauthenticated }

// Unwrap gives the more general error, for errors.As.
func (e *CredentialsMissing) Unwrap() error { return &e.Unauthenticated }

// ModelNotFound: Nothing goes by that name; client.models() lists what does.
type ModelNotFound struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *ModelNotFound) Unwrap() error { return &e.GatewayError }

// CacheMiss: You want an answer from the gateway's cache only, and it is not there. No provider was asked.
type CacheMiss struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *CacheMiss) Unwrap() error { return &e.GatewayError }

// ResponseNotFound: You have no resumable response with that ID.
type ResponseNotFound struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *ResponseNotFound) Unwrap() error { return &e.GatewayError }

// ResumeWindowExpired: The response was there, but what you ask for is no longer kept.
type ResumeWindowExpired struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *ResumeWindowExpired) Unwrap() error { return &e.GatewayError }

// SequenceOutOfRange: The response has not come as far as you resume it from.
type SequenceOutOfRange struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *SequenceOutOfRange) Unwrap() error { return &e.GatewayError }

// ResponseCancelled: CancelChat stopped the response.
type ResponseCancelled struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *ResponseCancelled) Unwrap() error { return &e.GatewayError }

// SlowConsumer: You read the stream too slowly for the gateway to wait, or to keep what you have not read.
type SlowConsumer struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *SlowConsumer) Unwrap() error { return &e.GatewayError }

// CredentialsRejected: The provider refuses the gateway's own key: its operator must act.
type CredentialsRejected struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *CredentialsRejected) Unwrap() error { return &e.GatewayError }

// PromptBlocked: A safety filter refused the input. (Output that is filtered is not an error but a finish reason.)
type PromptBlocked struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *PromptBlocked) Unwrap() error { return &e.GatewayError }

// RateLimited: The provider's rate limit; waiting helps.
type RateLimited struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *RateLimited) Unwrap() error { return &e.GatewayError }

// CallerRateLimited: A limit that the gateway sets you, or your tenant, is used up; waiting retry_after seconds helps.
type CallerRateLimited struct{ RateLimited }

// Unwrap gives the more general error, for errors.As.
func (e *CallerRateLimited) Unwrap() error { return &e.RateLimited }

// QuotaExhausted: The provider account has no money or quota left; waiting does not help.
type QuotaExhausted struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *QuotaExhausted) Unwrap() error { return &e.GatewayError }

// CostLimitExceeded: The call should cost more than routing.max_cost_nano_usd allows. Nobody was asked.
type CostLimitExceeded struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *CostLimitExceeded) Unwrap() error { return &e.GatewayError }

// IdempotentRequestInProgress: A call with the same idempotency key is under way, and is too long to be joined: ask again when it is over.
type IdempotentRequestInProgress struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *IdempotentRequestInProgress) Unwrap() error { return &e.GatewayError }

// Unavailable: The provider failed or could not be reached.
type Unavailable struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *Unavailable) Unwrap() error { return &e.GatewayError }

// Overloaded: The provider says that it has too much to do.
type Overloaded struct{ Unavailable }

// Unwrap gives the more general error, for errors.As.
func (e *Overloaded) Unwrap() error { return &e.Unavailable }

// AttemptTimeout: The provider took longer than one attempt may.
type AttemptTimeout struct{ Unavailable }

// Unwrap gives the more general error, for errors.As.
func (e *AttemptTimeout) Unwrap() error { return &e.Unavailable }

// CircuitOpen: The provider has failed too often; the gateway does not ask it before retry_after seconds have passed.
type CircuitOpen struct{ Unavailable }

// Unwrap gives the more general error, for errors.As.
func (e *CircuitOpen) Unwrap() error { return &e.Unavailable }

// StreamInterrupted: The provider ended or broke before its own end marker.
type StreamInterrupted struct{ Unavailable }

// Unwrap gives the more general error, for errors.As.
func (e *StreamInterrupted) Unwrap() error { return &e.Unavailable }

// Truncated: The stream ended with OK but without its last event, which a gateway never does: something between cut it.
type Truncated struct{ StreamInterrupted }

// Unwrap gives the more general error, for errors.As.
func (e *Truncated) Unwrap() error { return &e.StreamInterrupted }

// ConnectionFailed: No gateway answered at the address, or the connection to it broke.
type ConnectionFailed struct{ Unavailable }

// Unwrap gives the more general error, for errors.As.
func (e *ConnectionFailed) Unwrap() error { return &e.Unavailable }

// ProtocolError: The provider answered something that is not its protocol.
type ProtocolError struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *ProtocolError) Unwrap() error { return &e.GatewayError }

// DeadlineExceeded: The time that the call had is over: its timeout, or the gateway's own limit.
type DeadlineExceeded struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *DeadlineExceeded) Unwrap() error { return &e.GatewayError }

// GatewayOverloaded: Too many calls wait for their turn in the gateway; trying again after a while helps.
type GatewayOverloaded struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *GatewayOverloaded) Unwrap() error { return &e.GatewayError }

// StateUnavailable: What the gateways share cannot be asked for now, and the call needs it; try again in a moment.
type StateUnavailable struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *StateUnavailable) Unwrap() error { return &e.GatewayError }

// ShuttingDown: This gateway is going away; the next call goes to another one, so trying again helps.
type ShuttingDown struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *ShuttingDown) Unwrap() error { return &e.GatewayError }

// Bug: An unexpected failure inside the gateway: its log has more under request_id.
type Bug struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *Bug) Unwrap() error { return &e.GatewayError }

// MessageTooLarge: A message is over the limit of this channel or of the server's; raised by gRPC before any handler sees it.
type MessageTooLarge struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *MessageTooLarge) Unwrap() error { return &e.GatewayError }

// Cancelled: The call was cancelled, by stream.cancel() or by closing the client.
type Cancelled struct{ GatewayError }

// Unwrap gives the more general error, for errors.As.
func (e *Cancelled) Unwrap() error { return &e.GatewayError }

// What a reason stands for: its code, and the error with everything in base; nil if it is not known.
func byReason(reason string, base GatewayError) (codes.Code, error) {
	switch reason {
	case "INVALID_REQUEST":
		return codes.InvalidArgument, &InvalidRequest{base}
	case "UNSUPPORTED_PARAMETER":
		return codes.InvalidArgument, &UnsupportedParameter{InvalidRequest{base}}
	case "OPERATION_UNSUPPORTED":
		return codes.InvalidArgument, &OperationUnsupported{InvalidRequest{base}}
	case "CONTEXT_LENGTH_EXCEEDED":
		return codes.InvalidArgument, &ContextLengthExceeded{InvalidRequest{base}}
	case "REQUEST_TOO_LARGE":
		return codes.InvalidArgument, &RequestTooLarge{InvalidRequest{base}}
	case "IDEMPOTENCY_KEY_REUSED":
		return codes.InvalidArgument, &IdempotencyKeyReused{InvalidRequest{base}}
	case "PAGE_TOKEN_INVALID":
		return codes.InvalidArgument, &PageTokenInvalid{InvalidRequest{base}}
	case "CREDENTIALS_INVALID":
		return codes.Unauthenticated, &Unauthenticated{base}
	case "CREDENTIALS_MISSING":
		return codes.Unauthenticated, &CredentialsMissing{Unauthenticated{base}}
	case "MODEL_NOT_FOUND":
		return codes.NotFound, &ModelNotFound{base}
	case "CACHE_MISS":
		return codes.NotFound, &CacheMiss{base}
	case "RESPONSE_NOT_FOUND":
		return codes.NotFound, &ResponseNotFound{base}
	case "RESUME_WINDOW_EXPIRED":
		return codes.FailedPrecondition, &ResumeWindowExpired{base}
	case "SEQUENCE_OUT_OF_RANGE":
		return codes.OutOfRange, &SequenceOutOfRange{base}
	case "RESPONSE_CANCELLED":
		return codes.Canceled, &ResponseCancelled{base}
	case "SLOW_CONSUMER":
		return codes.ResourceExhausted, &SlowConsumer{base}
	case "PROVIDER_CREDENTIALS_REJECTED":
		return codes.FailedPrecondition, &CredentialsRejected{base}
	case "PROMPT_BLOCKED":
		return codes.FailedPrecondition, &PromptBlocked{base}
	case "PROVIDER_RATE_LIMITED":
		base.Retryable = true
		return codes.ResourceExhausted, &RateLimited{base}
	case "RATE_LIMITED":
		base.Retryable = true
		return codes.ResourceExhausted, &CallerRateLimited{RateLimited{base}}
	case "PROVIDER_QUOTA_EXHAUSTED":
		return codes.ResourceExhausted, &QuotaExhausted{base}
	case "COST_LIMIT_EXCEEDED":
		return codes.ResourceExhausted, &CostLimitExceeded{base}
	case "IDEMPOTENT_REQUEST_IN_PROGRESS":
		base.Retryable = true
		return codes.Aborted, &IdempotentRequestInProgress{base}
	case "PROVIDER_UNAVAILABLE":
		base.Retryable = true
		return codes.Unavailable, &Unavailable{base}
	case "PROVIDER_OVERLOADED":
		base.Retryable = true
		return codes.Unavailable, &Overloaded{Unavailable{base}}
	case "PROVIDER_TIMEOUT":
		base.Retryable = true
		return codes.Unavailable, &AttemptTimeout{Unavailable{base}}
	case "PROVIDER_CIRCUIT_OPEN":
		base.Retryable = true
		return codes.Unavailable, &CircuitOpen{Unavailable{base}}
	case "STREAM_INTERRUPTED":
		base.Retryable = true
		return codes.Unavailable, &StreamInterrupted{Unavailable{base}}
	case "TRUNCATED":
		base.Retryable = true
		return codes.Unavailable, &Truncated{StreamInterrupted{Unavailable{base}}}
	case "CONNECTION_FAILED":
		base.Retryable = true
		return codes.Unavailable, &ConnectionFailed{Unavailable{base}}
	case "PROVIDER_PROTOCOL_ERROR":
		base.Retryable = true
		return codes.Internal, &ProtocolError{base}
	case "DEADLINE_EXCEEDED":
		return codes.DeadlineExceeded, &DeadlineExceeded{base}
	case "GATEWAY_OVERLOADED":
		base.Retryable = true
		return codes.Unavailable, &GatewayOverloaded{base}
	case "STATE_UNAVAILABLE":
		base.Retryable = true
		return codes.Unavailable, &StateUnavailable{base}
	case "SHUTTING_DOWN":
		base.Retryable = true
		return codes.Unavailable, &ShuttingDown{base}
	case "INTERNAL":
		return codes.Internal, &Bug{base}
	case "MESSAGE_TOO_LARGE":
		return codes.ResourceExhausted, &MessageTooLarge{base}
	case "CANCELLED":
		return codes.Canceled, &Cancelled{base}
	}
	return codes.Unknown, nil
}

// The reason whose error is nearest to one that is not known; empty where none is.
func nearest(code codes.Code) string {
	switch code {
	case codes.InvalidArgument:
		return "INVALID_REQUEST"
	case codes.Unavailable:
		return "PROVIDER_UNAVAILABLE"
	case codes.DeadlineExceeded:
		return "DEADLINE_EXCEEDED"
	case codes.Canceled:
		return "CANCELLED"
	}
	return ""
}
