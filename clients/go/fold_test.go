package parley

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

func started(index int32, part *parleyv1.Part) *parleyv1.StreamChatResponse {
	event := &parleyv1.PartStarted{PartIndex: index, Part: part}
	return &parleyv1.StreamChatResponse{Event: &parleyv1.StreamChatResponse_PartStarted{PartStarted: event}}
}

func delta(index int32, text string) *parleyv1.StreamChatResponse {
	event := &parleyv1.PartDelta{PartIndex: index, Delta: &parleyv1.PartDelta_Text{Text: text}}
	return &parleyv1.StreamChatResponse{Event: &parleyv1.StreamChatResponse_PartDelta{PartDelta: event}}
}

func completed(reason parleyv1.FinishReason) *parleyv1.StreamChatResponse {
	event := &parleyv1.ResponseCompleted{FinishReason: reason}
	return &parleyv1.StreamChatResponse{Event: &parleyv1.StreamChatResponse_Completed{Completed: event}}
}

func folded(events ...*parleyv1.StreamChatResponse) *Reply {
	var fold Fold
	for _, event := range events {
		fold.Feed(event)
	}
	return &Reply{fold.Response()}
}

func TestPartsAreInTheOrderOfTheirIndexes(t *testing.T) {
	reply := folded(started(1, Text("")), delta(1, "world"), started(0, Text("")), delta(0, "hello "))
	if reply.Text() != "hello world" {
		t.Error(reply.Text())
	}
}

func TestADeltaWithoutItsStartIsKept(t *testing.T) {
	if reply := folded(delta(0, "hel"), delta(0, "lo")); reply.Text() != "hello" {
		t.Error(reply.Text())
	}
}

func TestAnotherAttemptTakesPartsBack(t *testing.T) {
	fallback := &parleyv1.FallbackStarted{FirstValidPartIndex: 1}
	event := &parleyv1.StreamChatResponse{Event: &parleyv1.StreamChatResponse_FallbackStarted{FallbackStarted: fallback}}
	reply := folded(started(0, Text("")), delta(0, "no"), event, started(1, Text("")), delta(1, "yes"))
	if reply.Text() != "yes" {
		t.Error(reply.Text())
	}
}

func TestTheResponseSoFarIsACopy(t *testing.T) {
	var fold Fold
	fold.Feed(started(0, Text("")))
	fold.Feed(delta(0, "a"))
	before := fold.Response()
	fold.Feed(delta(0, "b"))
	fold.Feed(completed(parleyv1.FinishReason_FINISH_REASON_STOP))
	if before.GetMessage().GetParts()[0].GetText() != "a" || before.GetFinishReason() != 0 {
		t.Error(before)
	}
	if !fold.Complete() || !proto.Equal(fold.Response(), fold.Response()) {
		t.Error(fold.Response())
	}
}

func TestAnUnknownKindOfPartKeepsItsPlace(t *testing.T) {
	reply := folded(started(0, Text("")), delta(0, "a"), started(1, &parleyv1.Part{}), started(2, Text("")), delta(2, "b"))
	if reply.Text() != "ab" || len(reply.Message().GetParts()) != 3 {
		t.Error(reply.Message())
	}
}
