package eventstore_test

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"dixie/eventstore"
	"dixie/eventstore/eventstoretest"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

// stores are those that are measured. The server of the tests does not wait for
// the disk.
var stores = map[string]func(testing.TB) reputation.Log{
	"memory": func(testing.TB) reputation.Log { return eventstore.NewMemory() },
	"postgres": func(b testing.TB) reputation.Log {
		log := eventstore.OpenPostgres(pgtest.Pool(b), slog.New(slog.DiscardHandler))
		b.Cleanup(log.Close)
		return log
	},
}

// spread is events first to last, of a thousand NFTs.
func spread(first, last int) []reputation.Entry {
	entries := make([]reputation.Entry, 0, last-first+1)
	for n := first; n <= last; n++ {
		entries = append(entries, eventstoretest.Entry(fmt.Sprintf("nft-%d", n%1000), n))
	}
	return entries
}

func reportEvents(b *testing.B, events int64) {
	b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkAppend is one caller, who waits for each answer. It includes making the
// entries, as callers do.
func BenchmarkAppend(b *testing.B) {
	for name, open := range stores {
		for _, size := range []int{1, 100} {
			b.Run(fmt.Sprintf("%s/entries=%d", name, size), func(b *testing.B) {
				log, n := open(b), 0
				b.ReportAllocs()
				for b.Loop() {
					eventstoretest.Append(b, log, spread(n+1, n+size)...)
					n += size
				}
				reportEvents(b, int64(n))
			})
		}
	}
}

// BenchmarkAppendConcurrently is many callers with one event each, as requests
// come. It shows what they gain by sharing transactions.
func BenchmarkAppendConcurrently(b *testing.B) {
	for name, open := range stores {
		b.Run(name, func(b *testing.B) {
			log := open(b)
			var n atomic.Int64
			b.SetParallelism(64)
			b.ResetTimer()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := int(n.Add(1))
					if _, err := log.Append(b.Context(), spread(i, i)...); err != nil {
						b.Error(err)
						return
					}
				}
			})
			reportEvents(b, n.Load())
		})
	}
}

// BenchmarkAppendDuplicates is what a repeated import costs.
func BenchmarkAppendDuplicates(b *testing.B) {
	for name, open := range stores {
		b.Run(name+"/entries=100", func(b *testing.B) {
			log := open(b)
			entries := spread(1, 100)
			eventstoretest.Append(b, log, entries...)
			events := int64(0)
			b.ReportAllocs()
			for b.Loop() {
				eventstoretest.Append(b, log, entries...)
				events += 100
			}
			reportEvents(b, events)
		})
	}
}

// benchmarkLength is how many events are in the log that is read.
const benchmarkLength = 20_000

func BenchmarkRead(b *testing.B) {
	for name, open := range stores {
		log := open(b)
		eventstoretest.Append(b, log, spread(1, benchmarkLength)...)
		for _, size := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("%s/page=%d", name, size), func(b *testing.B) {
				var after, events int64
				b.ReportAllocs()
				for b.Loop() {
					page, err := log.Read(b.Context(), after, size)
					if err != nil || len(page) != size {
						b.Fatalf("%d events in a page of %d, error %v", len(page), size, err)
					}
					events += int64(size)
					after = (after + int64(size)) % benchmarkLength
				}
				reportEvents(b, events)
			})
		}
	}
}

// BenchmarkHistory reads the twenty events of one NFT.
func BenchmarkHistory(b *testing.B) {
	for name, open := range stores {
		log := open(b)
		eventstoretest.Append(b, log, spread(1, benchmarkLength)...)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				page, err := log.History(b.Context(), fmt.Sprintf("nft-%d", n%1000), 0, 100)
				if err != nil || len(page) != benchmarkLength/1000 {
					b.Fatalf("%d events, error %v", len(page), err)
				}
			}
		})
	}
}
