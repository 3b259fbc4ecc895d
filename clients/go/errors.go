package parley

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

// GatewayError is a call that failed. Errors of a known reason are of a type of their own, such as *RateLimited, which
// unwraps to the more general ones and at last to this one:
//
//	var limited *parley.RateLimited
//	if errors.As(err, &limited) {
//		time.Sleep(limited.RetryAfter)
//	}
type GatewayError struct {
	Code    codes.Code
	Reason  string // in UPPER_SNAKE_CASE; what programs decide by
	Message string
	// Whether the same call may do better in a moment, and how long to wait at least, where somebody said so.
	Retryable  bool
	RetryAfter time.Duration
	// What the gateway's operator needs to find the call in logs and traces.
	RequestID     string
	Violations    []Violation               // what is wrong with the request
	ProviderError *parleyv1.ProviderError   // what the provider said
	Attempts      int                       // how often the gateway tried; 0 if it does not say
	Failure       *parleyv1.ResponseFailure // how far a stream had come
	Facts         map[string]string         // every dynamic piece of the message

	cause error
}

// Violation is one thing wrong with a request: the proto path of the field, and what is wrong.
type Violation struct{ Field, Description, Reason string }

func (e *GatewayError) Error() string {
	var notes []string
	if e.Attempts > 1 {
		notes = append(notes, fmt.Sprintf("attempts: %d", e.Attempts))
	}
	if e.RetryAfter > 0 {
		notes = append(notes, fmt.Sprintf("try again in %v", e.RetryAfter))
	}
	if e.RequestID != "" {
		notes = append(notes, "request "+e.RequestID)
	}
	text := e.Reason + ": " + e.Message
	if len(notes) > 0 {
		text += " (" + strings.Join(notes, ", ") + ")"
	}
	for _, violation := range e.Violations {
		if !strings.Contains(e.Message, violation.Description) {
			text += "\n  " + violation.Field + ": " + violation.Description
		}
	}
	return text
}

// Unwrap gives what gRPC said, so that status.Code and errors.Is(err, context.Canceled) work.
func (e *GatewayError) Unwrap() error { return e.cause }

// GRPCStatus is the status with its details.
func (e *GatewayError) GRPCStatus() *status.Status { return status.Convert(e.cause) }

// InvalidOutput says that the model's text or tool arguments are not what was asked for.
type InvalidOutput struct {
	message string
	cause   error
}

func (e *InvalidOutput) Error() string { return "parley: " + e.message + ": " + e.cause.Error() }

// Unwrap gives what encoding/json said.
func (e *InvalidOutput) Unwrap() error { return e.cause }

// fromRPC is what a failed call means. begun: an event of the answer had arrived already.
func fromRPC(ctx context.Context, err error, address string, begun bool) error {
	if errors.Is(err, io.EOF) {
		text := "the stream ended before the answer was complete, without saying why"
		return made(GatewayError{Code: codes.Unavailable, Reason: "TRUNCATED", Message: text, cause: err})
	}
	said := status.Convert(err)
	base := GatewayError{Code: said.Code(), Message: said.Message(), cause: err}
	read(&base, said)
	if base.Reason == "" {
		explain(ctx, &base, address, begun)
	}
	return made(base)
}

// made gives the error its type, by its reason or, if that is not known with this code, by its code.
func made(base GatewayError) error {
	base.Retryable = base.Retryable || base.RetryAfter > 0
	if code, err := byReason(base.Reason, base); err != nil && code == base.Code {
		return err
	}
	if _, err := byReason(nearest(base.Code), base); err != nil {
		return err
	}
	return &base
}

func read(base *GatewayError, said *status.Status) {
	for _, detail := range said.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			base.Reason, base.Facts = detail.GetReason(), detail.GetMetadata()
		case *errdetails.RetryInfo:
			base.RetryAfter = detail.GetRetryDelay().AsDuration()
		case *errdetails.BadRequest:
			for _, v := range detail.GetFieldViolations() {
				base.Violations = append(base.Violations, Violation{v.GetField(), v.GetDescription(), v.GetReason()})
			}
		case *errdetails.RequestInfo:
			base.RequestID = detail.GetRequestId()
		case *parleyv1.ProviderError:
			base.ProviderError = detail
		case *parleyv1.ResponseFailure:
			base.Failure = detail
		}
	}
	if base.RequestID == "" {
		base.RequestID = base.Facts["requestId"]
	}
	if attempts, err := strconv.Atoi(base.Facts["attempts"]); err == nil {
		base.Attempts = attempts
	} else {
		base.Attempts = int(base.Failure.GetAttempts())
	}
}

// explain says what a status means that no gateway wrote: gRPC itself, or a proxy on the way.
func explain(ctx context.Context, base *GatewayError, address string, begun bool) {
	message := base.Message
	switch base.Code {
	case codes.Unavailable:
		base.Reason = "CONNECTION_FAILED"
		advice := adviceFor(strings.ToLower(message))
		if begun || advice == "" {
			base.Message = fmt.Sprintf("the connection to %s failed before the answer was complete (%s)", address, message)
		} else {
			base.Message = fmt.Sprintf("no gateway answers at %s: %s (%s)", address, advice, message)
		}
	case codes.DeadlineExceeded:
		base.Reason = "DEADLINE_EXCEEDED"
		base.Message = "the answer was not complete when the call's time was over"
	case codes.Canceled:
		base.Reason = "CANCELLED"
		base.Message = "the call was cancelled before the answer was complete"
		if cause := context.Cause(ctx); cause != nil {
			base.cause = errors.Join(base.cause, cause)
		}
	case codes.ResourceExhausted:
		if strings.Contains(message, "larger than max") {
			base.Reason = "MESSAGE_TOO_LARGE"
		}
	case codes.Unimplemented:
		text := "what answers at %s does not offer this call: another service, or an older gateway (%s)"
		base.Message = fmt.Sprintf(text, address, message)
	}
	if base.Reason == "" {
		base.Reason = upperSnake(base.Code.String())
	}
}

// adviceFor says what to do about a connection that could not be had; "" if it was had, and broke.
func adviceFor(message string) string {
	switch {
	case strings.Contains(message, "handshake") || strings.Contains(message, "tls:"):
		return "do both sides agree on TLS? WithTLS turns it on here, and the certificate must be known here"
	case strings.Contains(message, "resolver") || strings.Contains(message, "no such host"):
		return "is the name right?"
	case strings.Contains(message, "not serving") || strings.Contains(message, "health check"):
		return "something is there, but it says that it is not serving; it may be starting or going away"
	case strings.Contains(message, "refused") || strings.Contains(message, "dial"):
		return "is it running? `make run` in a checkout of Parley starts one"
	}
	return ""
}

func upperSnake(camel string) string {
	var text strings.Builder
	for i, letter := range camel {
		if i > 0 && letter >= 'A' && letter <= 'Z' {
			text.WriteByte('_')
		}
		text.WriteRune(letter)
	}
	return strings.ToUpper(text.String())
}
