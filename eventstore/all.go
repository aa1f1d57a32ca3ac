package eventstore

import (
	"context"
	"fmt"
	"iter"

	"dixie/reputation"
)

// readPage is how many events of a log are in memory at once while all are read.
const readPage = 1000

// All yields the events after a position, up to and including another, in order.
// It ends after the first error that it yields; a log that misses positions gives
// one that matches [ErrGap].
func All(ctx context.Context, log interface {
	Read(ctx context.Context, after int64, limit int) ([]Recorded, error)
}, after, until int64) iter.Seq2[reputation.Recorded, error] {
	return func(yield func(reputation.Recorded, error) bool) {
		for after < until {
			page, err := log.Read(ctx, after, int(min(readPage, until-after)))
			if err == nil && (len(page) == 0 || page[0].Position != after+1) {
				err = fmt.Errorf("%w: position %d is missing", ErrGap, after+1)
			}
			if err != nil {
				yield(reputation.Recorded{}, err)
				return
			}
			for _, r := range page {
				if r.Position != after+1 {
					yield(r, fmt.Errorf("%w: position %d is missing", ErrGap, after+1))
					return
				}
				if !yield(r, nil) {
					return
				}
				after = r.Position
			}
		}
	}
}
