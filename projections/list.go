package projections

import (
	"context"
	"iter"

	"dixie/reputation"
)

// listPage is how many aggregates are in memory at once while all are listed.
const listPage = 500

// aggregatePages streams aggregates from a function that lists a page.
func aggregatePages(
	ctx context.Context,
	list func(ctx context.Context, state reputation.State, after string, limit int) ([]StoredAggregate, error),
	state reputation.State,
) iter.Seq2[StoredAggregate, error] {
	return func(yield func(StoredAggregate, error) bool) {
		after := ""
		for {
			page, err := list(ctx, state, after, listPage)
			if err != nil {
				yield(StoredAggregate{}, err)
				return
			}
			for _, row := range page {
				if !yield(row, nil) {
					return
				}
			}
			if len(page) < listPage {
				return
			}
			after = page[len(page)-1].NFT
		}
	}
}
