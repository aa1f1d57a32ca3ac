package main

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"dixie/internal/dixiecmd"
)

const (
	// rebuildTarget is how much longer than a COPY of the log a rebuild may take.
	rebuildTarget = 1.5

	// memoryTarget is the most memory of a rebuild by agent, in bytes.
	memoryTarget = 1.5 * 1024

	// memoryAgents are so many that the noise of the garbage collector is little by
	// agent.
	memoryAgents = 100_000
)

// benchRebuild measures dixie rebuild.
func benchRebuild(ctx context.Context, r *run) error {
	p, err := r.startPostgres(ctx)
	if err != nil {
		return err
	}
	defer p.stop()
	if err := r.fillDatabase(ctx, p, "log", r.events, r.agents); err != nil {
		return err
	}
	var copies, rebuilds samples
	for range r.repeat {
		seconds, err := p.readLog(ctx, "log")
		if err != nil {
			return err
		}
		copies = append(copies, seconds)
		used, err := r.runDixie(ctx, p, "log", "rebuild")
		if err != nil {
			return err
		}
		rebuilds = append(rebuilds, used.seconds)
	}
	ratio := rebuilds.median() / copies.median()
	r.report.add(line{
		what:  fmt.Sprintf("rebuild of %d events, %d agents", r.events, r.agents),
		value: rebuilds.String(), limit: "COPY of the log " + copies.String(),
		ratio: fmt.Sprintf("%.2f", ratio), target: fmt.Sprintf("at most %.1f", rebuildTarget), met: ratio <= rebuildTarget,
		by: "the processors: COPY, decoding and folding together keep more than two of them busy",
	})
	return r.rebuildMemory(ctx, p)
}

// rebuildMemory compares the memory of a rebuild with many agents with that of one
// with few, of as many events.
func (r *run) rebuildMemory(ctx context.Context, p *postgres) error {
	const few = 100
	agents := min(memoryAgents, r.events/10)
	used := map[int]float64{}
	for _, n := range []int{few, agents} {
		name := fmt.Sprintf("memory%d", n)
		if err := r.fillDatabase(ctx, p, name, r.events, n); err != nil {
			return err
		}
		var all samples
		for range r.repeat {
			u, err := r.runDixie(ctx, p, name, "rebuild")
			if err != nil {
				return err
			}
			all = append(all, u.memory)
		}
		used[n] = all.median()
	}
	each := (used[agents] - used[few]) / float64(agents-few)
	r.report.add(line{
		what:  fmt.Sprintf("memory of a rebuild of %d events, %d agents", r.events, agents),
		value: fmt.Sprintf("%.0f MiB", used[agents]/(1<<20)), limit: fmt.Sprintf("with %d agents %.0f MiB", few, used[few]/(1<<20)),
		ratio: fmt.Sprintf("%.0f bytes an agent", each), target: fmt.Sprintf("at most %.0f", float64(memoryTarget)), met: each <= memoryTarget,
	})
	return nil
}

// usage is what a command took.
type usage struct {
	seconds float64
	memory  float64 // most bytes in memory
	output  string
}

// runDixie runs a command on a database.
func (r *run) runDixie(ctx context.Context, p *postgres, database string, args ...string) (usage, error) {
	cmd := exec.CommandContext(ctx, r.dixie, args...)
	cmd.Env = append(dixiecmd.Environ(), "DATABASE_URL="+p.server.URL(database))
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return usage{}, fmt.Errorf("dixie %s: %w: %s", strings.Join(args, " "), err, out)
	}
	u := usage{seconds: time.Since(start).Seconds(), output: string(out)}
	if system, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.memory = float64(system.Maxrss)
		if runtime.GOOS != "darwin" { // which tells it in bytes
			u.memory *= 1024
		}
	}
	r.log.InfoContext(ctx, "ran", "command", "dixie "+strings.Join(args, " "), "seconds", u.seconds, "MiB", u.memory/(1<<20))
	return u, nil
}
