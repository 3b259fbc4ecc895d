package parley_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	parley "github.com/parley-gateway/parley/clients/go"
	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

// scenario is one row of clients/scenarios.json, which says what its fields mean.
type scenario struct {
	Name        string
	At          string
	Call        string
	Model       string
	Input       json.RawMessage
	Request     json.RawMessage
	Timeout     float64
	Resume      bool
	CancelAfter int `json:"cancel_after"`
	Expect      map[string]json.RawMessage
}

// seen is what a scenario brought.
type seen struct {
	reply   *parley.Reply
	events  []*parleyv1.StreamChatResponse
	vectors [][]float32
	models  []string
	err     error
	took    time.Duration
}

// addresses are those of the scene, which `make clients-test` starts: the value of PARLEY_SCENE.
func addresses(t *testing.T) map[string]string {
	t.Helper()
	said := os.Getenv("PARLEY_SCENE")
	if said == "" {
		t.Skip("PARLEY_SCENE is not set: `make clients-test` runs these scenarios against their servers")
	}
	var at map[string]string
	if err := json.Unmarshal([]byte(said), &at); err != nil {
		t.Fatal(err)
	}
	return at
}

func TestScenarios(t *testing.T) {
	at := addresses(t)
	data, err := os.ReadFile("../scenarios.json")
	if err != nil {
		t.Fatal(err)
	}
	var table struct{ Scenarios []scenario }
	if err := json.Unmarshal(data, &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Scenarios) == 0 {
		t.Fatal("the table is empty")
	}
	for _, scenario := range table.Scenarios {
		t.Run(scenario.Name, func(t *testing.T) {
			client, err := parley.NewClient(at[scenario.At])
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			timeout := 20 * time.Second
			if scenario.Timeout > 0 {
				timeout = time.Duration(scenario.Timeout * float64(time.Second))
			}
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			begun := time.Now()
			found := run(ctx, t, client, scenario)
			found.took = time.Since(begun)
			if _, fails := scenario.Expect["error"]; !fails && found.err != nil {
				t.Fatal(found.err)
			}
			for name, value := range scenario.Expect {
				check(t, name, value, found)
			}
		})
	}
}

func run(ctx context.Context, t *testing.T, client *parley.Client, s scenario) (found seen) {
	t.Helper()
	request := &parleyv1.ChatRequest{}
	if s.Request != nil && s.Call != "models" {
		if err := protojson.Unmarshal(s.Request, request); err != nil {
			t.Fatal(err)
		}
	}
	options := []parley.ChatOption{parley.Request(func(r *parleyv1.ChatRequest) { model := r.Model; proto.Merge(r, request); r.Model = model })}
	switch s.Call {
	case "chat":
		found.reply, found.err = client.Chat(ctx, s.Model, conversation(t, s), options...)
	case "stream":
		if s.Resume {
			options = append(options, parley.ResumeByItself())
		}
		stream := client.Stream(ctx, s.Model, conversation(t, s), options...)
		defer stream.Close()
		for event, err := range stream.Events() {
			if found.err = err; err != nil {
				break
			}
			found.events = append(found.events, event)
			if s.CancelAfter > 0 && len(texts(found.events)) == s.CancelAfter {
				stream.Close()
			}
		}
		found.reply = stream.Partial()
	case "embed":
		var inputs []string
		unmarshal(t, s.Input, &inputs)
		embeddings, err := client.Embed(ctx, s.Model, inputs)
		if found.err = err; err == nil {
			found.vectors = embeddings.Vectors
		}
	case "models":
		request := &parleyv1.ListModelsRequest{}
		if err := protojson.Unmarshal(s.Request, request); err != nil {
			t.Fatal(err)
		}
		for model, err := range client.Models(ctx, request) {
			if found.err = err; err != nil {
				break
			}
			found.models = append(found.models, model.GetId())
		}
	default:
		t.Fatalf("the table makes a call %q, which is not known here", s.Call)
	}
	return found
}

func conversation(t *testing.T, s scenario) []*parleyv1.Message {
	t.Helper()
	if s.Input == nil {
		return nil
	}
	var text string
	var long struct {
		Repeat string
		Times  int
	}
	if json.Unmarshal(s.Input, &text) != nil {
		unmarshal(t, s.Input, &long)
		text = strings.Repeat(long.Repeat, long.Times)
	}
	return parley.Prompt(text)
}

func texts(events []*parleyv1.StreamChatResponse) (texts []string) {
	for _, event := range events {
		if text, is := event.GetPartDelta().GetDelta().(*parleyv1.PartDelta_Text); is {
			texts = append(texts, text.Text)
		}
	}
	return texts
}

func kind(event *parleyv1.StreamChatResponse) string {
	field := event.ProtoReflect().WhichOneof(event.ProtoReflect().Descriptor().Oneofs().ByName("event"))
	if field == nil {
		return ""
	}
	return string(field.Name())
}

// check tells whether what was seen is what the table says under a name.
func check(t *testing.T, name string, value json.RawMessage, found seen) {
	t.Helper()
	switch name {
	case "error":
		checkError(t, value, found.err)
	case "text":
		var long struct {
			Length int
			Sha256 string
		}
		text := found.reply.Text()
		if json.Unmarshal(value, &long) == nil {
			digest := sha256.Sum256([]byte(text))
			equal(t, name, len(text), long.Length)
			equal(t, name, hex.EncodeToString(digest[:]), long.Sha256)
			return
		}
		same(t, name, text, value)
	case "partial_text":
		same(t, name, found.reply.Text(), value)
	case "reasoning":
		same(t, name, found.reply.Reasoning(), value)
	case "refusal":
		same(t, name, found.reply.Refusal(), value)
	case "finish_reason":
		same(t, name, found.reply.FinishReason(), value)
	case "native_finish_reason":
		same(t, name, found.reply.Raw.GetNativeFinishReason(), value)
	case "provider":
		same(t, name, found.reply.Raw.GetRoute().GetProvider(), value)
	case "tool_calls":
		type call struct {
			Name      string
			Arguments map[string]any
		}
		var wanted, calls []call
		unmarshal(t, value, &wanted)
		for _, one := range found.reply.ToolCalls() {
			made := call{Name: one.Name}
			if err := one.Arguments(&made.Arguments); err != nil {
				t.Error(err)
			}
			calls = append(calls, made)
		}
		if !reflect.DeepEqual(calls, wanted) {
			t.Errorf("%s: %v, not %v", name, calls, wanted)
		}
	case "texts_at_least":
		var least int
		unmarshal(t, value, &least)
		if got := len(texts(found.events)); got < least {
			t.Errorf("%d texts, not %d", got, least)
		}
	case "first_event":
		same(t, name, kind(found.events[0]), value)
	case "last_event":
		same(t, name, kind(found.events[len(found.events)-1]), value)
	case "sequences":
		last := int32(0)
		for _, event := range found.events {
			if kind(event) != "heartbeat" && event.GetSequence() <= last {
				t.Errorf("sequence %d after %d", event.GetSequence(), last)
			}
			last = max(last, event.GetSequence())
		}
		equal(t, name, found.events[0].GetSequence(), 1)
	case "vectors":
		same(t, name, len(found.vectors), value)
	case "dimensions":
		for _, vector := range found.vectors {
			same(t, name, len(vector), value)
		}
	case "equal":
		var pair [2]int
		unmarshal(t, value, &pair)
		equal(t, name, slices.Equal(found.vectors[pair[0]], found.vectors[pair[1]]), true)
	case "contains":
		var wanted []string
		unmarshal(t, value, &wanted)
		for _, one := range wanted {
			equal(t, one, slices.Contains(found.models, one), true)
		}
	case "within":
		var seconds float64
		unmarshal(t, value, &seconds)
		if found.took.Seconds() >= seconds {
			t.Errorf("took %v, not %v s", found.took, seconds)
		}
	default:
		t.Errorf("the table expects %s, which is not known here", name)
	}
}

func checkError(t *testing.T, value json.RawMessage, err error) {
	t.Helper()
	var wanted map[string]json.RawMessage
	unmarshal(t, value, &wanted)
	var failed *parley.GatewayError
	if !errors.As(err, &failed) {
		t.Fatalf("no error of the gateway: %v", err)
	}
	for name, value := range wanted {
		switch name {
		case "kind":
			same(t, name, strings.TrimPrefix(fmt.Sprintf("%T", err), "*parley."), value)
		case "code":
			var code string
			unmarshal(t, value, &code)
			code = strings.ReplaceAll(strings.ToLower(code), "_", "")
			equal(t, name, strings.ToLower(failed.Code.String()), map[bool]string{true: "canceled", false: code}[code == "cancelled"])
		case "reason":
			same(t, name, failed.Reason, value)
		case "retryable":
			same(t, name, failed.Retryable, value)
		case "retry_after":
			same(t, name, failed.RetryAfter.Seconds(), value)
		case "violations":
			fields := []string{}
			for _, violation := range failed.Violations {
				fields = append(fields, violation.Field)
			}
			same(t, name, fields, value)
		case "has_request_id":
			same(t, name, failed.RequestID != "", value)
		default:
			t.Errorf("the table expects error.%s, which is not known here", name)
		}
	}
}

func same[T any](t *testing.T, name string, got T, value json.RawMessage) {
	t.Helper()
	var want T
	unmarshal(t, value, &want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %v, not %v", name, got, want)
	}
}

func equal[T comparable](t *testing.T, name string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, not %v", name, got, want)
	}
}

func unmarshal(t *testing.T, value json.RawMessage, into any) {
	t.Helper()
	if err := json.Unmarshal(value, into); err != nil {
		t.Fatal(err)
	}
}
