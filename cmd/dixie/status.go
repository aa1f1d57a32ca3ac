package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"dixie/http"
	"dixie/projections"
	"dixie/reputation"
)

type statusCmd struct {
	JSON bool `name:"json" help:"Write what GET /api/projections answers."`

	Database database   `embed:""`
	Scoring  scoring    `embed:""`
	NATS     natsSwitch `embed:""`
}

// Help is shown by status --help.
func (*statusCmd) Help() string {
	return `A projection is running while a process projects into it, and needs a rebuild when its rows were folded by another
version, with other scoring settings than this command has, or from another log.`
}

// Run shows the projections of a database.
func (s *statusCmd) Run(ctx context.Context, c *console) error {
	params, err := s.Scoring.params()
	if err != nil {
		return err
	}
	pool, err := s.Database.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	rows := projections.NewPostgres(pool)
	if s.NATS.on() {
		rows.ListPublisher()
	}
	o := &operations{reader: rows, params: params}
	reports, err := o.Projections(ctx)
	if err != nil {
		return err
	}
	if s.JSON {
		return writeIndented(c.out, http.NewProjectionList(reports))
	}
	writeStatus(c.out, reports)
	return nil
}

// writeIndented writes JSON for people and programs.
func writeIndented(out io.Writer, v any) error {
	text, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	_, err = out.Write(append(text, '\n'))
	return err
}

func writeStatus(out io.Writer, reports []http.ProjectionReport) {
	fmt.Fprintf(out, "%-12s  %-13s  %-16s  %10s  %10s  %10s  %10s  %9s  %9s  %s\n",
		"PROJECTION", "STATE", "VERSION", "POSITION", "HEAD", "BEHIND", "LAG", "EVENTS/S", "SET ASIDE", "PROJECTOR")
	for _, one := range reports {
		rate := "-"
		if one.Rate != nil {
			rate = fmt.Sprintf("%.0f", *one.Rate)
		}
		fmt.Fprintf(out, "%-12s  %-13s  %-16s  %10d  %10d  %10d  %10s  %9s  %9d  %s\n",
			one.Projection, one.State, orDash(one.Version), one.Position, one.Head, one.Behind(), one.Lag.Round(time.Millisecond),
			rate, one.SetAside, projector(one))
	}
	for _, one := range reports {
		writeNotes(out, one)
	}
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// projector is who projects, or who did last.
func projector(one http.ProjectionReport) string {
	switch {
	case one.Holder == "":
		return "-"
	case one.State == reputation.ProjectionStopped || one.State == reputation.ProjectionNeedsRebuild:
		return "none; the last was " + one.Holder
	}
	return fmt.Sprintf("%s, since %s", one.Holder, one.HeldSince.UTC().Format(time.RFC3339))
}

// writeNotes tells what there is to say beyond figures.
func writeNotes(out io.Writer, one http.ProjectionReport) {
	if r := one.Rebuild; r != nil {
		fmt.Fprintf(out, "%s: is being rebuilt by %s since %s, at %d of %d events\n",
			one.Projection, r.Holder, r.StartedAt.UTC().Format(time.RFC3339), r.Position, r.Head)
	}
	if one.Remedy != "" {
		fmt.Fprintf(out, "%s: %s\n", one.Projection, one.Remedy)
	}
	if one.LastError != "" {
		fmt.Fprintf(out, "%s: the last error, at %s: %s\n", one.Projection, one.LastErrorAt.UTC().Format(time.RFC3339), one.LastError)
	}
	if one.SetAside > 0 {
		fmt.Fprintf(out, "%s: dixie failures list %[1]s tells what was set aside\n", one.Projection)
	}
}
