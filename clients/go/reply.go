package parley

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"strings"

	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

// Reply is one turn of a model. Raw is the message itself.
type Reply struct{ Raw *parleyv1.ChatResponse }

// ToolCall is a call that the model wants made. ArgumentsJSON is what it wrote, which may be no JSON.
type ToolCall struct {
	ID, Name, ArgumentsJSON string
}

// Arguments reads the arguments into a struct or a map. It gives an *InvalidOutput if they do not fit.
func (c ToolCall) Arguments(into any) error {
	text := c.ArgumentsJSON
	if text == "" {
		text = "{}"
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return &InvalidOutput{fmt.Sprintf("the arguments of %s are not what was asked for", c.Name), err}
	}
	return nil
}

// Message is the turn, to be put back where it was said.
func (r *Reply) Message() *parleyv1.Message { return r.Raw.GetMessage() }

// Text is the text, without reasoning and refusals.
func (r *Reply) Text() string {
	return r.join(func(part *parleyv1.Part) string { return part.GetText() })
}

// Reasoning is the reasoning, as far as the provider shows it.
func (r *Reply) Reasoning() string {
	return r.join(func(part *parleyv1.Part) string { return part.GetReasoning().GetText() })
}

// Refusal is what the model said to decline, or "".
func (r *Reply) Refusal() string {
	return r.join(func(part *parleyv1.Part) string { return part.GetRefusal().GetText() })
}

func (r *Reply) join(text func(*parleyv1.Part) string) string {
	var joined strings.Builder
	for _, part := range r.Raw.GetMessage().GetParts() {
		joined.WriteString(text(part))
	}
	return joined.String()
}

// ToolCalls are the calls that the model wants made, in order.
func (r *Reply) ToolCalls() []ToolCall {
	var calls []ToolCall
	for _, part := range r.Raw.GetMessage().GetParts() {
		if call := part.GetToolCall(); call != nil {
			calls = append(calls, ToolCall{call.GetId(), call.GetName(), call.GetArgumentsJson()})
		}
	}
	return calls
}

// FinishReason is why generation ended: "stop", "length", "tool_call", …; "unspecified" for one that is not known here,
// and before the end of a stream. Raw.NativeFinishReason is the provider's own word.
func (r *Reply) FinishReason() string {
	name, known := parleyv1.FinishReason_name[int32(r.Raw.GetFinishReason())]
	if !known {
		return "unspecified"
	}
	return strings.ToLower(strings.TrimPrefix(name, "FINISH_REASON_"))
}

// Usage is the tokens; fields that are not set were not reported.
func (r *Reply) Usage() *parleyv1.Usage { return r.Raw.GetUsage() }

// Cost is what the answer cost in US dollars, exactly; nil if a price is unknown.
func (r *Reply) Cost() *big.Rat {
	if r.Raw.GetUsage().GetCost() == nil {
		return nil
	}
	return big.NewRat(r.Raw.GetUsage().GetCost().GetTotalNanoUsd(), 1_000_000_000)
}

// JSON reads the text as JSON. It gives an *InvalidOutput if it does not fit, which says so if the answer was cut off.
func (r *Reply) JSON(into any) error {
	if err := json.Unmarshal([]byte(r.Text()), into); err != nil {
		return &InvalidOutput{"the answer (finish reason " + r.FinishReason() + ") is not what was asked for", err}
	}
	return nil
}

// Embeddings are vectors in the order of their inputs. Raw is the message itself.
type Embeddings struct {
	Vectors [][]float32
	Raw     *parleyv1.EmbedResponse
}

func embeddings(response *parleyv1.EmbedResponse) (*Embeddings, error) {
	vectors := make([][]float32, len(response.GetEmbeddings()))
	for i, embedding := range response.GetEmbeddings() {
		switch vector := embedding.GetVector().(type) {
		case *parleyv1.Embedding_Packed:
			if len(vector.Packed)%4 != 0 {
				return nil, fmt.Errorf("parley: embedding %d is no vector of 32-bit numbers", i)
			}
			floats := make([]float32, len(vector.Packed)/4)
			for j := range floats {
				floats[j] = math.Float32frombits(binary.LittleEndian.Uint32(vector.Packed[4*j:]))
			}
			vectors[i] = floats
		case *parleyv1.Embedding_Floats:
			vectors[i] = vector.Floats.GetValues()
		default:
			return nil, fmt.Errorf("parley: embedding %d comes in a form that this client does not know", i)
		}
	}
	return &Embeddings{vectors, response}, nil
}
