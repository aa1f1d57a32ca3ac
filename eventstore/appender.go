package eventstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// maxBatchEvents and maxBatchBytes bound one transaction. A single request may
	// exceed them.
	maxBatchEvents = 4000
	maxBatchBytes  = 4 << 20

	// queuedRequests is how many callers can wait without blocking in the send; the
	// rest wait in theirs.
	queuedRequests = 1024

	// writeTimeout bounds one batch, including the wait for the log's lock.
	writeTimeout = 30 * time.Second
)

// appender turns concurrent appends into few transactions. Positions are given
// out under one lock, so commits are sequential, and a commit costs a flush of
// the disk: requests that arrive during one share the next. There is no timer; a
// request that finds the writer idle is written at once.
type appender struct {
	write     func(ctx context.Context, batch []Entry) ([]Appended, error)
	queue     chan *request
	observers observers

	life   context.Context // of the writes
	giveUp context.CancelFunc

	// closing is held for reading while a request is being queued, so that the
	// queue is closed only when nobody sends.
	closing sync.RWMutex
	closed  bool
}

type request struct {
	caller  context.Context // for observers only: an append that was queued is written
	entries []Entry
	done    chan struct{} // closed when results and err are set
	results []Appended
	err     error
}

func newAppender(write func(context.Context, []Entry) ([]Appended, error), observers ...Observer) *appender {
	a := &appender{write: write, queue: make(chan *request, queuedRequests), observers: observers}
	a.life, a.giveUp = context.WithCancel(context.Background())
	return a
}

// append queues entries and waits for their results. When ctx ends first, the
// entries may still be written: copies of them, as the caller may use its slice
// for others by then.
func (a *appender) append(ctx context.Context, entries []Entry) ([]Appended, error) {
	r := &request{caller: ctx, entries: slices.Clone(entries), done: make(chan struct{})}
	if err := a.enqueue(ctx, r); err != nil {
		return nil, err
	}
	select {
	case <-r.done:
		return r.results, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("append: %w: %w", ErrUnavailable, ctx.Err())
	}
}

func (a *appender) enqueue(ctx context.Context, r *request) error {
	a.closing.RLock()
	defer a.closing.RUnlock()
	if a.closed {
		return ErrClosed
	}
	if ctx.Err() != nil { // or select would choose by chance
		return fmt.Errorf("append: %w: %w", ErrUnavailable, ctx.Err())
	}
	select {
	case a.queue <- r:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("append: %w: %w", ErrUnavailable, ctx.Err())
	}
}

// close ends run when what is queued has been written, or after giveUp has failed.
func (a *appender) close() {
	a.closing.Lock()
	defer a.closing.Unlock()
	if !a.closed {
		a.closed = true
		close(a.queue)
	}
}

// run writes batches until the appender is closed.
func (a *appender) run() {
	for first := range a.queue {
		a.commit(a.collect(first))
	}
}

// collect takes what is waiting, up to the bounds of a batch.
func (a *appender) collect(first *request) []*request {
	batch := []*request{first}
	events, bytes := first.size()
	for events < maxBatchEvents && bytes < maxBatchBytes {
		select {
		case r, ok := <-a.queue:
			if !ok {
				return batch
			}
			n, b := r.size()
			events, bytes = events+n, bytes+b
			batch = append(batch, r)
		default:
			return batch
		}
	}
	return batch
}

func (r *request) size() (events, bytes int) {
	for i := range r.entries {
		bytes += len(r.entries[i].JSON)
	}
	return len(r.entries), bytes
}

// commit writes a batch in one transaction. If the database refuses the values of
// one request, the others are written without it.
func (a *appender) commit(batch []*request) {
	results, err := a.writeObserved(batch, entriesOf(batch))
	if isData(err) && len(batch) > 1 {
		half := len(batch) / 2
		a.commit(batch[:half])
		a.commit(batch[half:])
		return
	}
	for _, r := range batch {
		if r.err = err; err == nil {
			r.results, results = results[:len(r.entries):len(r.entries)], results[len(r.entries):]
		}
		close(r.done)
	}
}

// entriesOf are the entries of all requests, in their order.
func entriesOf(batch []*request) []Entry {
	if len(batch) == 1 {
		return batch[0].entries
	}
	count := 0
	for _, r := range batch {
		count += len(r.entries)
	}
	entries := make([]Entry, 0, count)
	for _, r := range batch {
		entries = append(entries, r.entries...)
	}
	return entries
}

// writeObserved writes the entries of a batch while the observers look on.
func (a *appender) writeObserved(batch []*request, entries []Entry) ([]Appended, error) {
	ctx, cancel := context.WithTimeout(a.life, writeTimeout)
	defer cancel()
	if len(a.observers) == 0 {
		return a.write(ctx, entries)
	}
	callers := make([]context.Context, len(batch))
	for i, r := range batch {
		callers[i] = r.caller
	}
	ctx, done := a.observers.start(ctx, Batch{Callers: callers, Events: len(entries)})
	results, err := a.write(ctx, entries)
	done(err)
	return results, err
}
