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
	{"server: killed", 100 * time.Millisecond, time.Second, killServer},
	{"server: ended", 100 * time.Millisecond, time.Second, endServer},
	{"server: paused", 2 * time.Second, 25 * time.Second, pauseServer},
	{"PostgreSQL: killed", 100 * time.Millisecond, 2 * time.Second, killPostgres},
	{"PostgreSQL: restarted", 0, 0, stopPostgres},
	{"sessions: terminated", 700 * time.Millisecond, 5 * time.Second, terminate},
	{"sessions: terminated at commit", 700 * time.Millisecond, 5 * time.Second, terminateAtCommit},
	{"sessions: cut after commit", 700 * time.Millisecond, 5 * time.Second, cutAfterCommit},
	{"sessions: cut before commit", 700 * time.Millisecond, 5 * time.Second, cutBeforeCommit},
	{"sessions: cut", 700 * time.Millisecond, 5 * time.Second, breakOff},
	{"statements: time out", time.Second, 5 * time.Second, statementTimeout},
	{"locks: held", 1500 * time.Millisecond, 30 * time.Second, holdLock},
	{"locks: the log's", 1500 * time.Millisecond, 30 * time.Second, holdLog},
	{"transactions: long and prepared", time.Second, 30 * time.Second, longTransactions},
	{"connections: all taken", time.Second, 10 * time.Second, takeConnections},
	{"network: refuses", time.Second, 5 * time.Second, network(refusing)},
	{"network: hangs", 2 * time.Second, 25 * time.Second, network(hanging)},
	{"network: slow", time.Second, 10 * time.Second, network(slow)},
	{"operator: rebuilds", 0, 0, rebuild},
	{"operator: kills a rebuild", 0, 0, rebuildKilled},
	{"network: rubbish", 500 * time.Millisecond, 5 * time.Second, network(babbling)},
}

// diskFull needs a file system of its own.
var diskFull = kind{"disk: full", time.Second, 10 * time.Second, fillDisk}

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
			breakAlone(t, setup{servers: 2, seed: seedOf(t)}, k)
		})
	}
}

// breakAlone breaks one thing three times, under load.
func breakAlone(t *testing.T, s setup, k kind) {
	w := newWorld(t, s)
	random := rand.New(rand.NewPCG(w.seed, 99))
	load := w.work(usual)
	for range 2 {
		time.Sleep(time.Duration(300+random.IntN(500)) * time.Millisecond)
		k.happen(w, random, k.period())
	}
	load.end()
	w.reconcile()
}

// TestDiskFull leaves PostgreSQL no room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	disk, err := mountDisk(t)
	if err != nil {
		t.Skipf("the fault %q is left out, and no other: %v", diskFull.name, err)
	}
	breakAlone(t, setup{servers: 2, seed: seedOf(t), disk: disk}, diskFull)
}
