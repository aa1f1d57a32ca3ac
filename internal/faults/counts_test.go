package faults_test

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// counts are what happened in a run. It is safe for concurrent use.
type counts struct {
	mu       sync.Mutex
	rounds   int
	took     time.Duration
	sent     int64
	told     int64
	logged   int64
	problems int64
	restarts int64
	answers  map[string]int64 // by method and status
	faults   map[string]int64 // by kind
}

func newCounts() *counts { return &counts{answers: map[string]int64{}, faults: map[string]int64{}} }

func (w *world) count(method string, a answer) {
	w.counts.mu.Lock()
	defer w.counts.mu.Unlock()
	status := "no answer"
	if a.status > 0 {
		status = fmt.Sprint(a.status)
	}
	w.counts.answers[method+" "+status]++
}

func (c *counts) problem() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.problems++
}

func (c *counts) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.restarts++
}

func (c *counts) fault(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults[kind]++
}

// add adds the counts of a round.
func (c *counts) add(round *counts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rounds++
	c.sent, c.told, c.logged = c.sent+round.sent, c.told+round.told, c.logged+round.logged
	c.problems, c.restarts = c.problems+round.problems, c.restarts+round.restarts
	for name, n := range round.answers {
		c.answers[name] += n
	}
	for name, n := range round.faults {
		c.faults[name] += n
	}
}

// print writes all that was counted as one table.
func (c *counts) print(out io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	line := func(name string, n any) { fmt.Fprintf(table, "%s\t%v\t\n", name, n) }
	line("time", c.took.Round(time.Second))
	line("rounds", c.rounds)
	line("events sent", c.sent)
	line("events acknowledged", c.told)
	line("rows in the logs", c.logged)
	line("restarts", c.restarts)
	line("broken promises", c.problems)
	for _, group := range []struct {
		title string
		of    map[string]int64
	}{{"answer", c.answers}, {"fault", c.faults}} {
		for _, name := range slices.SortedFunc(maps.Keys(group.of), func(a, b string) int { return cmp.Compare(a, b) }) {
			line(group.title+": "+name, group.of[name])
		}
	}
	_ = table.Flush()
}
