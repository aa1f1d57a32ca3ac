package eventstore

const (
	PollInterval   = pollInterval
	MaxBatchEvents = maxBatchEvents
	QueuedRequests = queuedRequests
	MaxPageBytes   = maxPageBytes
)

// Queued is how many appends wait for the batch that is being written.
func (p *Postgres) Queued() int { return len(p.appender.queue) }

// Closing is true when no more appends are accepted.
func (p *Postgres) Closing() bool {
	p.appender.closing.RLock()
	defer p.appender.closing.RUnlock()
	return p.appender.closed
}
