// Command bench measures the service against a limit that it measures in the same
// run, on a PostgreSQL of its own:
//
//	go run ./internal/bench [flags] [what...]
//
// Without names, or with the name all, it runs all. It prints a table, writes it as Markdown with
// -markdown, and fails when a target is missed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A bench measures one thing. It adds lines to the report, and its error says
// that it could not be measured, not that a target was missed.
type bench struct {
	name string
	help string
	run  func(ctx context.Context, r *run) error
}

func benches() []bench {
	return []bench{
		{"rebuild", "time of dixie rebuild against one COPY of the log, and its memory by agent", benchRebuild},
		{"rebuild-long", "the same of a log that is five times as long, and against the rebuild of the shorter", benchRebuildLong},
		{"rebuild-traffic", "reads and appends through HTTP while the server rebuilds", benchTraffic},
		{"append", "events/s and p99 of 64 callers with one event a request, against one connection that writes the same", benchAppend},
		{"append-batch", "events/s of requests of 100 events, against the same", benchAppendBatch},
		{"import", "events/s of a bulk import, against COPY into the same table", benchImport},
		{"query", "requests/s of scores, against a handler that writes a constant", benchQuery},
		{"get", "requests/s of reputations, against the same", benchGet},
		{"catch-up", "time of both live projectors for a whole log, against one COPY of it", benchCatchUp},
		{"freshness", "time from an append's answer to its score, against a commit", benchFreshness},
		{"memory", "resident memory of a server with many agents", benchMemory},
		{"verify-tokens", "time of verifying tokens and sign-in messages, against their signatures alone", benchTokens},
		{"growth", "latencies at many events against those at a hundredth of them", benchGrowth},
		{"verify", "time of dixie verify against one COPY of the log", benchVerify},
	}
}

// minEvents is what all measurements can be made with.
const minEvents = 2000

// run is what one run of the command has.
type run struct {
	events   int // in the log
	agents   int
	growth   int           // events in the longer log of growth
	calm     time.Duration // before anything is rebuilt
	durable  bool          // is PostgreSQL
	shared   *postgres     // of all measurements; nil where each has its own
	repeat   int           // measurements of each number
	dixie    string        // the command
	constant string        // the command of that name
	dir      string        // for files
	pprof    string        // address of the server's profiles; empty for none
	log      *slog.Logger
	report   report
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, args []string, out, progress io.Writer) error {
	r := &run{log: slog.New(slog.NewTextHandler(progress, nil))}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.IntVar(&r.events, "events", 1_000_000, "events in the log")
	flags.IntVar(&r.agents, "agents", 10_000, "agents that the events are of")
	flags.IntVar(&r.growth, "growth", 10_000_000, "events in the longer log of growth")
	flags.IntVar(&r.repeat, "repeat", 3, "how often each number is measured")
	flags.StringVar(&r.pprof, "pprof", "", "loopback address at which the server that is measured shows its profiles")
	flags.BoolVar(&r.durable, "durable", true, "whether PostgreSQL keeps its files on disk and waits for it, as one in production does")
	flags.DurationVar(&r.calm, "calm", 20*time.Second, "how long reads are measured before a rebuild")
	markdown := flags.String("markdown", "", "file to write the table to, as Markdown")
	flags.Usage = func() { help(flags) }
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if r.events < minEvents || r.growth < minEvents || r.agents < 1 || r.repeat < 1 {
		return fmt.Errorf("there must be %d events, 1 agent and 1 repetition at least", minEvents)
	}
	chosen, err := choose(flags.Args())
	if err != nil {
		return err
	}
	if r.dir, err = os.MkdirTemp("", "dixie-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.dir)
	if err := r.build(ctx); err != nil {
		return err
	}
	defer func() {
		if r.shared != nil {
			r.shared.end()
		}
	}()
	for _, b := range chosen {
		r.log.InfoContext(ctx, "measuring", "what", b.name)
		if err := b.run(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return r.finish(out, *markdown)
}

func help(flags *flag.FlagSet) {
	fmt.Fprintln(flags.Output(), "bench [flags] [what...]")
	for _, b := range benches() {
		fmt.Fprintf(flags.Output(), "  %-16s %s\n", b.name, b.help)
	}
	flags.PrintDefaults()
}

func choose(names []string) ([]bench, error) {
	all := benches()
	if len(names) == 0 || slices.Equal(names, []string{"all"}) {
		return all, nil
	}
	var chosen []bench
	for _, name := range names {
		found := false
		for _, b := range all {
			if b.name == name {
				chosen, found = append(chosen, b), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no %q to measure; see bench -h", name)
		}
	}
	return chosen, nil
}

// build builds the commands, for what is measured is what operators run.
func (r *run) build(ctx context.Context) error {
	r.dixie, r.constant = filepath.Join(r.dir, "dixie"), filepath.Join(r.dir, "constant")
	out, err := exec.CommandContext(ctx, "go", "build", "-o", r.dir, "dixie/cmd/dixie", "dixie/internal/bench/constant").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build the commands: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

var errMissed = errors.New("a target was missed")

// finish prints the report.
func (r *run) finish(out io.Writer, markdown string) error {
	r.report.text(out)
	if markdown != "" {
		file, err := os.Create(markdown)
		if err != nil {
			return err
		}
		r.report.markdown(file)
		if err := file.Close(); err != nil {
			return err
		}
	}
	if r.report.missed() {
		return errMissed
	}
	return nil
}
