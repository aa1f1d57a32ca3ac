package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAll measures everything once, so small that it tells nothing but that it works:
// whether targets are met does not count.
func TestAll(t *testing.T) {
	t.Parallel()
	var out, progress bytes.Buffer
	markdown := filepath.Join(t.TempDir(), "table.md")
	err := measure(t.Context(), []string{
		"-events", "2000", "-agents", "50", "-growth", "2000", "-calm", "200ms", "-repeat", "1", "-durable=false", "-markdown", markdown, "all",
	}, &out, &progress)
	if err != nil && !errors.Is(err, errMissed) {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	text, readErr := os.ReadFile(markdown)
	if readErr != nil {
		t.Fatal(readErr)
	}
	for _, b := range benches() {
		if n := strings.Count(progress.String(), "what="+b.name+"\n"); n != 1 {
			t.Errorf("%s was measured %d times", b.name, n)
		}
	}
	rows := slices.Collect(strings.Lines(string(text)))
	if got := strings.Count(string(text), "\n| ") - 2; got < len(benches()) {
		t.Errorf("%d lines for %d measurements:\n%s", got, len(benches()), text)
	}
	for _, row := range rows[2:] {
		if strings.Count(row, "|") != 7 {
			t.Errorf("not a row of the table: %s", row)
		}
	}
	if missed := strings.Contains(string(text), "(missed)"); missed != errors.Is(err, errMissed) {
		t.Errorf("error %v with the table\n%s", err, text)
	}
	if strings.Count(out.String(), "\n  measured ") != strings.Count(string(text), "\n| ")-2 {
		t.Errorf("the text has other lines than the table:\n%s\n%s", out.String(), text)
	}
}

func TestUnknownName(t *testing.T) {
	t.Parallel()
	var out, progress bytes.Buffer
	err := measure(t.Context(), []string{"append", "luck"}, &out, &progress)
	if err == nil || !strings.Contains(err.Error(), `"luck"`) {
		t.Errorf("error %v, want one that names it", err)
	}
}

// TestMissed: a target that is missed makes the command fail, and the tables say which.
func TestMissed(t *testing.T) {
	t.Parallel()
	c := comparison{measured: samples{300, 390, 310}, limit: samples{1000, 1000, 1000}, ratios: samples{0.30, 0.39, 0.31}}
	for _, test := range []struct {
		line line
		met  bool
	}{
		{c.share("appends", "events/s", "inserts", 0.32), false},
		{c.share("appends", "events/s", "inserts", 0.31), true},
		{c.times("reads", "COPY", 0.30), false},
		{c.times("reads", "COPY", 0.31), true},
	} {
		r := run{}
		r.report.add(test.line)
		markdown := filepath.Join(t.TempDir(), "table.md")
		var out bytes.Buffer
		err := r.finish(&out, markdown)
		if errors.Is(err, errMissed) == test.met {
			t.Errorf("%+v: error %v", test.line, err)
		}
		text, readErr := os.ReadFile(markdown)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if strings.Contains(out.String(), "MISSED") == test.met || strings.Contains(string(text), "(missed)") == test.met {
			t.Errorf("%+v:\n%s\n%s", test.line, out.String(), text)
		}
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		seconds samples
		want    string
	}{
		{samples{1.23456}, "1.23s (1.23s to 1.23s)"},
		{samples{0.0000123, 0.000001, 0.02}, "12.3µs (1µs to 20ms)"},
		{samples{61.26, 59.04}, "1m0.2s (59s to 1m1.3s)"},
	} {
		if got := test.seconds.spread(duration); got != test.want {
			t.Errorf("%v: %q, want %q", test.seconds, got, test.want)
		}
	}
}
