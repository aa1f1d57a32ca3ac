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

	// longTarget is how much longer the rebuild of a log may take that is longer by this
	// factor.
	longer     = 5
	longTarget = 5.5

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
	if err := r.compareRebuild(ctx, p, "log", r.events); err != nil {
		return err
	}
	return r.rebuildMemory(ctx, p)
}

// compareRebuild compares the rebuild of a log of so many events with a COPY of it.
func (r *run) compareRebuild(ctx context.Context, p *postgres, database string, events int) error {
	if err := r.fillDatabase(ctx, p, database, events, r.agents); err != nil {
		return err
	}
	c, err := r.inTurns(ctx, r.rebuilding(p, database), reading(p, database))
	if err != nil {
		return err
	}
	c.by = "the processors: COPY, decoding and folding together keep more than two of them busy"
	r.report.add(c.times(fmt.Sprintf("rebuild of %d events, %d agents", events, r.agents), "COPY of the log", rebuildTarget))
	return nil
}

// rebuilding runs dixie rebuild.
func (r *run) rebuilding(p *postgres, database string) func(context.Context) (float64, error) {
	return func(ctx context.Context) (float64, error) {
		used, err := r.runDixie(ctx, p, database, "rebuild")
		return used.seconds, err
	}
}

// reading reads a log with COPY.
func reading(p *postgres, database string) func(context.Context) (float64, error) {
	return func(ctx context.Context) (float64, error) { return p.readLog(ctx, database) }
}

// benchRebuildLong measures dixie rebuild of a log that is five times as long, beside
// that of one that is not.
func benchRebuildLong(ctx context.Context, r *run) error {
	return r.withLog(ctx, func(p *postgres) error { return r.compareLong(ctx, p) })
}

func (r *run) compareLong(ctx context.Context, p *postgres) error {
	long := longer * r.events
	if err := r.compareRebuild(ctx, p, "long", long); err != nil {
		return err
	}
	c, err := r.inTurns(ctx, r.rebuilding(p, "long"), r.rebuilding(p, "log"))
	if err != nil {
		return err
	}
	r.report.add(c.times(fmt.Sprintf("rebuild of %d events", long), fmt.Sprintf("rebuild of %d", r.events), longTarget))
	return nil
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
