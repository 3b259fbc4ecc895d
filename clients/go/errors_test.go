package parley

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

func told(t *testing.T, code codes.Code, reason string) error {
	t.Helper()
	said, err := status.New(code, "no").WithDetails(
		&errdetails.ErrorInfo{Reason: reason, Domain: "parley", Metadata: map[string]string{"attempts": "3"}},
		&errdetails.RequestInfo{RequestId: "req_1"},
	)
	if err != nil {
		t.Fatal(err)
	}
	return fromRPC(context.Background(), said.Err(), "gw:1", false)
}

func TestAnErrorIsAlsoAllMoreGeneralOnes(t *testing.T) {
	err := told(t, codes.Unavailable, "STREAM_INTERRUPTED")
	var (
		interrupted *StreamInterrupted
		unavailable *Unavailable
		general     *GatewayError
		limited     *RateLimited
	)
	if !errors.As(err, &interrupted) || !errors.As(err, &unavailable) || !errors.As(err, &general) {
		t.Error(err)
	}
	if errors.As(err, &limited) {
		t.Error("it is no rate limit")
	}
	if !general.Retryable || general.Attempts != 3 || general.RequestID != "req_1" {
		t.Errorf("%+v", general)
	}
	if status.Code(err) != codes.Unavailable {
		t.Error(status.Code(err))
	}
	if text := err.Error(); text != "STREAM_INTERRUPTED: no (attempts: 3, request req_1)" {
		t.Error(text)
	}
}

func TestAReasonWithAnotherCodeIsNotTaken(t *testing.T) {
	var invalid *InvalidRequest
	var limited *RateLimited
	err := told(t, codes.InvalidArgument, "PROVIDER_RATE_LIMITED")
	if !errors.As(err, &invalid) || errors.As(err, &limited) || invalid.Reason != "PROVIDER_RATE_LIMITED" {
		t.Error(err)
	}
}

func TestWhatNoGatewaySaid(t *testing.T) {
	for message, wanted := range map[string]string{
		`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`: "is it running?",
		"name resolver error: produced zero addresses":                                                                 "is the name right?",
		"error reading from server: EOF":                                                                               "failed before the answer was complete",
	} {
		err := fromRPC(context.Background(), status.Error(codes.Unavailable, message), "gw:1", false)
		var failed *ConnectionFailed
		if !errors.As(err, &failed) || !strings.Contains(err.Error(), wanted) {
			t.Error(err)
		}
	}
	err := fromRPC(context.Background(), io.EOF, "gw:1", true)
	var truncated *Truncated
	if !errors.As(err, &truncated) {
		t.Error(err)
	}
}

func TestCancellationIsThatOfTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err := fromRPC(ctx, status.FromContextError(ctx.Err()).Err(), "gw:1", true)
	var cancelled *Cancelled
	if !errors.As(err, &cancelled) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestWaitsLongerEachTimeAndNotForEver(t *testing.T) {
	var at resumption
	broken := fromRPC(context.Background(), status.Error(codes.Unavailable, "reset"), "gw:1", true)
	if _, goesOn := at.wait(broken); goesOn {
		t.Error("it has not begun")
	}
	beginning := &parleyv1.ResponseStarted{ResponseId: "resp_1"}
	event := &parleyv1.StreamChatResponse{Sequence: 1, Event: &parleyv1.StreamChatResponse_Started{Started: beginning}}
	if at.seen(event); at.responseID != "" {
		t.Error("it cannot be resumed")
	}
	beginning.ResumeExpireTime = timestamppb.Now()
	at.seen(event)
	for longest := 50 * time.Millisecond; longest <= 1600*time.Millisecond; longest *= 2 {
		if wait, goesOn := at.wait(broken); !goesOn || wait > longest || wait < longest/2 {
			t.Error(wait, longest)
		}
	}
	if _, goesOn := at.wait(broken); goesOn {
		t.Error("six tries are enough")
	}
	gone := told(t, codes.NotFound, "RESPONSE_NOT_FOUND")
	if at.told(gone) != broken {
		t.Error("what broke the stream says more")
	}
	at.seen(&parleyv1.StreamChatResponse{Sequence: 7})
	if _, goesOn := at.wait(broken); !goesOn || at.last != 7 {
		t.Error("an event arrived in between")
	}
	if _, goesOn := at.wait(gone); goesOn {
		t.Error("this is about the answer itself")
	}
}

func TestTheNumberOfSecondsToWait(t *testing.T) {
	said, _ := status.New(codes.ResourceExhausted, "slow down").WithDetails(
		&errdetails.ErrorInfo{Reason: "PROVIDER_RATE_LIMITED", Domain: "parley"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(1500 * time.Millisecond)},
	)
	var limited *RateLimited
	if err := fromRPC(context.Background(), said.Err(), "gw:1", false); !errors.As(err, &limited) || limited.RetryAfter != 1500*time.Millisecond {
		t.Error(err)
	}
}
