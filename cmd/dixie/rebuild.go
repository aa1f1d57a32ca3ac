package main

import (
	"context"
	"fmt"
	"runtime"
	"time"

	"dixie/projections"
)

type rebuildCmd struct {
	Projection string `arg:"" optional:"" enum:"aggregates,cohorts,all" default:"all" help:"Projection to rebuild: aggregates, cohorts or all."`

	Database database `embed:""`
	Scoring  scoring  `embed:""`
	Logging  logging  `embed:""`
}

// Help is shown by rebuild --help.
func (*rebuildCmd) Help() string {
	return `Servers go on answering and projecting meanwhile. They need the same scoring settings as this command: one that has
others serves the rebuilt rows and projects no further. A rebuild that is stopped or killed changes nothing, and the
next one clears up after it. Without a database there is nothing to rebuild: in memory rows are folded at every start.`
}

// Run rebuilds projections of a database.
func (r *rebuildCmd) Run(ctx context.Context, c *console) error {
	params, err := r.Scoring.params()
	if err != nil {
		return err
	}
	pool, err := r.Database.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	defer runtime.KeepAlive(heapFloor(rebuildingFloor))
	names := r.projections()
	bar := startProgress(c.err, "rebuild "+r.Projection, "events", 0)
	done, err := projections.NewPostgres(pool).Rebuild(ctx, projections.RebuildConfig{
		Projections: names, Params: params, Progress: bar.reach, Logger: r.Logging.logger(),
	})
	if err != nil {
		bar.clear()
		return err
	}
	bar.finish(fmt.Sprintf("%d events", done[0].Position))
	for _, one := range done {
		fmt.Fprintf(c.out, "%s: rebuilt at position %d, %d NFTs, %d events set aside, tables locked for %s\n",
			one.Projection, one.Position, one.NFTs, one.SetAside, one.Locked.Round(time.Millisecond))
	}
	return nil
}

// projections are those that were asked for.
func (r *rebuildCmd) projections() []string {
	if r.Projection == "all" {
		return projections.Names
	}
	return []string{r.Projection}
}

// reach notes how much is done of a total that may grow.
func (p *progress) reach(done, total int64) {
	if total != p.total {
		p.total = total
		if p.bar != nil {
			p.bar.ChangeMax64(total)
		}
	}
	p.add(done - p.done.Load())
}

// clear removes the bar when the work has failed.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
