package main

import "testing"

func TestRebuildEffort(t *testing.T) {
	t.Parallel()
	for all, want := range map[int]struct {
		processors int
		rest       float64
	}{1: {1, 2}, 2: {1, 2}, 3: {2, 2}, 4: {3, 0}, 64: {63, 0}} {
		if processors, rest := rebuildEffort(all); processors != want.processors || rest != want.rest {
			t.Errorf("of %d processors: %d, resting %v times; want %+v", all, processors, rest, want)
		}
	}
}
