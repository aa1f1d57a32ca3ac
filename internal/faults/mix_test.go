package faults_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// lanes are how many faults can be there at once.
	lanes = 3

	// marginOfRound is what a round takes beyond its faults.
	marginOfRound = 2 * time.Minute
)

// TestMix breaks things at random, in rounds.
func TestMix(t *testing.T) {
	first, total, round := seedOf(t), 15*time.Second, 12*time.Second
	if *long {
		total, round = 5*time.Minute, time.Minute
	}
	if *duration > 0 {
		total = *duration
	}
	if deadline, ok := t.Deadline(); ok && time.Until(deadline) < total+marginOfRound {
		t.Fatalf("a mix of %s does not fit into what go test allows, which is %s: add -timeout %s",
			total, time.Until(deadline).Round(time.Second), total+2*marginOfRound)
	}
	all, start, last := newCounts(), time.Now(), first
	for n := first; !t.Failed() && (n == first || time.Since(start) < total); n++ {
		last = n
		t.Run(fmt.Sprintf("seed %d", n), func(t *testing.T) {
			all.add(mixRound(t, n, min(round, total)))
		})
	}
	all.took = time.Since(start)
	var table strings.Builder
	all.print(&table)
	t.Logf("seeds from %d\n%s", first, table.String())
	if t.Failed() {
		t.Logf("repeat the last round with -run Mix -seed %d", last)
	}
}

// mixRound is one world that is broken for a while.
func mixRound(t *testing.T, seed uint64, lasts time.Duration) *counts {
	s := setup{servers: 3, seed: seed, upstreams: true}
	faults := append(kinds[:len(kinds):len(kinds)], upstreamKinds...)
	disk, err := mountDisk(t)
	if err == nil {
		s.disk = disk
		faults = append(faults, diskFull)
	} else {
		t.Logf("the fault %q is left out, and no other: %v", diskFull.name, err)
	}
	w := newWorld(t, s)
	load := w.work(w.everything())
	var running sync.WaitGroup
	start := time.Now()
	for _, steps := range schedule(seed, faults, lasts) {
		running.Go(func() {
			for _, s := range steps {
				if time.Since(start) > lasts {
					return // lanes wait for each other, which takes more time than was planned
				}
				time.Sleep(s.wait)
				s.kind.happen(w, rand.New(rand.NewPCG(s.seed, 0)), s.lasts)
			}
		})
	}
	running.Wait()
	load.end()
	w.reconcile()
	return w.counts
}

// step is a fault of a mix.
type step struct {
	kind        kind
	wait, lasts time.Duration
	seed        uint64
}

// schedule is what a seed decides: for each lane the faults that follow each other, for
// as long as a round lasts. Most are short, so that many meet.
func schedule(seed uint64, faults []kind, lasts time.Duration) [][]step {
	var all [][]step
	for lane := range lanes {
		random := rand.New(rand.NewPCG(seed, uint64(lane)+1<<40))
		var steps []step
		for total := time.Duration(0); total < lasts; {
			k := faults[random.IntN(len(faults))]
			s := step{kind: k, seed: random.Uint64(), wait: time.Duration(random.Int64N(int64(1500 * time.Millisecond)))}
			s.lasts = k.lasts/2 + time.Duration(math.Pow(random.Float64(), 4)*float64(k.period()-k.lasts/2))
			total += s.wait + s.lasts
			steps = append(steps, s)
		}
		all = append(all, steps)
	}
	return all
}

// TestSchedule: a seed always decides the same, and another something else.
func TestSchedule(t *testing.T) {
	t.Parallel()
	names := func(seed uint64) string {
		var text strings.Builder
		for _, steps := range schedule(seed, kinds, time.Minute) {
			for _, s := range steps {
				fmt.Fprintln(&text, s.kind.name, s.wait, s.lasts, s.seed)
			}
		}
		return text.String()
	}
	once, again := names(1), names(1)
	if once != again || once == names(2) {
		t.Error("a seed does not decide")
	}
}
