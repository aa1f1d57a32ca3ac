package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is what was measured.
type report struct {
	postgres string // version
	durable  bool   // is PostgreSQL
	lines    []line
}

// line is one thing that was measured.
type line struct {
	what   string
	value  string // measured
	limit  string // measured beside it
	ratio  string // of both
	target string
	met    bool
	by     string // the limiting factor
}

func (r *report) add(l line) { r.lines = append(r.lines, l) }

func (r *report) missed() bool {
	return slices.ContainsFunc(r.lines, func(l line) bool { return !l.met })
}

// machine is where the measurements were made.
func (r *report) machine() string {
	postgres := "PostgreSQL " + r.postgres
	if !r.durable {
		postgres += " that does not wait for the disk"
	}
	return fmt.Sprintf("%s, %d processors, %s/%s, %s, %s, %s",
		processor(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), postgres, time.Now().UTC().Format(time.DateOnly))
}

// processor is its name, if the system tells.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

func (r *report) text(out io.Writer) {
	fmt.Fprintln(out, r.machine())
	for _, l := range r.lines {
		verdict := "met"
		if !l.met {
			verdict = "MISSED"
		}
		fmt.Fprintf(out, "%s\n  measured %s\n  limit    %s\n  ratio    %s, target %s: %s\n", l.what, l.value, l.limit, l.ratio, l.target, verdict)
		if l.by != "" {
			fmt.Fprintf(out, "  limited by %s\n", l.by)
		}
	}
}

func (r *report) markdown(out io.Writer) {
	fmt.Fprintf(out, "%s.\n\n| what | measured | limit beside it | ratio | target | limiting factor |\n| --- | --- | --- | --- | --- | --- |\n", r.machine())
	for _, l := range r.lines {
		target := l.target
		if !l.met {
			target += " (missed)"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s |\n", l.what, l.value, l.limit, l.ratio, target, l.by)
	}
}

// samples are measurements of one number.
type samples []float64

// median is the middle one.
func (s samples) median() float64 {
	sorted := slices.Sorted(slices.Values(s))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
