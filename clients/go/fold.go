package parley

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

// Fold puts a response together from the events of a stream: feed every event, ask for the response at any time. Before
// the event completed it is what there is so far, without finish reason.
type Fold struct {
	head     parleyv1.ChatResponse
	parts    map[int32]*openPart
	logprobs []*parleyv1.TokenLogprob
	complete bool
}

type openPart struct {
	part      *parleyv1.Part
	text      strings.Builder
	citations []*parleyv1.Citation
}

// Complete tells whether the last event has been fed.
func (f *Fold) Complete() bool { return f.complete }

// Feed takes in the next event. Kinds that change nothing (heartbeats, unknown ones) are skipped.
func (f *Fold) Feed(event *parleyv1.StreamChatResponse) {
	if f.parts == nil {
		f.parts = map[int32]*openPart{}
	}
	switch kind := event.GetEvent().(type) {
	case *parleyv1.StreamChatResponse_PartDelta:
		f.delta(kind.PartDelta)
	case *parleyv1.StreamChatResponse_PartStarted:
		f.parts[kind.PartStarted.GetPartIndex()] = &openPart{part: kind.PartStarted.GetPart()}
	case *parleyv1.StreamChatResponse_PartCompleted:
		f.open(kind.PartCompleted.GetPartIndex(), kind.PartCompleted.GetPart()).part = kind.PartCompleted.GetPart()
	case *parleyv1.StreamChatResponse_FallbackStarted:
		f.void(kind.FallbackStarted.GetFirstValidPartIndex())
	case *parleyv1.StreamChatResponse_Usage:
		f.head.Usage = kind.Usage
	case *parleyv1.StreamChatResponse_Warning:
		f.head.Warnings = append(f.head.Warnings, kind.Warning)
	case *parleyv1.StreamChatResponse_Started:
		started := kind.Started
		f.head.Id, f.head.Model, f.head.CreateTime = started.GetResponseId(), started.GetModel(), started.GetCreateTime()
		if started.GetProvider() != "" || started.GetProviderModel() != "" {
			f.head.Route = &parleyv1.RouteInfo{Provider: started.GetProvider(), Model: started.GetProviderModel()}
		}
	case *parleyv1.StreamChatResponse_Completed:
		f.end(kind.Completed)
	}
}

func (f *Fold) open(index int32, part *parleyv1.Part) *openPart {
	if f.parts[index] == nil {
		f.parts[index] = &openPart{part: part}
	}
	return f.parts[index]
}

func (f *Fold) delta(delta *parleyv1.PartDelta) {
	opened := f.open(delta.GetPartIndex(), implied(delta)) // a sender that forgot part_started costs the part its kind only
	switch kind := delta.GetDelta().(type) {
	case *parleyv1.PartDelta_Text:
		opened.text.WriteString(kind.Text)
	case *parleyv1.PartDelta_Reasoning:
		opened.text.WriteString(kind.Reasoning)
	case *parleyv1.PartDelta_ArgumentsJson:
		opened.text.WriteString(kind.ArgumentsJson)
	case *parleyv1.PartDelta_Citation:
		opened.citations = append(opened.citations, kind.Citation)
	}
	f.logprobs = append(f.logprobs, delta.GetLogprobs()...)
}

// void forgets the parts below an index: another attempt says anew what they said.
func (f *Fold) void(below int32) {
	if below <= 0 {
		return
	}
	for index := range f.parts {
		if index < below {
			delete(f.parts, index)
		}
	}
	f.logprobs = nil
}

func (f *Fold) end(completed *parleyv1.ResponseCompleted) {
	f.complete = true
	f.head.FinishReason = completed.GetFinishReason()
	f.head.NativeFinishReason = completed.GetNativeFinishReason()
	f.head.StopSequence = completed.GetStopSequence()
	if completed.GetUsage() != nil {
		f.head.Usage = completed.GetUsage()
	}
	if completed.GetRoute() != nil {
		f.head.Route = completed.GetRoute()
	}
	f.head.Warnings = completed.GetWarnings()
}

// Response is the response so far.
func (f *Fold) Response() *parleyv1.ChatResponse {
	response := proto.Clone(&f.head).(*parleyv1.ChatResponse)
	response.Message = &parleyv1.Message{Role: parleyv1.Role_ROLE_ASSISTANT}
	indexes := make([]int32, 0, len(f.parts))
	for index := range f.parts {
		indexes = append(indexes, index)
	}
	slices.Sort(indexes)
	for _, index := range indexes {
		response.Message.Parts = append(response.Message.Parts, f.parts[index].whole())
	}
	response.Logprobs = slices.Clone(f.logprobs)
	return response
}

// isText tells whether a delta belongs to a part of plain text; refusals have text too.
func (f *Fold) isText(index int32) bool {
	opened := f.parts[index]
	if opened == nil {
		return false
	}
	_, is := opened.part.GetKind().(*parleyv1.Part_Text)
	return is
}

func (p *openPart) whole() *parleyv1.Part {
	part := proto.Clone(p.part).(*parleyv1.Part)
	switch kind := part.GetKind().(type) {
	case *parleyv1.Part_Text:
		kind.Text = p.text.String()
	case *parleyv1.Part_Refusal:
		kind.Refusal.Text = p.text.String()
	case *parleyv1.Part_Reasoning:
		kind.Reasoning.Text = p.text.String()
	case *parleyv1.Part_ToolCall:
		kind.ToolCall.ArgumentsJson = p.text.String()
	}
	part.Citations = append(part.Citations, p.citations...)
	return part
}

func implied(delta *parleyv1.PartDelta) *parleyv1.Part {
	switch delta.GetDelta().(type) {
	case *parleyv1.PartDelta_Text, *parleyv1.PartDelta_Citation:
		return Text("")
	case *parleyv1.PartDelta_Reasoning:
		return &parleyv1.Part{Kind: &parleyv1.Part_Reasoning{Reasoning: &parleyv1.ReasoningPart{}}}
	case *parleyv1.PartDelta_ArgumentsJson:
		return &parleyv1.Part{Kind: &parleyv1.Part_ToolCall{ToolCall: &parleyv1.ToolCall{}}}
	default:
		return &parleyv1.Part{}
	}
}
