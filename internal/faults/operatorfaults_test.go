package faults_test

import (
	"math/rand/v2"
	"os/exec"
	"time"
)

// rebuild is an operator who rebuilds while everything goes on.
func rebuild(w *world, _ *rand.Rand) (heal func()) {
	return w.rebuildFor(time.Minute)
}

// rebuildKilled is an operator's rebuild that is killed.
func rebuildKilled(w *world, random *rand.Rand) (heal func()) {
	return w.rebuildFor(time.Duration(random.Int64N(int64(400 * time.Millisecond))))
}

// rebuildFor rebuilds, and kills the rebuild if it takes longer. A rebuild that fails
// changes nothing.
func (w *world) rebuildFor(most time.Duration) (heal func()) {
	cmd := exec.Command(dixie, "rebuild")
	cmd.Env = append(cleanEnv(), "DATABASE_URL="+w.postgres.serviceURL(w.database, ""))
	if err := cmd.Start(); err != nil {
		w.errorf("rebuild: %v", err)
		return func() {}
	}
	killing := time.AfterFunc(most, func() { _ = cmd.Process.Kill() })
	return func() {
		_ = cmd.Wait()
		killing.Stop()
	}
}
