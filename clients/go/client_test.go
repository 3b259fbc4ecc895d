package parley

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/metadata"

	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

func TestATokenDoesNotTravelInClear(t *testing.T) {
	if _, err := NewClient("gw.example.com:443", WithToken("secret")); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	for _, options := range [][]ClientOption{{WithTLS(nil)}, {WithoutTLS()}} {
		client, err := NewClient("gw.example.com:443", append(options, WithToken("secret"))...)
		if err != nil {
			t.Fatal(err)
		}
		client.Close()
	}
	for _, address := range []string{"localhost:1", "127.0.0.1:1", "[::1]:1", "unix:///tmp/gw", "dns:///localhost:1"} {
		client, err := NewClient(address, WithToken("secret"))
		if err != nil {
			t.Fatal(err)
		}
		client.Close()
	}
	if _, err := NewClient("https://gw.example.com"); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Error(err)
	}
}

func TestWhatTravelsWithEveryCall(t *testing.T) {
	client, err := NewClient("127.0.0.1:1", WithToken("secret"), WithHeader("X-Team", "red"), WithTimeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: 1})
	ctx := trace.ContextWithSpanContext(context.Background(), span)
	ctx = metadata.AppendToOutgoingContext(ctx, "x-parley-priority", "2")
	ctx, cancel := client.outgoing(ctx, client.timeout)
	defer cancel()
	sent, _ := metadata.FromOutgoingContext(ctx)
	for name, value := range map[string]string{
		"authorization":     "Bearer secret",
		"x-team":            "red",
		"x-parley-priority": "2",
		"traceparent":       "00-01000000000000000000000000000000-0200000000000000-01",
	} {
		if got := sent.Get(name); len(got) != 1 || got[0] != value {
			t.Error(name, got)
		}
	}
	if due, has := ctx.Deadline(); !has || time.Until(due) > time.Minute {
		t.Error("there is no deadline")
	}
}

func TestOptionsSayWhatTheyMean(t *testing.T) {
	options := []ChatOption{
		Temperature(0.5), MaxOutputTokens(7), Stop("a", "b"), Seed(3), Fallbacks("x/y", "x/z"), IdempotencyKey("k"),
		Tools(Function("f", "does", map[string]any{"type": "object"})), JSONSchema("out", `{"type":"object"}`),
		Request(func(r *parleyv1.ChatRequest) { r.EndUserId = "u" }), ResumeByItself(),
	}
	r := chatRequest("mock/echo", Prompt("hello"), options)
	s := r.GetSampling()
	if s.GetTemperature() != 0.5 || s.GetMaxOutputTokens() != 7 || len(s.GetStopSequences()) != 2 || s.GetSeed() != 3 {
		t.Error(s)
	}
	if r.GetRouting().GetFallbacks()[1].GetModel() != "x/z" || r.GetIdempotencyKey() != "k" || r.GetEndUserId() != "u" {
		t.Error(r)
	}
	if r.GetTools()[0].GetFunction().GetParametersJsonSchema() != `{"type":"object"}` {
		t.Error(r.GetTools())
	}
	if r.GetOutput().GetJsonSchema().GetName() != "out" || r.GetMessages()[0].GetParts()[0].GetText() != "hello" {
		t.Error(r)
	}
}
