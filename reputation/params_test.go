package reputation_test

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"dixie/reputation"

	"github.com/google/go-cmp/cmp"
)

// TestPresets holds the table of protocol part I.1.
func TestPresets(t *testing.T) {
	t.Parallel()
	want := reputation.Params{
		PseudoCount: 3, MinSampleCount: 5, AuthoritativeWeight: 0.9,
		Damping: reputation.Damping{
			AlphaMin: 0.1, AlphaMax: 0.5, RampSamples: 50, Ramp: "descending", ColdStart: "direct", ColdStartCount: 10,
		},
		NeutralPrior: 0.5, HalfLifeDays: 30, ConfidenceThreshold: 30, ReliableSamples: 5, StaleAfterDays: 60,
	}
	if diff := cmp.Diff(want, reputation.DefaultParams()); diff != "" {
		t.Errorf("DefaultParams (-want +got):\n%s", diff)
	}
	want.PseudoCount, want.MinSampleCount, want.Damping.Ramp = 10, 10, "ascending"
	if diff := cmp.Diff(want, reputation.DixieParams()); diff != "" {
		t.Errorf("DixieParams (-want +got):\n%s", diff)
	}
}

func TestParamsValidate(t *testing.T) {
	t.Parallel()
	type params = reputation.Params
	tests := []struct {
		name   string
		change func(*params)
		want   string // of the error, a line for each parameter
	}{
		{"defaults", func(*params) {}, ""},
		{"dixie", func(p *params) { *p = reputation.DixieParams() }, ""},
		{"pseudo_count 1", func(p *params) { p.PseudoCount = 1 }, ""},
		{"pseudo_count 0", func(p *params) { p.PseudoCount = 0 }, "pseudo_count must be at least 1, found 0"},
		{"min_sample_count 1", func(p *params) { p.MinSampleCount = 1 }, ""},
		{"min_sample_count 0", func(p *params) { p.MinSampleCount = 0 }, "min_sample_count must be at least 1, found 0"},
		{"authoritative_weight 0", func(p *params) { p.AuthoritativeWeight = 0 }, ""},
		{"authoritative_weight 1", func(p *params) { p.AuthoritativeWeight = 1 }, ""},
		{"authoritative_weight 1.1", func(p *params) { p.AuthoritativeWeight = 1.1 }, "authoritative_weight must be between 0 and 1, found 1.1"},
		{"authoritative_weight NaN", func(p *params) { p.AuthoritativeWeight = math.NaN() }, "authoritative_weight must be between 0 and 1, found NaN"},
		{"neutral_prior -0.1", func(p *params) { p.NeutralPrior = -0.1 }, "neutral_prior must be between 0 and 1, found -0.1"},
		{"alpha 0 to 1", func(p *params) { p.Damping.AlphaMin, p.Damping.AlphaMax = 0, 1 }, ""},
		{"alpha constant", func(p *params) { p.Damping.AlphaMin = 0.5 }, ""},
		{"alpha_min above alpha_max", func(p *params) { p.Damping.AlphaMin = 0.6 }, "alpha_min must be at most alpha_max, found 0.6 and 0.5"},
		{"alpha_min -1", func(p *params) { p.Damping.AlphaMin = -1 }, "alpha_min must be between 0 and 1, found -1"},
		{"alpha_max 2", func(p *params) { p.Damping.AlphaMax = 2 }, "alpha_max must be between 0 and 1, found 2"},
		{"alpha_max NaN", func(p *params) { p.Damping.AlphaMax = math.NaN() }, "alpha_max must be between 0 and 1, found NaN"},
		{"ramp_samples 1", func(p *params) { p.Damping.RampSamples = 1 }, ""},
		{"ramp_samples 0", func(p *params) { p.Damping.RampSamples = 0 }, "ramp_samples must be at least 1, found 0"},
		{"ramp unknown", func(p *params) { p.Damping.Ramp = "flat" }, `ramp must be ascending or descending, found "flat"`},
		{"cold_start bayesian", func(p *params) { p.Damping.ColdStart = "bayesian" }, ""},
		{"cold_start unknown", func(p *params) { p.Damping.ColdStart = "" }, `cold_start must be direct or bayesian, found ""`},
		{"cold_start_count 0", func(p *params) { p.Damping.ColdStartCount = 0 }, "cold_start_count must be at least 1, found 0"},
		{"half_life_days tiny", func(p *params) { p.HalfLifeDays = 5e-324 }, ""},
		{"half_life_days 0", func(p *params) { p.HalfLifeDays = 0 }, "half_life_days must be more than 0, found 0"},
		{"half_life_days infinite", func(p *params) { p.HalfLifeDays = math.Inf(1) }, "half_life_days must be more than 0, found +Inf"},
		{"half_life_days NaN", func(p *params) { p.HalfLifeDays = math.NaN() }, "half_life_days must be more than 0, found NaN"},
		{"confidence_threshold 0", func(p *params) { p.ConfidenceThreshold = 0 }, "confidence_threshold must be at least 1, found 0"},
		{"reliable_samples 0", func(p *params) { p.ReliableSamples = 0 }, ""},
		{"reliable_samples -1", func(p *params) { p.ReliableSamples = -1 }, "reliable_samples must be at least 0, found -1"},
		{"stale_after_days 0", func(p *params) { p.StaleAfterDays = 0 }, ""},
		{"stale_after_days -1", func(p *params) { p.StaleAfterDays = -1 }, "stale_after_days must not be negative, found -1"},
		{"stale_after_days infinite", func(p *params) { p.StaleAfterDays = math.Inf(1) }, "stale_after_days must not be negative, found +Inf"},
		{
			"zero", func(p *params) { *p = params{} }, strings.Join([]string{
				"pseudo_count must be at least 1, found 0",
				"min_sample_count must be at least 1, found 0",
				"ramp_samples must be at least 1, found 0",
				"cold_start_count must be at least 1, found 0",
				`ramp must be ascending or descending, found ""`,
				`cold_start must be direct or bayesian, found ""`,
				"half_life_days must be more than 0, found 0",
				"confidence_threshold must be at least 1, found 0",
			}, "\n"),
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := reputation.DefaultParams()
			tt.change(&p)
			var got string
			if err := p.Validate(); err != nil {
				got = err.Error()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestVersionIsStable: stored rows carry the version, so that one that changes by
// accident would rebuild every projection.
func TestVersionIsStable(t *testing.T) {
	t.Parallel()
	if got, want := reputation.DefaultParams().Version(), "1-4112f6fc8241"; got != want {
		t.Errorf("default version %q, want %q", got, want)
	}
	if got, want := reputation.DixieParams().Version(), "1-fc0f4503a21d"; got != want {
		t.Errorf("dixie version %q, want %q", got, want)
	}
}

// TestVersionCovers changes one parameter at a time: those that shape stored rows
// change the version, those that only matter to a reader do not.
func TestVersionCovers(t *testing.T) {
	t.Parallel()
	base := reputation.DefaultParams().Version()
	readTime := map[string]bool{
		"HalfLifeDays": true, "ConfidenceThreshold": true, "ReliableSamples": true, "StaleAfterDays": true,
	}
	var visit func(v reflect.Value, p *reputation.Params)
	visit = func(v reflect.Value, p *reputation.Params) {
		for i := range v.NumField() {
			name, field := v.Type().Field(i).Name, v.Field(i)
			before := reflect.ValueOf(field.Interface())
			switch field.Kind() {
			case reflect.Struct:
				visit(field, p)
				continue
			case reflect.Int64:
				field.SetInt(field.Int() + 1)
			case reflect.Float64:
				field.SetFloat(math.Nextafter(field.Float(), 0))
			case reflect.String:
				field.SetString(field.String() + "x")
			default:
				t.Fatalf("parameter %s is a %s, which this test cannot change", name, field.Kind())
			}
			if changed := p.Version() != base; changed == readTime[name] {
				t.Errorf("changing %s changes the version: %v, want %v", name, changed, !readTime[name])
			}
			field.Set(before)
		}
	}
	p := reputation.DefaultParams()
	visit(reflect.ValueOf(&p).Elem(), &p)
	if p.Version() != base {
		t.Error("the parameters were not put back")
	}
}
