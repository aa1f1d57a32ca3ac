package faults_test

import (
	"crypto/sha256"
	"fmt"
	"sync"
)

// ledger is what clients sent and what they were told of it. It is safe for
// concurrent use.
type ledger struct {
	mu      sync.Mutex
	records map[string]*record // by key
	sent    int64              // events
	told    int64              // that are in the log, each counted once
}

// record is all that was sent under one key: usually one event, and several that
// contend for an id.
type record struct {
	contents []*fate
}

// fate is what became of one content.
type fate struct {
	hash     [sha256.Size]byte // of NFT and content
	position int64             // told by an answer; 0 when none told one
	stored   bool              // an answer said so
	refused  bool              // an answer said that the id is taken
	garbage  bool              // no fold accepts it
	any      bool              // the service makes its content
}

func newLedger() *ledger { return &ledger{records: map[string]*record{}} }

func hashOf(nft, content string) [sha256.Size]byte {
	return sha256.Sum256([]byte(nft + "\n" + content))
}

// send notes that events are about to be sent. Nothing may be in the log that was not
// noted before.
func (l *ledger) send(events ...event) {
	l.note(false, events)
}

// sendGarbage is send for rows that are set aside.
func (l *ledger) sendGarbage(e event) { l.note(true, []event{e}) }

func (l *ledger) note(garbage bool, events []event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range events {
		f, isNew := l.fate(e)
		if isNew {
			l.sent++
		}
		f.garbage = garbage
	}
}

// fate finds what is known of an event, and begins it.
func (l *ledger) fate(e event) (f *fate, isNew bool) {
	k := key([]byte(e.json))
	r := l.records[k]
	if r == nil {
		r = &record{}
		l.records[k] = r
	}
	hash := hashOf(e.nft, content([]byte(e.json)))
	for _, f := range r.contents {
		if f.hash == hash {
			return f, false
		}
	}
	f = &fate{hash: hash}
	r.contents = append(r.contents, f)
	return f, true
}

// expect notes that the service may make an event itself, under an id that is known.
func (l *ledger) expect(id string) *fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := &fate{any: true}
	l.records[key([]byte(`{"event_id":"`+id+`"}`))] = &record{contents: []*fate{f}}
	return f
}

// due notes that the event which the service may make has to be there in the end.
func (l *ledger) due(f *fate) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f.stored = true
}

// stored notes that an answer said an event is in the log; position is 0 when it did
// not say where. The error is what contradicts an earlier answer.
func (l *ledger) stored(e event, position int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, _ := l.fate(e)
	if f.refused {
		return fmt.Errorf("event %s was refused as another's id, and then stored at %d", e.id, position)
	}
	if position > 0 && f.position > 0 && f.position != position {
		return fmt.Errorf("event %s was told to be at %d, and then at %d", e.id, f.position, position)
	}
	f.position = max(f.position, position)
	if !f.stored {
		f.stored = true
		l.told++
	}
	return nil
}

// refused notes that an answer said the event's id is taken by other content, which is
// at a position.
func (l *ledger) refused(e event, position int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, _ := l.fate(e)
	if f.stored {
		return fmt.Errorf("event %s was acknowledged at %d, and then refused for the one at %d", e.id, f.position, position)
	}
	f.refused = true
	return nil
}

// row is a row of the log.
type row struct {
	position int64
	nft      string
	event    []byte
}

// find is the fate of a row, or nil when nobody sent it.
func (l *ledger) find(r row) *fate {
	found := l.records[key(r.event)]
	if found == nil {
		return nil
	}
	hash := hashOf(r.nft, content(r.event))
	for _, f := range found.contents {
		if f.any {
			f.hash = hash
		}
		if f.hash == hash {
			return f
		}
	}
	return nil
}
