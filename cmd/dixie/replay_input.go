package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"

	"dixie/eventstore"
	"dixie/reputation"
)

func (r *replayRun) file(ctx context.Context, c *console) error {
	in, size, err := openInput(c, r.File)
	if err != nil {
		return err
	}
	defer in.Close()
	bar := startProgress(c.err, "replay", "bytes", size)
	plain, err := decompress(bar.reader(in))
	if err != nil {
		return err
	}
	events, err := r.fold(fileEvents(ctx, plain))
	if err == nil {
		bar.finish(r.result(events))
	}
	return err
}

func (r *replayRun) database(ctx context.Context, c *console) error {
	pool, err := r.Database.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	log := eventstore.ReadPostgres(pool)
	head, err := log.Head(ctx)
	if err != nil {
		return err
	}
	if err := r.refuseBeyond(head); err != nil {
		return err
	}
	total := head
	if r.until != nil && !r.until.IsTime() {
		total = min(head, r.until.Position)
	}
	bar := startProgress(c.err, "replay", "events", total)
	events, err := r.fold(func(yield func(replayed, error) bool) {
		for recorded, err := range eventstore.All(ctx, log, 0, head) {
			event, invalid := recorded.Event()
			if !yield(replayed{recorded.Position, recorded.CreatedAt, recorded.NFT, event, invalid, recorded.JSON}, err) {
				return
			}
			bar.add(1)
		}
	})
	if err == nil {
		bar.finish(r.result(events))
	}
	return err
}

// fileEvents are the events of a file. What import rejects is passed over, and so is
// an event that came before.
func fileEvents(ctx context.Context, in io.Reader) iter.Seq2[replayed, error] {
	return func(yield func(replayed, error) bool) {
		log := fileLog{seen: map[[16]byte][sha256.Size]byte{}}
		for line, err := range eventstore.Lines(ctx, in) {
			if err != nil {
				yield(replayed{}, err)
				return
			}
			if e, again := log.next(line); !again && !yield(e, nil) {
				return
			}
		}
	}
}

// fileLog gives the events of a file their positions: those that an export tells,
// and else those that an import of the file into an empty log would give.
type fileLog struct {
	seen     map[[16]byte][sha256.Size]byte // content, by event id
	position int64
}

// next is the event of the next line, or that it came before.
func (l *fileLog) next(numbered eventstore.NumberedLine) (e replayed, again bool) {
	line, err := numbered.Read()
	e.nft, e.createdAt = line.NFT, line.CreatedAt
	exported := line.Position > l.position
	if err == nil {
		e.nft, e.event, err = line.Decode()
		e.text = line.Event
	}
	if err == nil {
		again, err = l.repeats(e.nft, &e.event)
		exported = exported && err == nil // no log has an id twice
	}
	switch {
	case again:
		return e, true
	case exported:
		l.position = line.Position
	case err == nil:
		l.position++
	default:
		e.text = nil // import would reject it
	}
	e.position = l.position
	if err != nil {
		e.nft, e.invalid = line.NFT, fmt.Errorf("line %d: %w", numbered.Number, err)
	}
	return e, false
}

// repeats reports whether an event came before, and fails when its id did with
// other content.
func (l *fileLog) repeats(nft string, event *reputation.Event) (bool, error) {
	entry := reputation.NewEntry(nft, event)
	content := sha256.Sum256(append(entry.JSON, nft...))
	stored, again := l.seen[entry.ID]
	if again && stored != content {
		return false, errors.New("event.event_id: came before with other content")
	}
	l.seen[entry.ID] = content
	return again, nil
}
