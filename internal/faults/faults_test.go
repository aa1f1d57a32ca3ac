package faults_test

import (
	"math/rand/v2"
	"testing"
	"time"
)

// kind is a way to break a world.
type kind struct {
	name string
	// lasts is for how long it is broken, in the short and in the long form.
	lasts, longer time.Duration
	// inject breaks it, and returns what mends it.
	inject func(w *world, random *rand.Rand) (heal func())
}

// kinds are all faults that any world can have.
var kinds = []kind{
	{"kill a server", 100 * time.Millisecond, time.Second, killServer},
	{"end a server", 100 * time.Millisecond, time.Second, endServer},
	{"pause a server", 2 * time.Second, 30 * time.Second, pauseServer},
}

// for is how long the fault lasts in this run.
func (k kind) period() time.Duration {
	if *long {
		return k.longer
	}
	return k.lasts
}

// break injects the fault, waits and mends it.
func (k kind) happen(w *world, random *rand.Rand, lasts time.Duration) {
	w.counts.fault(k.name)
	heal := k.inject(w, random)
	time.Sleep(lasts)
	heal()
}

// seedOf is the seed of this run.
func seedOf(t testing.TB) uint64 {
	chosen := *seed
	if chosen == 0 {
		chosen = rand.Uint64N(1 << 32)
	}
	t.Logf("seed %d", chosen)
	return chosen
}

// TestEachFault breaks one thing at a time, under load.
func TestEachFault(t *testing.T) {
	t.Parallel()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, setup{servers: 2, seed: seedOf(t)})
			random := rand.New(rand.NewPCG(w.seed, 99))
			load := w.work(usual)
			for range 3 {
				time.Sleep(time.Duration(300+random.IntN(500)) * time.Millisecond)
				k.happen(w, random, k.period())
			}
			load.end()
			w.reconcile()
		})
	}
}
