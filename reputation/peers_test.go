package reputation_test

// The protocol's worked numbers come from the code of several peers, and some are
// of behaviour that this service does not have: it keeps no dual track, takes no
// mean over events, imports no credential, writes no audit trail. They are tested
// here all the same, as compositions of this package's primitives in the order of
// operations that the protocol writes down, because they pin those primitives bit
// for bit in uses that the service's own fold does not reach.

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"dixie/reputation"

	"github.com/google/go-cmp/cmp"
)

// TestPeerDampening holds protocol §12.7: the other two combinations of ramp and
// cold start.
func TestPeerDampening(t *testing.T) {
	t.Parallel()
	ascendingBayesian := reputation.DixieParams().Damping
	ascendingBayesian.ColdStart = reputation.ColdStartBayesian
	tests := []struct {
		name string
		d    reputation.Damping
		want []float64
	}{
		{
			"ascending, bayesian", ascendingBayesian,
			[]float64{0.5363636363636364, 0.5648363636363637, 0.6095153454545454, 0.5835354426181818, 0.6187087641925818},
		},
		{
			"descending, direct", reputation.DefaultParams().Damping,
			[]float64{0.9, 0.8508, 0.8988128, 0.6613779072, 0.7496530466304},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, dampened(tt.d, 0, 0.9, 0.8, 0.95, 0.4, 0.85)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestPeerDualTrack holds protocol §12.8: the tracks differ on the first
// observation only, by the cold start.
func TestPeerDualTrack(t *testing.T) {
	t.Parallel()
	display := reputation.DixieParams().Damping
	internal := display
	internal.ColdStart = reputation.ColdStartBayesian
	tests := []struct {
		name                  string
		old                   *float64
		n                     int64
		wantInternal, display float64
	}{
		{"first", nil, 0, 0.5363636363636364, 0.9},
		{"later", new(0.5), 10, 0.5720000000000001, 0.5720000000000001},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := internal.Dampen(tt.old, 0.9, tt.n); got != tt.wantInternal {
				t.Errorf("internal = %v, want %v", got, tt.wantInternal)
			}
			if got := display.Dampen(tt.old, 0.9, tt.n); got != tt.display {
				t.Errorf("display = %v, want %v", got, tt.display)
			}
		})
	}
}

// welford is the peer's running mean over events (protocol §5.8).
type welford struct{ n, mean, m2 float64 }

func (w *welford) add(x float64) {
	w.n++
	delta := x - w.mean
	w.mean += delta / w.n
	w.m2 += float64(delta * (x - w.mean))
}

// prior is the mean of the events so far, or one half.
func (w *welford) prior() float64 {
	if w.n == 0 {
		return 0.5
	}
	return w.mean
}

// TestPeerRunningMean holds protocol §12.11. It pins the test's own helper, which
// TestPeerLivePath rests on.
func TestPeerRunningMean(t *testing.T) {
	t.Parallel()
	var w welford
	var means []float64
	for _, x := range []float64{0.9, 0.8, 0.95, 0.4} {
		w.add(x)
		means = append(means, w.mean)
	}
	if diff := cmp.Diff([]float64{0.9, 0.8500000000000001, 0.8833333333333334, 0.7625000000000001}, means); diff != "" {
		t.Errorf("means (-want +got):\n%s", diff)
	}
	if w.m2 != 0.18687500000000004 || w.m2/w.n != 0.04671875000000001 {
		t.Errorf("m2 %v, variance %v, want 0.18687500000000004, 0.04671875000000001", w.m2, w.m2/w.n)
	}
	// The projection's sums give the same to their last digits.
	c := reputation.Collection{Scores: 4}
	for _, x := range []float64{0.9, 0.8, 0.95, 0.4} {
		c.Sum += x
		c.Squares += float64(x * x)
	}
	if d := c.Variance() - w.m2/w.n; d > 1e-15 || d < -1e-15 {
		t.Errorf("Variance = %v, want %v", c.Variance(), w.m2/w.n)
	}
	if d := c.Mean(0) - w.mean; d > 1e-15 || d < -1e-15 {
		t.Errorf("Mean = %v, want %v", c.Mean(0), w.mean)
	}
}

// dimensional is the peer's next stored value of a dimension, which is blended at
// every step (protocol §5.7). n is the agent's count before the event.
func dimensional(old *float64, score, prior float64, n, k int64) float64 {
	next := reputation.DixieParams().Damping.Dampen(old, score, n)
	return reputation.Blend(&next, prior, float64(n+1), k)
}

// TestPeerDimensions holds protocol §12.12 and the falling series of §5.7.
func TestPeerDimensions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		old          *float64
		score, prior float64
		n            int64
		want         float64
	}{
		{"first accuracy", nil, 0.9, 0.5, 0, 0.5363636363636364},
		{"first coherence", nil, 0.6, 0.5, 0, 0.509090909090909},
		{"second accuracy", new(0.5363636363636364), 0.9, 0.55, 1, 0.5542727272727273},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := dimensional(tt.old, tt.score, tt.prior, tt.n, 10); got != tt.want {
				t.Errorf("stored value = %v, want %v", got, tt.want)
			}
		})
	}

	// A constant 0.9 falls at the peer and rises here, to the four digits given.
	var peer, ours []string
	var stored *float64
	p := reputation.DixieParams()
	w := newWorld(p)
	for n := range int64(4) {
		next := dimensional(stored, 0.9, 0.5, n, 10)
		stored = &next
		peer = append(peer, fmt.Sprintf("%.4f", next))
		w.mustFold(t, "bear-1", happened(t, "honey", int(n), reputation.QualitySignal{
			Score: 0.9, Dimensions: reputation.Dimensions{{"accuracy", 0.9}},
		}))
		ours = append(ours, fmt.Sprintf("%.4f", w.agents["bear-1"].DimensionScores()["accuracy"]))
	}
	if diff := cmp.Diff([]string{"0.5364", "0.5126", "0.5133", "0.5175"}, peer); diff != "" {
		t.Errorf("the peer's series (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"0.5364", "0.5667", "0.5923", "0.6143"}, ours); diff != "" {
		t.Errorf("this service's series (-want +got):\n%s", diff)
	}
}

// TestPeerCredentialPrior holds protocol §12.13: the prior that a credential from
// another collection gives is a weighted mean of two scores (protocol §5.9).
func TestPeerCredentialPrior(t *testing.T) {
	t.Parallel()
	const source, collection, destination = 0.82, 0.75, 0.5
	tests := []struct {
		samples      float64
		weight, want float64
	}{
		{15, 0.375, 0.62},
		{45, 0.5, 0.6599999999999999},
	}
	for _, tt := range tests {
		weight := min(float64(collection*min(1, tt.samples/30)), 0.5)
		got := reputation.CrossModel([]reputation.Weighted{{new(source), weight}, {new(destination), 1 - weight}})
		if weight != tt.weight || *got != tt.want {
			t.Errorf("with %v samples: %v (w %v), want %v (w %v)", tt.samples, *got, weight, tt.want, tt.weight)
		}
	}
}

// TestPeerBootstrap holds protocol §12.14: a collection's first score from its
// members (protocol §5.8), here those that survive the trimming.
func TestPeerBootstrap(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		members []reputation.Weighted // weight is the sample count
		want    float64
	}{
		{
			"five members", []reputation.Weighted{{new(0.1), 10}, {new(0.5), 50}, {new(0.6), 100}, {new(0.9), 25}, {new(0.95), 4}},
			0.55,
		},
		{"two members", []reputation.Weighted{{new(0.2), 10}, {new(0.8), 40}}, 0.6800000000000002},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			members := slices.DeleteFunc(tt.members, func(m reputation.Weighted) bool { return m.Weight < 5 })
			if len(members) >= 3 {
				members = members[1 : len(members)-1] // they are listed by score
			}
			for i := range members {
				members[i].Weight = min(members[i].Weight/50, 1)
			}
			if got := reputation.CrossModel(members); *got != tt.want {
				t.Errorf("bootstrap score = %v, want %v", *got, tt.want)
			}
		})
	}
}

// TestPeerQualityScore holds protocol §12.15: 1/(1 + Σ) is a prior of 1, worth one
// sample, against Σ samples of 0.
func TestPeerQualityScore(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		findings float64
		want     float64
	}{
		{"none", 0, 1},
		{"one blocker", 1, 0.5},
		{"one high, two medium, three low", float64(1*0.7) + float64(2*0.4) + float64(3*0.15), 0.3389830508474576},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := reputation.Blend(new(0.0), 1, tt.findings, 1); got != tt.want {
				t.Errorf("quality score = %v, want %v", got, tt.want)
			}
		})
	}
}

func sha(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "")))
	return hex.EncodeToString(sum[:])
}

// TestPeerStreamHash holds protocol §12.17, of decoded events as of their text, and
// the hash of no events of protocol §7.
func TestPeerStreamHash(t *testing.T) {
	t.Parallel()
	const stream = `[{"agent_id":"bear-001","collection_id":"honeycomb","event_id":"550e8400-e29b-41d4-a716-446655440010",` +
		`"model_id":"gpt-4o","pool_id":"pool-alpha","provider":"openai","quality_observation":{"score":0.82},` +
		`"task_type":"analysis","timestamp":"2026-02-25T12:00:00Z","type":"model_performance"},` +
		`{"agent_id":"bear-001","collection_id":"honeycomb","event_id":"550e8400-e29b-41d4-a716-446655440000",` +
		`"score":0.85,"timestamp":"2026-02-24T12:00:00Z","type":"quality_signal"}]`
	const want = "a7a19c02765fc112e436c469e3544eed458b77a5f2e328938be5277ea3995207"
	performance := mustDecode(t, `{"type":"model_performance","timestamp":"2026-02-25T12:00:00Z","task_type":"analysis",
		"quality_observation":{"score":8.2e-1},"provider":"openai","pool_id":"pool-alpha","model_id":"gpt-4o",
		"event_id":"550e8400-e29b-41d4-a716-446655440010","collection_id":"honeycomb","agent_id":"bear-001"}`)
	signal := mustDecode(t, `{"score":0.850,"type":"quality\u005fsignal","agent_id":"bear-001","collection_id":"honeycomb",
		"event_id":"550e8400-e29b-41d4-a716-446655440000","timestamp":"2026-02-24T12:00:00Z"}`)
	array := performance.AppendJSON([]byte("["))
	array = append(signal.AppendJSON(append(array, ',')), ']')
	for name, text := range map[string]string{"text": stream, "decoded events": string(array)} {
		if got := canonical(t, text); got != stream || sha(got) != want {
			t.Errorf("%s: %s is canonical, hash %s, want %s", name, got, sha(got), want)
		}
	}
	if got := sha(canonical(t, "[ ]")); got != "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945" {
		t.Errorf("hash of no events = %s", got)
	}
}

// auditHash is the content hash of protocol §6.4.
func auditHash(t *testing.T, tag, entry string) string {
	t.Helper()
	return "sha256:" + sha(tag, canonical(t, entry))
}

// boundHash is the chain hash of protocol §6.3.
func boundHash(content, previous string) string { return "sha256:" + sha(content, ":", previous) }

// TestPeerAuditEntry holds protocol §12.18.
func TestPeerAuditEntry(t *testing.T) {
	t.Parallel()
	const tag = "loa-commons:audit:scoringpathlog:8-2-0"
	first := auditHash(t, tag, `{"entry_id":"550e8400-e29b-41d4-a716-446655440000","timestamp":"2026-02-25T00:00:00Z",
		"event_type":"reputation.scoring_path.recorded","payload":{"score":0}}`)
	if want := "sha256:e1d3bd2200062260bbe5c5c8d7c28386563f9b3976feb791677355daef857366"; first != want {
		t.Errorf("first entry %s, want %s", first, want)
	}
	bound := boundHash(first, "sha256:"+sha(""))
	if want := "sha256:c78771b5adac7504c59c1572d49a585dc27b90e124f9a53bffa8ab213908bb52"; bound != want {
		t.Errorf("first entry bound to genesis %s, want %s", bound, want)
	}
	second := auditHash(t, tag, `{"entry_id":"550e8400-e29b-41d4-a716-446655440001","timestamp":"2026-02-25T00:00:01Z",
		"event_type":"reputation.scoring_path.recorded","payload":{"score":0.1}}`)
	if got, want := boundHash(second, bound), "sha256:d06eb21ab7d731d26ff5d89e0d77237601b9e4b7a70601baa00aee0b567a4e42"; got != want {
		t.Errorf("second entry bound to the first %s, want %s", got, want)
	}
	published := auditHash(t, "loa-commons:audit:governedcredits:8-0-0", `{"entry_id":"550e8400-e29b-41d4-a716-446655440000",
		"timestamp":"2026-02-25T10:00:00Z","event_type":"commons.transition.executed"}`)
	if want := "sha256:71de714b5dcefc7f43d6ca1c29da6c970cefcc2af916ae20ac820600f3f37d79"; published != want {
		t.Errorf("published reference %s, want %s", published, want)
	}
}

// TestPeerReplay holds protocol §12.19: the library's replay takes arithmetic means,
// which are cross-model scores of equal weights; state, count, contributors and
// steps are those of this service's own fold.
func TestPeerReplay(t *testing.T) {
	t.Parallel()
	events := []struct {
		score            float64
		model, evaluator string
	}{
		{0.9, "native", "a"},
		{0.7, "gpt-4o", "b"},
		{0.8, "native", "a"},
		{0.6, "", "c"},
		{1, "native", "b"},
		{0.75, "gpt-4o", "a"},
	}
	start := time.Date(2026, 2, 21, 0, 0, 0, 0, time.UTC)
	w := newWorld(reputation.DefaultParams())
	var all []reputation.Weighted
	byModel := map[string][]reputation.Weighted{}
	for i, e := range events {
		observed := reputation.Weighted{Score: new(e.score), Weight: 1}
		all = append(all, observed)
		byModel[e.model] = append(byModel[e.model], observed)
		model := e.model
		if model == "" {
			model = "none" // an evaluator is only named together with a model
		}
		event := happened(t, "honey", i, performance(model, reputation.TaskUnspecified, e.score, e.evaluator))
		event.Timestamp = reputation.TimestampOf(start.Add(time.Duration(i) * time.Hour))
		w.mustFold(t, "bear-1", event)
	}

	mean := reputation.CrossModel(all)
	if want := 0.7916666666666666; *mean != want {
		t.Errorf("personal score %v, want %v", *mean, want)
	}
	if got, want := reputation.Blend(mean, 0.55, 6, 3), 0.7111111111111111; got != want {
		t.Errorf("blended score %v, want %v", got, want)
	}
	if native, gpt := *reputation.CrossModel(byModel["native"]), *reputation.CrossModel(byModel["gpt-4o"]); native != 0.9 || gpt != 0.725 {
		t.Errorf("cohorts %v and %v, want 0.9 and 0.725", native, gpt)
	}

	g := &w.agents["bear-1"].Aggregate
	if g.State != "established" || g.SampleCount != 6 || g.ContributorCount != 3 {
		t.Errorf("%s, n %d, %d contributors, want established, 6, 3", g.State, g.SampleCount, g.ContributorCount)
	}
	counts := map[string]int64{}
	for _, c := range g.ModelCohorts {
		counts[c.ModelID] = c.SampleCount
	}
	if counts["native"] != 3 || counts["gpt-4o"] != 2 {
		t.Errorf("model cohorts %v, want native 3 and gpt-4o 2", counts)
	}
	want := []reputation.Transition{
		{At: reputation.TimestampOf(start), From: "cold", To: "warming", Trigger: "First QualityEvent recorded"},
		{At: reputation.TimestampOf(start.Add(4 * time.Hour)), From: "warming", To: "established", Trigger: "sample_count >= min_sample_count"},
	}
	if diff := cmp.Diff(want, g.Transitions, sameEvent); diff != "" {
		t.Errorf("transitions (-want +got):\n%s", diff)
	}
}

// peerEvents are those of protocol §12.20. A nil score leaves the reputation alone.
var peerEvents = []struct {
	kind  string
	score *float64
	// counts is whether the peer's replay takes the event for a sample.
	counts bool
}{
	{"signal", new(0.9), true},
	{"task_completed", nil, true},
	{"model", new(0.8), true},
	{"model", new(0.6), true},
	{"credential", nil, false},
	{"signal", new(0.4), true},
}

// TestPeerLivePath holds the live part of protocol §12.20: the prior is the running
// mean of all dampened scores before the event.
func TestPeerLivePath(t *testing.T) {
	t.Parallel()
	type live struct {
		Personal, Blended, Prior float64
		N                        int64
	}
	want := []live{
		{0.9, 0.5363636363636364, 0.5, 1},
		{0.9, 0.5363636363636364, 0.5, 1},
		{0.8892, 0.8982, 0.9, 2},
		{0.8556528, 0.8856121846153848, 0.8946000000000001, 3},
		{0.8556528, 0.8856121846153848, 0.8946000000000001, 3},
		{0.7991518528, 0.8580559579428572, 0.8816176, 4},
	}
	p := reputation.DixieParams()
	var mean welford
	var personal *float64
	var row live
	for i, e := range peerEvents {
		if e.score != nil {
			next := p.Damping.Dampen(personal, *e.score, row.N)
			personal = &next
			row.N++
			row.Personal, row.Prior = next, mean.prior()
			row.Blended = reputation.Blend(personal, row.Prior, float64(row.N), p.PseudoCount)
			mean.add(next)
		}
		if i == 2 {
			// The only event whose accuracy the peer uses; the mean has moved already.
			if got := dimensional(nil, 0.7, mean.prior(), 1, p.PseudoCount); got != 0.8621666666666669 {
				t.Errorf("accuracy %v, want 0.8621666666666669", got)
			}
		}
		if diff := cmp.Diff(want[i], row); diff != "" {
			t.Errorf("after event %d (-want +got):\n%s", i+1, diff)
		}
	}
}

// TestPeerReplayOfLivePath holds the last row of protocol §12.20: the peer's replay
// of the same log counts the completed task and keeps the neutral prior.
func TestPeerReplayOfLivePath(t *testing.T) {
	t.Parallel()
	p := reputation.DixieParams()
	var personal *float64
	var n int64
	for _, e := range peerEvents {
		if e.score != nil {
			next := p.Damping.Dampen(personal, *e.score, n)
			personal = &next
		}
		if e.counts {
			n++
		}
	}
	blended := reputation.Blend(personal, p.NeutralPrior, float64(n), p.PseudoCount)
	if *personal != 0.7928901312000001 || blended != 0.5976300437333334 || n != 5 {
		t.Errorf("personal %v, blended %v, n %d, want 0.7928901312000001, 0.5976300437333334, 5", *personal, blended, n)
	}
}

// TestPeerLog folds the same log here: the prior of a lone agent stays neutral, and
// only observations count. Where peer and service share a rule they give the same
// bits.
func TestPeerLog(t *testing.T) {
	t.Parallel()
	w := newWorld(reputation.DixieParams())
	for i, e := range peerEvents {
		var body reputation.Body
		switch e.kind {
		case "signal":
			body = signal(*e.score)
		case "model":
			body = performance("native", "analysis", *e.score, "")
		case "task_completed":
			body = reputation.TaskCompleted{TaskType: "analysis", Success: true}
		case "credential":
			body = reputation.CredentialUpdate{CredentialID: "550e8400-e29b-41d4-a716-446655440000", Action: "issued"}
		}
		w.mustFold(t, "bear-1", happened(t, "honey", i, body))
	}
	g := &w.agents["bear-1"].Aggregate
	if *g.PersonalScore != 0.7991518528 || g.SampleCount != 4 || g.CollectionScore != 0.5 || g.State != "warming" {
		t.Errorf("personal %v of %d, prior %v, %s, want 0.7991518528 of 4, 0.5, warming",
			*g.PersonalScore, g.SampleCount, g.CollectionScore, g.State)
	}
}
