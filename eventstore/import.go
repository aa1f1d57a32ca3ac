package eventstore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"dixie/reputation"
)

const (
	// importBatch is how many lines are appended together.
	importBatch = 1000
	// maxRejected bounds the rejected lines that a report lists.
	maxRejected = 100
	// maxRawLine is the longest line of an export that [Importer.KeepInvalid] brings
	// back: what PostgreSQL takes as one jsonb value is not longer.
	maxRawLine = 256 << 20
)

var errLineTooLong = fmt.Errorf("must have at most %d bytes", reputation.MaxLineBytes)

// Importer stores NDJSON lines of events (see [reputation.DecodeLine]) in bulk.
// While one batch is being stored the next is decoded, and no more, so that
// memory does not grow with the file. It is safe for concurrent use.
type Importer struct {
	Log Store
	// KeepInvalid stores events that validation refuses, as another program's
	// INSERT would, so that an export of a log that has such events can be read
	// back to the same log, whatever was in a row. Lines that are no JSON are rejected
	// all the same. A line is in memory as a whole: not for callers who are not trusted.
	KeepInvalid bool
	// Observe is told what became of the lines of each batch when they are stored. It
	// may be nil.
	Observe func(appended, duplicates, rejected int64)
}

// Import reads lines until the end of in. check may refuse a valid event; alive
// is called before each batch. Both may be nil. With an error the report says
// what was stored until then: importing the same lines again is safe. The error
// is a [*reputation.ReadError] when in failed.
func (i Importer) Import(ctx context.Context, in io.Reader, check func(nft string, e *reputation.Event) error, alive func()) (reputation.ImportReport, error) {
	run := &importRun{Importer: i, lines: i.lineReader(in), check: check, alive: alive}
	run.report.RejectedLines = []reputation.RejectedLine{}
	reading, stop := context.WithCancel(ctx)
	chunks := make(chan *importChunk)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(chunks)
		run.read(reading, chunks)
	}()
	var err error
	for chunk := range chunks {
		if err = run.store(ctx, chunk); err != nil {
			break
		}
	}
	stop()
	<-done
	if err == nil {
		err = ctx.Err() // the chunks may have ended before the lines
	}
	return run.report, err
}

func (i Importer) lineReader(in io.Reader) *lineReader {
	lines := newLineReader(in)
	if i.KeepInvalid {
		lines.most = maxRawLine
	}
	return lines
}

// importRun is one bulk import.
type importRun struct {
	Importer
	lines  *lineReader
	check  func(nft string, e *reputation.Event) error
	alive  func()
	report reputation.ImportReport
}

// importChunk is a batch of decoded lines.
type importChunk struct {
	entries  []Entry
	numbers  []int64 // the lines of entries
	rejected []reputation.RejectedLine
	lines    int64
	err      error // why no chunk follows, if not the end of the file
}

// read decodes lines into chunks.
func (r *importRun) read(ctx context.Context, chunks chan<- *importChunk) {
	for more := true; more; {
		if r.alive != nil {
			r.alive()
		}
		chunk := r.next()
		more = chunk.err == nil
		if errors.Is(chunk.err, io.EOF) {
			chunk.err = nil
		}
		select {
		case chunks <- chunk:
		case <-ctx.Done():
			return
		}
	}
}

// next is the next chunk. Its error is io.EOF when it is the last.
func (r *importRun) next() *importChunk {
	chunk := &importChunk{}
	for bytes := 0; chunk.lines < importBatch && bytes < maxBatchBytes; {
		line, number, err := r.lines.next()
		if err != nil {
			chunk.err = err
			break
		}
		chunk.lines++
		bytes += len(line)
		entry, err := r.entry(line)
		if err != nil {
			chunk.reject(number, err.Error())
			continue
		}
		chunk.entries = append(chunk.entries, entry)
		chunk.numbers = append(chunk.numbers, number)
	}
	return chunk
}

// entry makes an entry of a line; nil is a line that was too long.
func (r *importRun) entry(line []byte) (Entry, error) {
	nft, event, err := NumberedLine{text: line}.Decode()
	if err == nil && r.check != nil {
		err = r.check(nft, &event)
	}
	if err == nil {
		return NewEntry(nft, &event), nil
	}
	if r.KeepInvalid && line != nil {
		if raw, rawErr := reputation.RawLine(line); rawErr == nil {
			return raw, nil
		}
	}
	return Entry{}, err
}

func (c *importChunk) reject(number int64, reason string) {
	c.rejected = append(c.rejected, reputation.RejectedLine{Line: number, Reason: reason})
}

// store appends a chunk and counts it.
func (r *importRun) store(ctx context.Context, chunk *importChunk) error {
	before := r.report
	if len(chunk.entries) > 0 {
		results, err := r.Log.Append(ctx, chunk.entries...)
		if err != nil {
			return err
		}
		for i, result := range results {
			switch result.Status {
			case Added:
				r.report.Appended++
			case Duplicate:
				r.report.Duplicates++
			default:
				chunk.reject(chunk.numbers[i], fmt.Sprintf("event.event_id: is stored with other content, at position %d", result.Position))
			}
		}
	}
	r.report.Lines += chunk.lines
	r.report.Rejected += int64(len(chunk.rejected))
	if r.Observe != nil {
		r.Observe(r.report.Appended-before.Appended, r.report.Duplicates-before.Duplicates, r.report.Rejected-before.Rejected)
	}
	room := maxRejected - len(r.report.RejectedLines)
	r.report.RejectedLines = append(r.report.RejectedLines, chunk.rejected[:min(room, len(chunk.rejected))]...)
	return chunk.err
}

// lineReader cuts a stream into lines of bounded length.
type lineReader struct {
	in     *bufio.Reader
	most   int    // bytes of a line
	spare  []byte // for lines that do not fit into in
	number int64
}

func newLineReader(in io.Reader) *lineReader {
	return &lineReader{in: bufio.NewReaderSize(in, reputation.MaxLineBytes+2), most: reputation.MaxLineBytes}
}

// next returns the next line that is not empty and its number. The line is valid
// until the next call, and nil when it was too long, which is skipped. The error
// is io.EOF at the end, and else a [*reputation.ReadError].
func (l *lineReader) next() ([]byte, int64, error) {
	for {
		line, err := l.in.ReadSlice('\n')
		if len(line) > 0 {
			l.number++
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			if line, err = l.rest(line); line == nil {
				return nil, l.number, err
			}
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, l.number, &reputation.ReadError{Line: l.number, Err: err}
		}
		if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 {
			return trimmed, l.number, nil
		}
		if err != nil {
			return nil, l.number, io.EOF
		}
	}
}

// rest reads on to the end of a line. It returns nil when the line is longer than it may
// be, and has skipped it then.
func (l *lineReader) rest(begun []byte) ([]byte, error) {
	l.spare = l.spare[:0]
	for piece, err := begun, bufio.ErrBufferFull; ; piece, err = l.in.ReadSlice('\n') {
		if len(l.spare)+len(piece) > l.most {
			if errors.Is(err, bufio.ErrBufferFull) {
				return nil, l.skip()
			}
			return nil, nil
		}
		l.spare = append(l.spare, piece...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return l.spare, err
		}
	}
}

// skip reads to the end of a line that is too long.
func (l *lineReader) skip() error {
	for {
		_, err := l.in.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err == nil, errors.Is(err, io.EOF):
			return nil // an end of the stream is found again by the next call
		default:
			return &reputation.ReadError{Line: l.number, Err: err}
		}
	}
}

// NumberedLine is a line of an NDJSON file that is not empty.
type NumberedLine struct {
	Number int64  // from 1
	text   []byte // nil when the line was too long
}

// Read splits the line without reading the event in it.
func (l NumberedLine) Read() (reputation.Line, error) {
	if l.text == nil {
		return reputation.Line{}, errLineTooLong
	}
	return reputation.ReadLine(l.text)
}

// Decode reads the event of the line as an import does.
func (l NumberedLine) Decode() (nft string, event reputation.Event, err error) {
	if l.text == nil {
		return "", event, errLineTooLong
	}
	return reputation.DecodeLine(l.text)
}

// Lines yields the lines of a file, each valid until the next. It ends after the
// first error that it yields, a [*reputation.ReadError] or ctx's.
func Lines(ctx context.Context, in io.Reader) iter.Seq2[NumberedLine, error] {
	return func(yield func(NumberedLine, error) bool) {
		lines := newLineReader(in)
		for {
			text, number, err := lines.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				err = ctx.Err()
			}
			if !yield(NumberedLine{Number: number, text: text}, err) || err != nil {
				return
			}
		}
	}
}
