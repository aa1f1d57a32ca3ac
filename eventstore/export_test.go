package eventstore

const (
	PollInterval   = pollInterval
	MaxBatchEvents = maxBatchEvents
	QueuedRequests = queuedRequests
	MaxPageBytes   = maxPageBytes
)

// Closing is true when no more appends are accepted.
func (p *Postgres) Closing() bool {
	p.appender.closing.RLock()
	defer p.appender.closing.RUnlock()
	return p.appender.closed
}
