package reputation

import "math"

// The formulas of protocol §5. Every product that is then added is wrapped in an
// explicit float64 conversion: it keeps the compiler from fusing the two
// operations, whose result would depend on the processor (protocol §13.1).

// PersonalWeight is n/(k+n), the share of an agent's own n samples against a
// prior worth k samples (protocol §5.1). k+n must be more than 0.
func PersonalWeight(n, k int64) float64 { return float64(n) / float64(k+n) }

// Blend is the Bayesian mean of a score with n samples and a prior worth k
// samples, (k·prior + n·score)/(k + n) (protocol §5.1). A nil score is the prior.
// n need not be whole: a decayed count is not.
func Blend(score *float64, prior, n float64, k int64) float64 {
	if score == nil {
		return prior
	}
	return (float64(float64(k)*prior) + float64(n**score)) / (float64(k) + n)
}

// Dampen is the running score after a new one, where n samples came before
// (protocol §5.6). old is nil before the first. The result lies between old and
// score, at most AlphaMax of the way.
func (d Damping) Dampen(old *float64, score float64, n int64) float64 {
	if old == nil {
		return d.first(score, n)
	}
	return *old + float64(d.alpha(n)*(score-*old))
}

func (d Damping) first(score float64, n int64) float64 {
	if d.ColdStart == ColdStartDirect {
		return score
	}
	count := float64(d.ColdStartCount)
	w := count / (count + float64(max(n, 1)))
	return float64(w*0.5) + float64((1-w)*score)
}

// alpha is the learning rate after n samples. The span is computed from
// variables, because Go would fold constants exactly (protocol §13.2).
func (d Damping) alpha(n int64) float64 {
	r := min(float64(n)/float64(d.RampSamples), 1)
	if d.Ramp == RampDescending {
		r = 1 - r
	}
	span := d.AlphaMax - d.AlphaMin
	return d.AlphaMin + float64(span*r)
}

// DecayedSamples is what n samples are worth after a number of days: half after
// each half-life (protocol §5.2). It is n when days is not positive and 0 when
// the half-life is not. It uses exp, whose last bit differs between platforms,
// and so is for reading and never stored.
func DecayedSamples(n, days, halfLifeDays float64) float64 {
	if days <= 0 {
		return n
	}
	if halfLifeDays <= 0 {
		return 0
	}
	return max(0, n*math.Exp(-(math.Ln2/halfLifeDays)*days))
}

// Weighted is a score and what it weighs. A nil score weighs nothing.
type Weighted struct {
	Score  *float64
	Weight float64
}

// CrossModel is the weighted mean of the scores, Σ(score·weight)/Σweight
// (protocol §5.4 with sample counts as weights), and nil when nothing weighs.
func CrossModel(scores []Weighted) *float64 {
	var sum, weight float64
	for _, s := range scores {
		if s.Score == nil {
			continue
		}
		sum += float64(*s.Score * s.Weight)
		weight += s.Weight
	}
	if weight == 0 {
		return nil
	}
	mean := sum / weight
	return &mean
}

// taskMatchWeight is how much more a cohort of the asked-for task counts
// (protocol §5.5).
const taskMatchWeight = 3.0

// TaskAware is the cross-model score in which a cohort of the given task counts
// three times (protocol §5.5). With an empty task it is the plain cross-model
// score; it is nil when no cohort has a score.
func TaskAware(cohorts []TaskCohort, task TaskType) *float64 {
	scores := make([]Weighted, len(cohorts))
	for i, c := range cohorts {
		weight := float64(c.SampleCount)
		if task != "" && c.TaskType == task {
			weight *= taskMatchWeight
		}
		scores[i] = Weighted{Score: c.PersonalScore, Weight: weight}
	}
	return CrossModel(scores)
}

func clamp01(f float64) float64 { return min(max(f, 0), 1) }
