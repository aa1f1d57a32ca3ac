package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progressInterval is how often progress is told where no bar can be drawn.
const progressInterval = 2 * time.Second

// progress tells how far a long piece of work has come: a bar on a terminal,
// plain lines elsewhere. Steps are added by one goroutine.
type progress struct {
	out     io.Writer
	label   string
	unit    string // of the steps: events or bytes
	total   int64  // 0 when it is not known
	started time.Time
	bar     *progressbar.ProgressBar // nil without a terminal
	done    atomic.Int64
	told    time.Time
}

// startProgress begins to tell of work of a total size; 0 when it is not known.
func startProgress(out io.Writer, label, unit string, total int64) *progress {
	now := time.Now()
	p := &progress{out: out, label: label, unit: unit, total: total, started: now, told: now}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = newBar(out, label, unit, total)
	}
	return p
}

func newBar(out io.Writer, label, unit string, total int64) *progressbar.ProgressBar {
	if total == 0 {
		total = -1 // a spinner
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(out),
		progressbar.OptionSetDescription(label),
		progressbar.OptionShowBytes(unit == "bytes"),
		progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish(),
	)
}

// add notes that n more steps are done.
func (p *progress) add(n int64) {
	done := p.done.Add(n)
	if p.bar != nil {
		_ = p.bar.Set64(done)
		return
	}
	if now := time.Now(); now.Sub(p.told) >= progressInterval {
		p.told = now
		fmt.Fprintln(p.out, p.line(now))
	}
}

// line is how far the work has come, with its rate and the time left.
func (p *progress) line(now time.Time) string {
	done, elapsed := p.done.Load(), now.Sub(p.started).Seconds()
	rate := float64(done) / max(elapsed, 1e-3)
	if p.total <= 0 || done > p.total {
		return fmt.Sprintf("%s: %d %s, %.0f/s", p.label, done, p.unit, rate)
	}
	left := time.Duration(float64(p.total-done) / max(rate, 1e-3) * float64(time.Second))
	return fmt.Sprintf("%s: %d of %d %s (%d%%), %.0f/s, %s left",
		p.label, done, p.total, p.unit, 100*done/p.total, rate, left.Round(time.Second))
}

// finish ends the telling with a last line.
func (p *progress) finish(result string) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintf(p.out, "%s: %s in %s\n", p.label, result, time.Since(p.started).Round(time.Millisecond))
}

// reader counts the bytes that are read through it.
func (p *progress) reader(in io.Reader) io.Reader { return progressReader{in, p} }

type progressReader struct {
	in io.Reader
	p  *progress
}

func (r progressReader) Read(b []byte) (int, error) {
	n, err := r.in.Read(b)
	r.p.add(int64(n))
	return n, err
}
