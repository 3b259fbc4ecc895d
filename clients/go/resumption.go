package parley

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/parley-gateway/parley/clients/go/parleyv1"
)

const (
	resumeTries   = 6
	resumeFirst   = 50 * time.Millisecond
	resumeLongest = 2 * time.Second
)

// resumption is how far a stream has come, and whether it may go on after a failure. Only what says nothing of the answer
// itself is taken up: a connection that broke, a gateway that goes away or cannot look up what another one generates. Six
// tries without an event in between are enough.
type resumption struct {
	responseID string
	last       int32
	tries      int
	broken     error
}

func (r *resumption) seen(event *parleyv1.StreamChatResponse) {
	r.tries = 0
	r.last = max(r.last, event.GetSequence()) // heartbeats have 0
	if started := event.GetStarted(); started.GetResumeExpireTime() != nil {
		r.responseID = started.GetResponseId()
	}
}

// wait is how long to wait before the stream is asked for again; false: it is over.
func (r *resumption) wait(err error) (time.Duration, bool) {
	var (
		connection *ConnectionFailed
		shutting   *ShuttingDown
		state      *StateUnavailable
		truncated  *Truncated
	)
	taken := errors.As(err, &connection) || errors.As(err, &shutting) || errors.As(err, &state) || errors.As(err, &truncated)
	if r.responseID == "" || !taken {
		return 0, false
	}
	if r.tries == 0 {
		r.broken = err
	}
	r.tries++
	if r.tries > resumeTries {
		return 0, false
	}
	longest := min(resumeFirst<<(r.tries-1), resumeLongest)
	return time.Duration(float64(longest) * (0.5 + rand.Float64()/2)), true
}

// told is what to tell of err: where the answer is gone, what broke the stream says more than that.
func (r *resumption) told(err error) error {
	var (
		unknown *ResponseNotFound
		expired *ResumeWindowExpired
	)
	if r.tries > 0 && r.broken != nil && (errors.As(err, &unknown) || errors.As(err, &expired)) {
		return r.broken
	}
	return err
}
