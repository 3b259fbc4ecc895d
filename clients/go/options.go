package parley

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

// ChatOption is one wish beside the model and the conversation. Options of streams alone are ignored by Chat.
type ChatOption interface{ isChatOption() }

type requestOption func(*parleyv1.ChatRequest)

type streamSettings struct {
	options  parleyv1.StreamOptions
	resume   bool
	outlasts bool
}

type streamOption func(*streamSettings)

func (requestOption) isChatOption() {}
func (streamOption) isChatOption()  {}

// EmbedOption changes a request for embeddings.
type EmbedOption func(*parleyv1.EmbedRequest)

// RerankOption changes a request for a ranking.
type RerankOption func(*parleyv1.RerankRequest)

// Request sets whatever the other options have no word for.
func Request(set func(*parleyv1.ChatRequest)) ChatOption { return requestOption(set) }

// Temperature is how freely the model chooses its words.
func Temperature(value float64) ChatOption {
	return requestOption(func(r *parleyv1.ChatRequest) { sampling(r).Temperature = proto.Float64(value) })
}

// MaxOutputTokens is the most tokens to generate, reasoning included.
func MaxOutputTokens(most int32) ChatOption {
	return requestOption(func(r *parleyv1.ChatRequest) { sampling(r).MaxOutputTokens = proto.Int32(most) })
}

// Stop ends the answer before any of these texts.
func Stop(sequences ...string) ChatOption {
	return requestOption(func(r *parleyv1.ChatRequest) { sampling(r).StopSequences = sequences })
}

// Seed asks for the same answer each time, as far as the provider can.
func Seed(seed int64) ChatOption {
	return requestOption(func(r *parleyv1.ChatRequest) { sampling(r).Seed = proto.Int64(seed) })
}

// Fallbacks are models to ask, in this order, where the first one fails.
func Fallbacks(models ...string) ChatOption {
	return requestOption(func(r *parleyv1.ChatRequest) {
		if r.Routing == nil {
			r.Routing = &parleyv1.RoutingOptions{}
		}
		for _, model := range models {
			r.Routing.Fallbacks = append(r.Routing.Fallbacks, &parleyv1.FallbackTarget{Model: model})
		}
	})
}

// Tools are functions that the model may call; see Function.
func Tools(tools ...*parleyv1.Tool) ChatOption {
	return requestOption(func(r *parleyv1.ChatRequest) { r.Tools = append(r.Tools, tools...) })
}

// JSONSchema asks for an answer that is JSON of this schema. Reply.JSON reads it.
func JSONSchema(name, schema string) ChatOption {
	return requestOption(func(r *parleyv1.ChatRequest) {
		r.Output = &parleyv1.OutputOptions{
			Format: &parleyv1.OutputOptions_JsonSchema{JsonSchema: &parleyv1.JsonSchemaFormat{Name: name, JsonSchema: schema}},
		}
	})
}

// IdempotencyKey makes a call that is sent twice one call, with one answer.
func IdempotencyKey(key string) ChatOption {
	return requestOption(func(r *parleyv1.ChatRequest) { r.IdempotencyKey = key })
}

// ResumeByItself goes on when the connection breaks. Leaving the stream still ends the work.
func ResumeByItself() ChatOption {
	return streamOption(func(s *streamSettings) { s.resume, s.options.Resumable = true, true })
}

// Resumable keeps the answer going without its reader; Client.Resume takes it up again.
func Resumable() ChatOption {
	return streamOption(func(s *streamSettings) { s.outlasts, s.options.Resumable = true, true })
}

// UsageUpdates sends usage whenever the provider reports it.
func UsageUpdates() ChatOption {
	return streamOption(func(s *streamSettings) { s.options.UsageUpdates = true })
}

// HeartbeatInterval is the longest silence of a stream.
func HeartbeatInterval(interval time.Duration) ChatOption {
	return streamOption(func(s *streamSettings) { s.options.HeartbeatInterval = durationpb.New(interval) })
}

// Dimensions is how long the vectors are to be.
func Dimensions(count int32) EmbedOption {
	return func(r *parleyv1.EmbedRequest) { r.Dimensions = proto.Int32(count) }
}

// TopN is the most documents to rank.
func TopN(count int32) RerankOption {
	return func(r *parleyv1.RerankRequest) { r.TopN = proto.Int32(count) }
}

func chatRequest(model string, messages []*parleyv1.Message, options []ChatOption) *parleyv1.ChatRequest {
	request := &parleyv1.ChatRequest{Model: model}
	for _, option := range options {
		if set, ok := option.(requestOption); ok {
			set(request)
		}
	}
	request.Messages = append(request.Messages, messages...)
	return request
}

func sampling(r *parleyv1.ChatRequest) *parleyv1.SamplingOptions {
	if r.Sampling == nil {
		r.Sampling = &parleyv1.SamplingOptions{}
	}
	return r.Sampling
}
