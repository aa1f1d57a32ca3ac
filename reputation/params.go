package reputation

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/go-json-experiment/json"
)

// Ramp is the direction in which the learning rate moves as samples arrive.
type Ramp string

// The ramps of protocol §5.6.
const (
	// RampDescending learns fast first: α falls from AlphaMax to AlphaMin.
	RampDescending Ramp = "descending"
	// RampAscending learns slowly first: α rises from AlphaMin to AlphaMax.
	RampAscending Ramp = "ascending"
)

// ColdStart is what becomes of the first score of all.
type ColdStart string

// The cold-start strategies of protocol §5.6.
const (
	// ColdStartDirect takes the first score as it is.
	ColdStartDirect ColdStart = "direct"
	// ColdStartBayesian pulls the first score towards one half.
	ColdStartBayesian ColdStart = "bayesian"
)

// Params are all constants of the scoring formulas. The zero value is not
// usable; start from [DefaultParams] or [DixieParams].
type Params struct {
	// PseudoCount k is the strength of the prior, in observations; at least 1.
	PseudoCount int64 `json:"pseudo_count"`
	// MinSampleCount is the number of observations that make an agent
	// established; at least 1.
	MinSampleCount int64 `json:"min_sample_count"`
	// AuthoritativeWeight is the personal weight n/(k+n) above which, strictly, an
	// established agent becomes authoritative; in [0, 1].
	AuthoritativeWeight float64 `json:"authoritative_weight"`
	// Damping is how running scores move.
	Damping Damping `json:"damping"`
	// NeutralPrior is the prior of a collection without other members; in [0, 1].
	NeutralPrior float64 `json:"neutral_prior"`

	// The rest is used when a reputation is read and changes no stored row.

	// HalfLifeDays is the time in which a sample loses half its weight; more than 0.
	HalfLifeDays float64 `json:"-"`
	// ConfidenceThreshold is the number of samples at which a cohort's score is
	// fully trusted; at least 1.
	ConfidenceThreshold int64 `json:"-"`
	// ReliableSamples is the least number of observations of a reliable
	// reputation; not negative.
	ReliableSamples int64 `json:"-"`
	// StaleAfterDays is the age of the last observation from which, strictly, a
	// reputation is not reliable; not negative.
	StaleAfterDays float64 `json:"-"`
}

// Damping are the constants of protocol §5.6.
type Damping struct {
	// AlphaMin and AlphaMax bound the learning rate; 0 ≤ AlphaMin ≤ AlphaMax ≤ 1.
	AlphaMin float64 `json:"alpha_min"`
	AlphaMax float64 `json:"alpha_max"`
	// RampSamples is the number of samples over which the rate moves from one
	// bound to the other; at least 1.
	RampSamples int64 `json:"ramp_samples"`
	Ramp        Ramp  `json:"ramp"`
	// ColdStart is what becomes of the first score.
	ColdStart ColdStart `json:"cold_start"`
	// ColdStartCount is the strength, in observations, of the pull towards one
	// half in a Bayesian cold start; at least 1.
	ColdStartCount int64 `json:"cold_start_count"`
}

// DefaultParams are the protocol's.
func DefaultParams() Params {
	return Params{
		PseudoCount:         3,
		MinSampleCount:      5,
		AuthoritativeWeight: 0.9,
		Damping: Damping{
			AlphaMin: 0.1, AlphaMax: 0.5, RampSamples: 50,
			Ramp: RampDescending, ColdStart: ColdStartDirect, ColdStartCount: 10,
		},
		NeutralPrior:        0.5,
		HalfLifeDays:        30,
		ConfidenceThreshold: 30,
		ReliableSamples:     5,
		StaleAfterDays:      60,
	}
}

// DixieParams are those of the service that this one succeeds: a stronger prior
// and an ascending learning rate.
func DixieParams() Params {
	p := DefaultParams()
	p.PseudoCount = 10
	p.MinSampleCount = 10
	p.Damping.Ramp = RampAscending
	return p
}

// Validate reports every parameter that is out of its range, joined.
func (p Params) Validate() error {
	return errors.Join(
		atLeast("pseudo_count", p.PseudoCount, 1),
		atLeast("min_sample_count", p.MinSampleCount, 1),
		within01("authoritative_weight", p.AuthoritativeWeight),
		p.Damping.validate(),
		within01("neutral_prior", p.NeutralPrior),
		positive("half_life_days", p.HalfLifeDays),
		atLeast("confidence_threshold", p.ConfidenceThreshold, 1),
		atLeast("reliable_samples", p.ReliableSamples, 0),
		notNegative("stale_after_days", p.StaleAfterDays),
	)
}

func (d Damping) validate() error {
	err := errors.Join(
		within01("alpha_min", d.AlphaMin),
		within01("alpha_max", d.AlphaMax),
		atLeast("ramp_samples", d.RampSamples, 1),
		atLeast("cold_start_count", d.ColdStartCount, 1),
	)
	if d.AlphaMin > d.AlphaMax {
		err = errors.Join(err, fmt.Errorf("alpha_min must be at most alpha_max, found %v and %v", d.AlphaMin, d.AlphaMax))
	}
	if d.Ramp != RampAscending && d.Ramp != RampDescending {
		err = errors.Join(err, fmt.Errorf("ramp must be ascending or descending, found %q", d.Ramp))
	}
	if d.ColdStart != ColdStartDirect && d.ColdStart != ColdStartBayesian {
		err = errors.Join(err, fmt.Errorf("cold_start must be direct or bayesian, found %q", d.ColdStart))
	}
	return err
}

// foldVersion changes whenever the fold gives other rows for the same events and
// parameters.
const foldVersion = 1

// Version names the fold and the parameters that shape stored rows. Rows of
// different versions must not be mixed: a projection whose version changes is to
// be rebuilt. Parameters that only matter when a reputation is read are not part
// of it.
func (p Params) Version() string {
	shaped, err := json.Marshal(p, json.Deterministic(true))
	if err != nil {
		// Only NaN and infinities cannot be encoded, and Validate refuses them.
		panic(fmt.Sprintf("reputation: encode parameters: %v", err))
	}
	sum := sha256.Sum256(shaped)
	return fmt.Sprintf("%d-%s", foldVersion, hex.EncodeToString(sum[:6]))
}

func atLeast(name string, value, least int64) error {
	if value < least {
		return fmt.Errorf("%s must be at least %d, found %d", name, least, value)
	}
	return nil
}

func within01(name string, value float64) error {
	if !(value >= 0 && value <= 1) {
		return fmt.Errorf("%s must be between 0 and 1, found %v", name, value)
	}
	return nil
}

func positive(name string, value float64) error {
	if !(value > 0) || math.IsInf(value, 0) {
		return fmt.Errorf("%s must be more than 0, found %v", name, value)
	}
	return nil
}

func notNegative(name string, value float64) error {
	if !(value >= 0) || math.IsInf(value, 0) {
		return fmt.Errorf("%s must not be negative, found %v", name, value)
	}
	return nil
}
