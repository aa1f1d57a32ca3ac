package eventstore

import "context"

// Observer follows the batches that a log writes, for metrics or traces. It is
// called by the one goroutine that writes, which waits for it.
type Observer interface {
	// BatchStarted is called when a batch is about to be written. The log writes it
	// with the context that this returns, which is ctx or made of it, and then calls
	// done once.
	BatchStarted(ctx context.Context, batch Batch) (_ context.Context, done func(error))
}

// Batch is what one transaction appends.
type Batch struct {
	Callers []context.Context // of the appends; some of them may have ended
	Events  int               // of all appends, duplicates included
}

// observers tells several.
type observers []Observer

func (o observers) start(ctx context.Context, batch Batch) (context.Context, func(error)) {
	ends := make([]func(error), len(o))
	for i, observer := range o {
		ctx, ends[i] = observer.BatchStarted(ctx, batch)
	}
	return ctx, func(err error) {
		for _, end := range ends {
			end(err)
		}
	}
}

// Queued is the number of appends that wait to be written.
func (p *Postgres) Queued() int { return len(p.appender.queue) }
