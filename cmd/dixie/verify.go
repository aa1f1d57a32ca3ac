package main

import (
	"context"
	"fmt"

	"dixie/projections"
)

type verifyCmd struct {
	Projection string `arg:"" optional:"" enum:"aggregates,cohorts,all" default:"all" help:"Projection to verify: aggregates, cohorts or all."`
	NFT        string `name:"nft" help:"Compare only the rows of one NFT." placeholder:"ID"`

	Database database `embed:""`
	Scoring  scoring  `embed:""`
}

// maxDifferences is how many differences are told one by one.
const maxDifferences = 100

// Run folds the log beside the stored rows and compares. It fails when anything
// differs.
func (v *verifyCmd) Run(ctx context.Context, c *console) error {
	params, err := v.Scoring.params()
	if err != nil {
		return err
	}
	pool, err := v.Database.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	var told int64
	var bar *progress
	report, err := projections.NewPostgres(pool).Verify(ctx, projections.VerifyConfig{
		Params: params, Projections: v.projections(), NFT: v.NFT,
		Progress: func(done, head int64) {
			if bar == nil {
				bar = startProgress(c.err, "verify", "events", head)
			}
			bar.add(done - bar.done.Load())
		},
		Differ: func(d projections.Difference) {
			if told++; told <= maxDifferences {
				fmt.Fprintln(c.out, d)
			}
		},
	})
	if err != nil {
		return err
	}
	if bar != nil {
		bar.finish(fmt.Sprintf("%d events folded, %d rows compared", report.Events, report.Rows))
	}
	for _, name := range projections.Names {
		if position, ok := report.Positions[name]; ok {
			fmt.Fprintf(c.out, "%s: verified at position %d\n", name, position)
		}
	}
	if report.Digest != "" {
		fmt.Fprintf(c.out, "digest: sha256:%s\n", report.Digest)
	}
	if report.Differences > 0 {
		return fmt.Errorf("%d differences", report.Differences)
	}
	fmt.Fprintln(c.out, "everything stored is what the log says")
	return nil
}

// projections are those that were asked for.
func (v *verifyCmd) projections() []string {
	if v.Projection == "all" {
		return projections.Names
	}
	return []string{v.Projection}
}
