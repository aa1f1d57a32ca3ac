package eventstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"golang.org/x/sync/singleflight"

	"dixie/reputation"
)

const (
	// defaultPageSize is how many events a page has at most. Twice as many took
	// twice the memory and projected no faster.
	defaultPageSize = 2000

	// keptPages is how many pages are kept for feeds that are a little behind.
	keptPages = 4
)

// Pages reads and decodes a log once for several feeds that follow it at about
// the same pace, which took a sixth off the cost of projecting. It is safe for
// concurrent use. Pages are shared and must not be changed.
type Pages struct {
	log     Reader
	size    int64
	reading singleflight.Group

	mu   sync.Mutex
	kept []*Page // latest last
}

// NewPages returns pages of at most size events; 0 means 2,000.
func NewPages(log Reader, size int) *Pages {
	if size <= 0 {
		size = defaultPageSize
	}
	return &Pages{log: log, size: int64(size)}
}

// Changed is the log's.
func (p *Pages) Changed() <-chan struct{} { return p.log.Changed() }

// After returns the page that begins after a position, and nil at the end of the
// log. It fails with [ErrGap] when the log misses the next position.
func (p *Pages) After(ctx context.Context, after int64) (*Page, error) {
	if page := p.find(after); page != nil {
		return page, nil
	}
	result, err, _ := p.reading.Do(strconv.FormatInt(after, 10), func() (any, error) {
		if page := p.find(after); page != nil {
			return page, nil // another feed has read it since
		}
		return p.read(ctx, after)
	})
	// It was another feed's context that ended, not this one's.
	if err != nil && ctx.Err() == nil && errors.Is(err, context.Canceled) {
		return p.read(ctx, after)
	}
	page, _ := result.(*Page)
	return page, err
}

func (p *Pages) find(after int64) *Page {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, page := range p.kept {
		if page.From == after {
			return page
		}
	}
	return nil
}

// read reads a page up to the next multiple of the size: feeds that began at
// different positions come to the same pages.
func (p *Pages) read(ctx context.Context, after int64) (*Page, error) {
	events, err := p.log.Read(ctx, after, int(p.size-after%p.size))
	if err != nil || len(events) == 0 {
		return nil, err
	}
	page, err := newPage(after, events)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = append(p.kept, page)
	if len(p.kept) > keptPages {
		p.kept[0] = nil
		p.kept = p.kept[1:]
	}
	return page, nil
}

// full says that a page ends where the next begins for all feeds, and not because there
// were no more events.
func (p *Pages) full(page *Page) bool { return page.To%p.size == 0 }

func (p *Pages) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = nil
}

func newPage(after int64, events []Recorded) (*Page, error) {
	page := &Page{From: after, To: events[len(events)-1].Position, Events: make([]PageEvent, len(events))}
	for i := range events {
		if want := after + int64(i) + 1; events[i].Position != want {
			return nil, fmt.Errorf("%w: expected position %d, found %d", ErrGap, want, events[i].Position)
		}
		e := &page.Events[i]
		e.Recorded = events[i]
		e.Event, e.Err = reputation.DecodeText(string(e.JSON))
	}
	return page, nil
}
