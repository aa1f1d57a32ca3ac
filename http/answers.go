package http

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/klauspost/compress/s2"

	"dixie/reputation"
)

const (
	// defaultAnswerBytes is the memory for the answers that are kept.
	defaultAnswerBytes = 32 << 20

	// answerOverhead is what an answer takes beside its text, in bytes.
	answerOverhead = 300

	// answerAge is how long an answer is kept at most. Other programs may write rows,
	// which nothing tells of.
	answerAge = time.Minute
)

// answers keeps answers to reads of single NFTs, those that were asked for last. To
// read and encode again what has not changed takes nearly all of the time of a read.
// An answer is given only after the projections were asked whether it is still what a
// reading would give, so that nobody sees that it was kept. It is safe for concurrent
// use.
type answers struct {
	from        Reputations
	projections []string // that the answers are read from
	most        int      // bytes

	hits, misses atomic.Int64

	mu    sync.Mutex
	kept  *simplelru.LRU[string, answer] // by NFT
	bytes int
}

// text is the JSON of an answer. In that to a reputation, its position and the time of
// asking belong between before and after.
type text struct {
	before, after []byte
	etag          string
}

// answer is a text that is kept. It is packed to a third, so that three times as many
// agents have a place; to unpack it takes a tenth of what an answer takes in all.
type answer struct {
	mark   reputation.Mark // of the reading
	until  time.Time
	packed []byte
	before int // bytes of the text
	etag   string
}

func newAnswer(t text, mark reputation.Mark, until time.Time) answer {
	return answer{
		mark: mark, until: until, etag: t.etag,
		packed: bytes.Clone(s2.EncodeBetter(nil, slices.Concat(t.before, t.after))), // which has a lot of room left
		before: len(t.before),
	}
}

func (a *answer) size() int { return cap(a.packed) + answerOverhead }

func (a *answer) text() (text, error) {
	whole, err := s2.Decode(nil, a.packed)
	if err != nil {
		return text{}, fmt.Errorf("unpack a kept answer: %w", err)
	}
	return text{before: whole[:a.before], after: whole[a.before:], etag: a.etag}, nil
}

// newAnswers keeps so many bytes of answers.
func newAnswers(from Reputations, most int, projections ...string) *answers {
	a := &answers{from: from, projections: projections, most: most}
	// It is the bytes that bound the number.
	kept, err := simplelru.NewLRU(1+most/answerOverhead, func(_ string, old answer) { a.bytes -= old.size() })
	if err != nil {
		panic(err) // only for a size below 1
	}
	a.kept = kept
	return a
}

// unchanged is the answer for an NFT that was kept and is still what a reading would
// give, as of a position. It is false when there is none.
func (a *answers) unchanged(ctx context.Context, nft string, now time.Time) (t text, position int64, ok bool, err error) {
	kept, ok := a.get(nft)
	if ok && now.Before(kept.until) {
		position, ok, err = a.from.Unchanged(ctx, nft, kept.mark, a.projections...)
		if ok && err == nil {
			a.hits.Add(1)
			t, err := kept.text()
			return t, position, err == nil, err
		}
	}
	a.misses.Add(1)
	return text{}, 0, false, err
}

// current is the answer for an NFT as of a position that q asks for or a later one: the
// one that was kept, or what read gives.
func (a *answers) current(ctx context.Context, q *query, nft string, now time.Time, read func() (text, int64, error)) (text, int64, error) {
	t, position, ok, err := a.unchanged(ctx, nft, now)
	if err != nil || ok && q.contains(position) == nil {
		return t, position, err
	}
	return read()
}

func (a *answers) get(nft string) (answer, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kept.Get(nft)
}

// keep keeps what a reading at a mark gave, in place of what is longest unasked for.
func (a *answers) keep(nft string, mark reputation.Mark, t text, now time.Time) {
	kept := newAnswer(t, mark, now.Add(answerAge))
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kept.Remove(nft) // which takes its bytes back
	a.kept.Add(strings.Clone(nft), kept)
	for a.bytes += kept.size(); a.bytes > a.most; {
		a.kept.RemoveOldest()
	}
}

// KeptAnswers is how many reads of single NFTs were answered from what was kept, and
// how many were not.
func (s *Server) KeptAnswers() (kept, read int64) {
	for _, a := range []*answers{s.scores, s.reputations} {
		kept += a.hits.Load()
		read += a.misses.Load()
	}
	return kept, read
}
