package parley

import (
	"context"
	"iter"
	"time"

	"google.golang.org/grpc"

	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

const stopTimeout = 5 * time.Second

// Stream is an answer that is still arriving, seen through lenses: Text for the text, Events for everything; Reply is the
// whole. All lenses read the same events: what one has taken the others do not see again, but Reply and Partial know all
// of them. One goroutine reads at a time; others may call Close.
type Stream struct {
	client   *Client
	ctx      context.Context
	cancel   context.CancelFunc
	options  *parleyv1.StreamOptions
	call     grpc.ServerStreamingClient[parleyv1.StreamChatResponse]
	fold     Fold
	at       resumption
	resume   bool
	outlasts bool
	begun    bool
	over     bool
	err      error
}

func (c *Client) stream(ctx context.Context, request *parleyv1.StreamChatRequest, resume, outlasts bool) *Stream {
	ctx, cancel := c.outgoing(ctx, c.timeout)
	stream := &Stream{client: c, ctx: ctx, cancel: cancel, options: request.GetOptions(), resume: resume, outlasts: outlasts}
	stream.at = resumption{responseID: request.GetResume().GetResponseId(), last: request.GetResume().GetAfterSequence()}
	call, err := c.stub.StreamChat(ctx, request)
	if err != nil {
		stream.err = fromRPC(ctx, err, c.address, false)
	}
	stream.call = call
	return stream
}

// Text is the text as it comes, without reasoning and refusals. A stream that breaks gives a typed error at the end.
func (s *Stream) Text() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for event, err := range s.Events() {
			if err != nil {
				yield("", err)
				return
			}
			delta := event.GetPartDelta()
			if text, is := delta.GetDelta().(*parleyv1.PartDelta_Text); is && s.fold.isText(delta.GetPartIndex()) {
				if !yield(text.Text, nil) {
					return
				}
			}
		}
	}
}

// Events is everything as it comes, heartbeats too. Skip kinds that you do not know.
func (s *Stream) Events() iter.Seq2[*parleyv1.StreamChatResponse, error] {
	return func(yield func(*parleyv1.StreamChatResponse, error) bool) {
		for {
			event, err := s.next()
			if err != nil {
				yield(nil, err)
				return
			}
			if event == nil || !yield(event, nil) {
				return
			}
		}
	}
}

// Reply is the whole answer: it reads what has not been read yet.
func (s *Stream) Reply() (*Reply, error) {
	for _, err := range s.Events() {
		if err != nil {
			return nil, err
		}
	}
	return s.Partial(), nil
}

// Partial is what has arrived so far; its finish reason is "unspecified" until that is everything.
func (s *Stream) Partial() *Reply { return &Reply{s.fold.Response()} }

// ResponseID is the ID by which a resumable answer can be taken up again; empty before its first event, or if it cannot.
func (s *Stream) ResponseID() string { return s.at.responseID }

// LastSequence is the number of the newest event that has arrived; 0 before the first.
func (s *Stream) LastSequence() int32 { return s.at.last }

// Close ends the call, and the work behind it if the answer is not complete. Whoever is reading gets *Cancelled.
func (s *Stream) Close() {
	s.cancel()
	if s.resume && !s.outlasts && s.at.responseID != "" && !s.fold.Complete() {
		s.outlasts = true // once is enough
		ctx, cancel := s.client.outgoing(context.WithoutCancel(s.ctx), stopTimeout)
		id := s.at.responseID
		go func() {
			defer cancel()
			// Nobody waits for this: a gateway that cannot be told stops at the end of the answer.
			_, _ = s.client.stub.CancelChat(ctx, &parleyv1.CancelChatRequest{ResponseId: id})
		}()
	}
}

// next is the next event; nil after the last one.
func (s *Stream) next() (*parleyv1.StreamChatResponse, error) {
	for s.err == nil && !s.over {
		event, err := s.call.Recv()
		if err == nil {
			s.begun = true
			s.at.seen(event)
			s.fold.Feed(event)
			return event, nil
		}
		if s.fold.Complete() {
			s.over = true
			break
		}
		failed := fromRPC(s.ctx, err, s.client.address, s.begun)
		if wait, goesOn := s.at.wait(failed); s.resume && goesOn && s.sleep(wait) {
			s.again()
			continue
		}
		s.err = s.at.told(failed)
	}
	return nil, s.err
}

// again asks for the rest.
func (s *Stream) again() {
	from := &parleyv1.ResumeFrom{ResponseId: s.at.responseID, AfterSequence: s.at.last}
	request := &parleyv1.StreamChatRequest{
		Start:   &parleyv1.StreamChatRequest_Resume{Resume: from},
		Options: &parleyv1.StreamOptions{HeartbeatInterval: s.options.GetHeartbeatInterval()},
	}
	call, err := s.client.stub.StreamChat(s.ctx, request)
	if err != nil {
		s.err = fromRPC(s.ctx, err, s.client.address, true)
	}
	s.call = call
}

// sleep waits; whether there is time left after that.
func (s *Stream) sleep(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}
