package reputation_test

import (
	"math"
	"testing"

	"dixie/reputation"

	"github.com/google/go-cmp/cmp"
)

// canonicalDamping is the protocol library's own (protocol §5.6): its first value
// is pulled towards one half.
func canonicalDamping() reputation.Damping {
	d := reputation.DefaultParams().Damping
	d.ColdStart = reputation.ColdStartBayesian
	return d
}

// dampened are the running scores over a series, where the n given to the i-th
// step is i + offset.
func dampened(d reputation.Damping, offset int64, scores ...float64) []float64 {
	running := make([]float64, 0, len(scores))
	var old *float64
	for i, score := range scores {
		next := d.Dampen(old, score, int64(i)+offset)
		running = append(running, next)
		old = &next
	}
	return running
}

// within reports whether a and b are at most ulps representable numbers apart.
func within(a, b float64, ulps int64) bool {
	d := int64(math.Float64bits(a)) - int64(math.Float64bits(b))
	return max(d, -d) <= ulps
}

// TestBlend holds protocol §12.1.
func TestBlend(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		score    *float64
		prior, n float64
		k        int64
		want     float64
	}{
		{"protocol §12.1 first", new(0.8), 0.5, 10, 3, 0.7307692307692307},
		{"protocol §12.1 null", nil, 0.5, 0, 3, 0.5},
		{"protocol §12.1 third", new(0.9), 0.5, 1, 10, 0.5363636363636364},
		{"protocol §12.1 fourth", new(0.82), 0.55, 7, 10, 0.6611764705882353},
		{"null has no weight, whatever the count", nil, 0.3, 100, 3, 0.3},
		{"no samples", new(0.9), 0.3, 0, 3, 0.3},
		{"a fraction of a sample", new(1.0), 0, 0.5, 1, 1.0 / 3},
		{"both at the top", new(1.0), 1, 7, 3, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := reputation.Blend(tt.score, tt.prior, tt.n, tt.k); got != tt.want {
				t.Errorf("Blend = %v, want %v", got, tt.want)
			}
		})
	}
}

// TestPersonalWeight holds protocol §12.2.
func TestPersonalWeight(t *testing.T) {
	t.Parallel()
	tests := []struct {
		n, k int64
		want float64
	}{
		{26, 3, 0.896551724137931},
		{27, 3, 0.9},
		{28, 3, 0.9032258064516129},
		{90, 10, 0.9},
		{91, 10, 0.900990099009901},
		{0, 3, 0},
	}
	for _, tt := range tests {
		if got := reputation.PersonalWeight(tt.n, tt.k); got != tt.want {
			t.Errorf("PersonalWeight(%d, %d) = %v, want %v", tt.n, tt.k, got, tt.want)
		}
	}
}

// TestDecayedSamples holds protocol §12.3, whose tolerance is 2 ulp where exp is
// used.
func TestDecayedSamples(t *testing.T) {
	t.Parallel()
	tests := []struct {
		n, days, halfLife, want float64
		ulps                    int64
	}{
		{100, 30, 30, 50, 2},
		{100, 60, 30, 25, 2},
		{50, 45, 30, 17.67766952966369, 2},
		{10, 7, 7, 5, 2},
		{100, -5, 30, 100, 0},
		{10, 1, 0, 0, 0},
		{10, 1, -1, 0, 0},
		{100, 0, 30, 100, 0},
		{10, 0, 0, 10, 0}, // no time has passed, whatever the half-life
		{0, 10, 30, 0, 0},
		{10, 1e9, 30, 0, 0},
		{10, math.Inf(1), 30, 0, 0},
	}
	for _, tt := range tests {
		got := reputation.DecayedSamples(tt.n, tt.days, tt.halfLife)
		if !within(got, tt.want, tt.ulps) {
			t.Errorf("DecayedSamples(%v, %v, %v) = %v, want %v", tt.n, tt.days, tt.halfLife, got, tt.want)
		}
	}
}

// TestDampenSeries holds protocol §12.4 and §12.6.
func TestDampenSeries(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		d      reputation.Damping
		offset int64
		want   []float64
	}{
		{
			"protocol §12.4, n before", canonicalDamping(), 0,
			[]float64{0.5363636363636364, 0.6660727272727273, 0.8034935272727273, 0.6114306082909091, 0.7230810836107636},
		},
		{
			"protocol §12.4, n including this one", canonicalDamping(), 1,
			[]float64{0.5363636363636364, 0.6639636363636364, 0.8001169454545455, 0.6128622149818181, 0.7219455960901818},
		},
		{
			"protocol §12.6", reputation.DixieParams().Damping, 0,
			[]float64{0.9, 0.8892, 0.8962528, 0.8347174528, 0.8367347490304},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := dampened(tt.d, tt.offset, 0.9, 0.8, 0.95, 0.4, 0.85)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestDampenStep holds protocol §12.5 and the single steps of §12.6.
func TestDampenStep(t *testing.T) {
	t.Parallel()
	custom := reputation.Damping{
		AlphaMin: 0.2, AlphaMax: 0.6, RampSamples: 10, ColdStartCount: 4,
		Ramp: reputation.RampDescending, ColdStart: reputation.ColdStartBayesian,
	}
	half, dixie := new(0.5), reputation.DixieParams().Damping
	tests := []struct {
		name string
		d    reputation.Damping
		old  *float64
		n    int64
		want float64
	}{
		{"protocol §12.5 canonical, n 0", canonicalDamping(), half, 0, 0.7},
		{"protocol §12.5 canonical, n 1", canonicalDamping(), half, 1, 0.6968},
		{"protocol §12.5 canonical, n 10", canonicalDamping(), half, 10, 0.668},
		{"protocol §12.5 canonical, n 25", canonicalDamping(), half, 25, 0.62},
		{"protocol §12.5 canonical, n 49", canonicalDamping(), half, 49, 0.5432},
		{"protocol §12.5 canonical, n 50", canonicalDamping(), half, 50, 0.54},
		{"protocol §12.5 canonical, n 100", canonicalDamping(), half, 100, 0.54},
		{"protocol §12.5 custom, n 5", custom, half, 5, 0.66},
		{"protocol §12.5 first, n 0", canonicalDamping(), nil, 0, 0.5363636363636364},
		{"protocol §12.5 first, n 1", canonicalDamping(), nil, 1, 0.5363636363636364},
		{"protocol §12.5 first, n 10", canonicalDamping(), nil, 10, 0.7},
		{"protocol §12.6, n 0", dixie, half, 0, 0.54},
		{"protocol §12.6, n 1", dixie, half, 1, 0.5432},
		{"protocol §12.6, n 10", dixie, half, 10, 0.5720000000000001},
		{"protocol §12.6, n 25", dixie, half, 25, 0.62},
		{"protocol §12.6, n 49", dixie, half, 49, 0.6968},
		{"protocol §12.6, n 50", dixie, half, 50, 0.7},
		{"the ramp ends, n 1000", dixie, half, 1000, 0.7},
		{"direct first, whatever n", dixie, nil, 10, 0.9},
		{"cold-start strength is the custom one", custom, nil, 4, 0.7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.d.Dampen(tt.old, 0.9, tt.n); got != tt.want {
				t.Errorf("Dampen = %v, want %v", got, tt.want)
			}
		})
	}
	if *half != 0.5 {
		t.Errorf("Dampen changed its argument to %v", *half)
	}
}

// TestCrossModel holds protocol §12.9.
func TestCrossModel(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		scores []reputation.Weighted
		want   *float64
	}{
		{"protocol §12.9", []reputation.Weighted{{new(0.9), 45}, {new(0.7), 10}, {nil, 3}}, new(0.8636363636363636)},
		{"none", nil, nil},
		{"only null", []reputation.Weighted{{nil, 3}}, nil},
		{"no weight", []reputation.Weighted{{new(0.9), 0}}, nil},
		{"one", []reputation.Weighted{{new(0.25), 4}}, new(0.25)},
		{"zero is a score", []reputation.Weighted{{new(0.0), 1}, {new(1.0), 1}}, new(0.5)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, reputation.CrossModel(tt.scores)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestTaskAware holds protocol §12.10.
func TestTaskAware(t *testing.T) {
	t.Parallel()
	cohorts := []reputation.TaskCohort{
		{ModelID: "a", PersonalScore: new(0.9), SampleCount: 10, TaskType: "code_review"},
		{ModelID: "b", PersonalScore: new(0.6), SampleCount: 30, TaskType: "analysis"},
		{ModelID: "c", SampleCount: 5, TaskType: "code_review"},
	}
	tests := []struct {
		name    string
		cohorts []reputation.TaskCohort
		task    reputation.TaskType
		want    *float64
	}{
		{"protocol §12.10 code_review", cohorts, "code_review", new(0.75)},
		{"protocol §12.10 analysis", cohorts, "analysis", new(0.63)},
		{"protocol §12.10 general", cohorts, "general", new(0.675)},
		{"protocol §12.10 none", cohorts, "", new(0.675)},
		{"no task does not match cohorts without one", []reputation.TaskCohort{
			{PersonalScore: new(1.0), SampleCount: 1},
			{PersonalScore: new(0.0), SampleCount: 1, TaskType: "general"},
		}, "", new(0.5)},
		{"only null", cohorts[2:], "code_review", nil},
		{"no cohorts", nil, "general", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, reputation.TaskAware(tt.cohorts, tt.task)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCollectionPrior(t *testing.T) {
	t.Parallel()
	p := reputation.DefaultParams()
	p.NeutralPrior = 0.4
	tests := []struct {
		name string
		c    reputation.Collection
		own  *float64
		want float64
	}{
		{"empty", reputation.Collection{}, nil, 0.4},
		{"members without scores", reputation.Collection{Members: 9}, nil, 0.4},
		{"only the agent", reputation.Collection{Sum: 0.9, Scores: 1, Members: 1}, new(0.9), 0.4},
		{"only the agent among unscored", reputation.Collection{Sum: 0.9, Scores: 1, Members: 5}, new(0.9), 0.4},
		{"one other", reputation.Collection{Sum: 0.75, Scores: 1, Members: 2}, nil, 0.75},
		{"the agent is left out", reputation.Collection{Sum: 1.75, Scores: 3, Members: 3}, new(0.75), 0.5},
		{"rounding below zero", reputation.Collection{Sum: -1e-17, Scores: 1, Members: 1}, nil, 0},
		{"rounding above one", reputation.Collection{Sum: 1.0000000000000002, Scores: 1, Members: 1}, nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := tt.c.Prior(tt.own, p)
			if got != tt.want || math.Signbit(got) {
				t.Errorf("Prior = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestCollectionMeanAndVariance(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name           string
		c              reputation.Collection
		mean, variance float64
	}{
		{"empty", reputation.Collection{Members: 3}, 0.5, 0},
		{"one", reputation.Collection{Sum: 0.25, Squares: 0.0625, Scores: 1}, 0.25, 0},
		{"two", reputation.Collection{Sum: 1, Squares: 0.625, Scores: 2}, 0.5, 0.0625},
		{"rounding above one", reputation.Collection{Sum: 2.0000000000000004, Squares: 2, Scores: 2}, 1, 0},
		{"rounding below zero", reputation.Collection{Sum: -1e-17, Squares: 0, Scores: 2}, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := tt.c.Mean(0.5); got != tt.mean {
				t.Errorf("Mean = %v, want %v", got, tt.mean)
			}
			if got := tt.c.Variance(); got != tt.variance {
				t.Errorf("Variance = %v, want %v", got, tt.variance)
			}
		})
	}
}
