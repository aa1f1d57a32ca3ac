package projections

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"dixie/eventstore"
	"dixie/reputation"
)

const (
	// rangeEvents is how many positions one COPY reads: few enough that its snapshot
	// does not keep the database from vacuuming for long.
	rangeEvents = 50_000

	// A batch is sent on when it has as many bytes or events. They bound memory.
	batchBytes  = 256 << 10
	batchEvents = 1000

	// maxDecoders keep up with what one COPY sends.
	maxDecoders = 4

	// maxRest bounds a rest: work of a batch takes a few milliseconds.
	maxRest = 100 * time.Millisecond

	// beatInterval is how often the fold shows that it is alive while it waits.
	beatInterval = 500 * time.Millisecond

	// logSettings keep the planner to the primary key: statistics that call the log
	// short would have it read the whole log for each range. The session holds nothing,
	// and waits while rows are loaded.
	logSettings = `
		SET enable_seqscan = off;
		SET enable_bitmapscan = off;
		SET enable_sort = off;
		SET statement_timeout = 0;
		SET idle_session_timeout = 0`
)

// logReader reads the log fast: binary COPY, which costs server and client least,
// and decoding on all processors. It is not safe for concurrent use.
type logReader struct {
	conn   *pgx.Conn
	audit  bool // read all columns, and compare them with the events
	effort effort
}

// effort is how much of the machine may be kept busy.
type effort struct {
	processors int     // that decode or fold at a time; 0 is all that there are
	rest       float64 // of a processor after work, as a multiple of its time
}

func newLogReader(ctx context.Context, conn *pgx.Conn) (*logReader, error) {
	_, err := conn.Exec(ctx, logSettings)
	return &logReader{conn: conn}, unavailable("set the reader of the log up", err)
}

// fields is how many columns are read.
func (l *logReader) fields() int {
	if l.audit {
		return auditFields
	}
	return eventFields
}

func (l *logReader) head(ctx context.Context) (head int64, err error) {
	err = l.conn.QueryRow(ctx, `SELECT coalesce(max(position), 0) FROM reputation_events`).Scan(&head)
	return head, unavailable("read the log's head", err)
}

// each calls fold with the events after one position up to another, some at a time
// and in order. They are valid until it returns, and whether positions are missing
// is its to find out. While there are none, beat is called now and then. The error
// is theirs, or says that the log could not be read, in which case the reader
// cannot be used any more.
func (l *logReader) each(
	ctx context.Context, after, until int64, fold func([]eventstore.PageEvent) error, beat func() error,
) error {
	return l.eachBatch(ctx, after, until, func(b *logBatch) error { return fold(b.events) }, beat)
}

// eachBatch is like each for whoever also wants to know what an audit has found.
func (l *logReader) eachBatch(
	ctx context.Context, after, until int64, fold func(*logBatch) error, beat func() error,
) error {
	return runPipeline(ctx, l.fields(), l.effort, fold, beat, func(ctx context.Context, p *logPipeline) error {
		return p.read(ctx, l, after, until)
	})
}

// runPipeline decodes what read writes and calls fold with it, in order. The tuples
// have so many fields.
func runPipeline(
	ctx context.Context, fields int, e effort, fold func(*logBatch) error, beat func() error, read func(context.Context, *logPipeline) error,
) error {
	group, ctx := errgroup.WithContext(ctx)
	decoders := min(runtime.GOMAXPROCS(0), maxDecoders)
	if e.processors <= 0 {
		e.processors = decoders + 1
	}
	// As many batches as all stages can be busy with at once.
	n := 2*decoders + 3
	p := &logPipeline{
		free: make(chan *logBatch, n), raw: make(chan *logBatch, n), ordered: make(chan *logBatch, n),
		busy: make(chan struct{}, e.processors), rest: e.rest,
	}
	for range n {
		p.free <- &logBatch{ready: make(chan error, 1), fields: fields}
	}
	group.Go(func() error {
		defer close(p.raw)
		defer close(p.ordered)
		return read(ctx, p)
	})
	for range decoders {
		group.Go(func() error {
			for batch := range p.raw {
				batch.ready <- p.work(batch.decode)
			}
			return nil
		})
	}
	group.Go(func() error { return p.fold(fold, beat) })
	return group.Wait()
}

// logPipeline has one goroutine that reads, several that decode, and one that
// folds in the order of reading.
type logPipeline struct {
	free, raw, ordered chan *logBatch
	busy               chan struct{} // has a value for each processor that is used
	rest               float64       // as in effort
}

func (p *logPipeline) read(ctx context.Context, log *logReader, after, until int64) error {
	columns := strings.Join([]string{"position", "nft_id", "event", "event_type", "created_at", "id"}[:log.fields()], ", ")
	for after < until {
		to := min(after+rangeEvents, until)
		writer := newTupleWriter(ctx, p, log.fields())
		_, err := log.conn.PgConn().CopyTo(ctx, writer, fmt.Sprintf(`
			COPY (SELECT %s FROM reputation_events WHERE position > %d AND position <= %d ORDER BY position)
			TO STDOUT (FORMAT binary)`, columns, after, to))
		if err == nil {
			err = writer.finish()
		}
		if err != nil {
			return unavailable("read the log", err)
		}
		after = to
	}
	return nil
}

// work keeps a processor busy, and idle afterwards for as long as it is to rest.
func (p *logPipeline) work(do func() error) error {
	p.busy <- struct{}{}
	defer func() { <-p.busy }()
	defer rest(p.rest, time.Now())
	return do()
}

// rest waits for a multiple of the time since work began, which the work may have spent
// on waiting for others too: it is bounded.
func rest(multiple float64, since time.Time) {
	if multiple > 0 {
		time.Sleep(min(time.Duration(multiple*float64(time.Since(since))), maxRest))
	}
}

func (p *logPipeline) fold(fold func(*logBatch) error, beat func() error) error {
	ticker := time.NewTicker(beatInterval)
	defer ticker.Stop()
	for {
		select {
		case batch, more := <-p.ordered:
			if !more {
				return nil
			}
			err := <-batch.ready
			if err == nil {
				err = p.work(func() error { return fold(batch) })
			}
			if err != nil {
				return err
			}
			p.free <- batch
		case <-ticker.C:
			if err := beat(); err != nil {
				return err
			}
		}
	}
}

// logBatch is a run of events on its way through the pipeline.
type logBatch struct {
	tuples []byte // whole ones of a binary COPY
	events []eventstore.PageEvent
	ready  chan error // has a value when events are decoded

	fields int                 // of a tuple
	hashes [][sha256.Size]byte // of the events, when they are audited
	found  []Difference        // by the audit, in order
}

const (
	copyHeader   = 19 // bytes before the first tuple of a binary COPY
	jsonbVersion = 1  // the byte before the text of a jsonb
	eventFields  = 3  // columns that are read
	auditFields  = 6  // columns that are read to be audited
)

var errCopyFormat = errors.New("unexpected data of COPY")

// tupleWriter cuts what a COPY sends, in pieces of any size, into batches of whole
// tuples. It waits while the pipeline is full.
type tupleWriter struct {
	ctx      context.Context
	pipeline *logPipeline
	header   int // bytes of the header that are still to come
	fields   int // of a tuple
	batch    *logBatch
	whole    int // bytes of the batch that are whole tuples
	count    int
}

func newTupleWriter(ctx context.Context, p *logPipeline, fields int) *tupleWriter {
	return &tupleWriter{ctx: ctx, pipeline: p, header: copyHeader, fields: fields}
}

// Write implements [io.Writer].
func (w *tupleWriter) Write(piece []byte) (int, error) {
	n := len(piece)
	skip := min(w.header, n)
	w.header -= skip
	if w.batch == nil {
		batch, err := w.next()
		if err != nil {
			return 0, err
		}
		w.batch = batch
	}
	w.batch.tuples = append(w.batch.tuples, piece[skip:]...)
	for {
		length, err := tupleLength(w.batch.tuples[w.whole:], w.fields)
		if err != nil {
			return 0, err
		}
		if length == 0 {
			return n, nil
		}
		w.whole += length
		w.count++
		if w.whole >= batchBytes || w.count == batchEvents {
			if err := w.cut(); err != nil {
				return 0, err
			}
		}
	}
}

func (w *tupleWriter) next() (*logBatch, error) {
	select {
	case batch := <-w.pipeline.free:
		batch.tuples = batch.tuples[:0]
		return batch, nil
	case <-w.ctx.Done():
		return nil, context.Cause(w.ctx)
	}
}

// cut sends the whole tuples on and keeps what follows them.
func (w *tupleWriter) cut() error {
	next, err := w.next()
	if err != nil {
		return err
	}
	next.tuples = append(next.tuples, w.batch.tuples[w.whole:]...)
	w.send()
	w.batch = next
	return nil
}

// send never waits: there are no more batches than have room.
func (w *tupleWriter) send() {
	w.batch.tuples = w.batch.tuples[:w.whole]
	w.pipeline.ordered <- w.batch
	w.pipeline.raw <- w.batch
	w.batch, w.whole, w.count = nil, 0, 0
}

// finish sends what is left when the COPY has ended: after the tuples there is
// only a field count of -1.
func (w *tupleWriter) finish() error {
	if w.batch == nil || len(w.batch.tuples)-w.whole != 2 {
		return fmt.Errorf("%w: it ends within a tuple", errCopyFormat)
	}
	w.send()
	return nil
}

// tupleLength is the length of the first tuple, and 0 when it is not all there or
// the end of the tuples.
func tupleLength(b []byte, fields int) (int, error) {
	if len(b) < 2 {
		return 0, nil
	}
	switch found := int16(binary.BigEndian.Uint16(b)); int(found) {
	case -1:
		return 0, nil
	case fields:
	default:
		return 0, fmt.Errorf("%w: a tuple of %d fields", errCopyFormat, found)
	}
	at := 2
	for range fields {
		if len(b) < at+4 {
			return 0, nil
		}
		length := int32(binary.BigEndian.Uint32(b[at:]))
		at += 4 + max(0, int(length)) // -1 is the length of null
	}
	if len(b) < at {
		return 0, nil
	}
	return at, nil
}

func (b *logBatch) decode() error {
	b.events, b.hashes, b.found = b.events[:0], b.hashes[:0], b.found[:0]
	for rest := b.tuples; len(rest) > 0; {
		length, err := tupleLength(rest, b.fields)
		if err != nil || length == 0 {
			return errors.Join(errCopyFormat, err)
		}
		b.events = append(b.events, eventstore.PageEvent{})
		e, t := &b.events[len(b.events)-1], tuple{rest: rest[2:length]}
		if err := t.event(e); err != nil {
			return err
		}
		if b.fields == auditFields {
			b.examine(&t, e)
		}
		rest = rest[length:]
	}
	return nil
}

// tuple is a whole tuple that is being read.
type tuple struct {
	rest []byte
	text string // of the event
}

// field is the next field, and nil for null.
func (t *tuple) field() []byte {
	length := int32(binary.BigEndian.Uint32(t.rest))
	t.rest = t.rest[4:]
	if length < 0 {
		return nil
	}
	field := t.rest[:length]
	t.rest = t.rest[length:]
	return field
}

// event reads position, nft_id and event. The strings of the event are parts of one
// copy of its text.
func (t *tuple) event(e *eventstore.PageEvent) error {
	position := t.field()
	if len(position) != 8 {
		return fmt.Errorf("%w: a position that is no bigint", errCopyFormat)
	}
	e.Position = int64(binary.BigEndian.Uint64(position))
	both := t.rest
	nft, event := len(t.field()), t.field()
	if len(event) == 0 || event[0] != jsonbVersion {
		return fmt.Errorf("%w: an event that is no jsonb", errCopyFormat)
	}
	const length = 4
	copied := string(both[length : length+nft+length+len(event)])
	e.NFT, t.text = copied[:nft], copied[nft+length+len("\x01"):]
	e.Event, e.Err = reputation.DecodeText(t.text)
	return nil
}
