package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"

	"dixie/projections"
)

type verifyCmd struct {
	Projection string `arg:"" optional:"" enum:"aggregates,cohorts,all" default:"all" help:"Projection to verify: aggregates, cohorts or all."`
	NFT        string `name:"nft" xor:"scope" help:"Compare only the rows of one NFT." placeholder:"ID"`
	Sample     int    `xor:"scope" help:"Compare only the rows of N random NFTs." placeholder:"N"`
	Seed       uint64 `help:"Choose the same NFTs as the run that told this seed. With --sample."`

	Database database `embed:""`
	Scoring  scoring  `embed:""`
}

// maxDifferences is how many differences are told one by one.
const maxDifferences = 100

// Help is shown by verify --help.
func (*verifyCmd) Help() string {
	return `It reads one snapshot and runs beside live traffic. The exit status is 1 when anything differs. Two databases with
the same log have the same digest. The digest of the log itself shows, beside that of a replica or a backup, a change
that no stored row depends on.`
}

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
	if v.Sample > 0 && v.Seed == 0 {
		v.Seed = rand.Uint64()
	}
	var told int64
	bar := startProgress(c.err, "verify", "events", 0)
	report, err := projections.NewPostgres(pool).Verify(ctx, projections.VerifyConfig{
		Params: params, Projections: v.projections(), NFT: v.NFT, Sample: v.Sample, Seed: v.Seed,
		Progress: bar.reach,
		Differ: func(d projections.Difference) {
			if told++; told <= maxDifferences {
				fmt.Fprintln(c.out, d)
			}
		},
	})
	if err != nil {
		bar.clear()
		return err
	}
	bar.finish(fmt.Sprintf("%d events folded, %d rows compared", report.Events, report.Rows))
	behind := writePositions(c.out, report)
	if v.Sample > 0 {
		fmt.Fprintf(c.out, "compared the rows of at most %d NFTs, chosen with --seed %d\n", v.Sample, v.Seed)
	}
	if report.Digest != "" {
		fmt.Fprintf(c.out, "digest: sha256:%s\n", report.Digest)
	}
	fmt.Fprintf(c.out, "log: %d events, sha256:%s\n", report.Events, report.LogDigest)
	if report.Differences > 0 {
		return fmt.Errorf("%d differences", report.Differences)
	}
	fmt.Fprintln(c.out, "everything stored is what the log says"+behind)
	return nil
}

// writePositions tells what was verified, and returns what is to be said of events that
// are not projected yet, of which verifying says nothing.
func writePositions(out io.Writer, report projections.VerifyReport) (behind string) {
	var most int64
	for _, name := range projections.Names {
		position, ok := report.Positions[name]
		if !ok {
			continue
		}
		left := report.Head - position
		if most = max(most, left); left > 0 {
			fmt.Fprintf(out, "%s: verified at position %d, %s not projected yet\n", name, position, events(left))
			continue
		}
		fmt.Fprintf(out, "%s: verified at position %d\n", name, position)
	}
	if most > 0 {
		return fmt.Sprintf(" as far as it is projected; %s not projected yet: a server does that, or dixie rebuild", events(most))
	}
	return ""
}

func events(n int64) string {
	if n == 1 {
		return "1 event is"
	}
	return fmt.Sprintf("%d events are", n)
}

// projections are those that were asked for.
func (v *verifyCmd) projections() []string {
	if v.Projection == "all" {
		return projections.Names
	}
	return []string{v.Projection}
}
