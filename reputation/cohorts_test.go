package reputation_test

import (
	"fmt"
	"slices"
	"testing"

	"dixie/reputation"

	"github.com/google/go-cmp/cmp"
)

func TestCohortOf(t *testing.T) {
	t.Parallel()
	tasked := signal(0.25)
	tasked.TaskType = "ab:cd"
	unspecified := signal(0.25)
	unspecified.TaskType = reputation.TaskUnspecified
	tests := []struct {
		name  string
		body  reputation.Body
		key   reputation.CohortKey
		score float64
		ok    bool
	}{
		{"signal without task", signal(0.25), reputation.CohortKey{}, 0, false},
		{"signal of an unspecified task", unspecified, reputation.CohortKey{}, 0, false},
		{"signal with a task", tasked, reputation.CohortKey{Model: "default", Task: "ab:cd"}, 0.25, true},
		{"performance", performance("gpt-4o", "analysis", 0.75, ""), reputation.CohortKey{Model: "gpt-4o", Task: "analysis"}, 0.75, true},
		{"performance of an unspecified task", performance("gpt-4o", "unspecified", 0.75, ""), reputation.CohortKey{}, 0, false},
		{"task_completed", reputation.TaskCompleted{TaskType: "analysis"}, reputation.CohortKey{}, 0, false},
		{"credential_update", reputation.CredentialUpdate{}, reputation.CohortKey{}, 0, false},
		{"reputation_reset", reputation.ReputationReset{}, reputation.CohortKey{}, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			key, score, ok := reputation.CohortOf(&reputation.Event{Body: tt.body})
			if ok != tt.ok || ok && (key != tt.key || score != tt.score) {
				t.Errorf("CohortOf = %v, %v, %v, want %v, %v, %v", key, score, ok, tt.key, tt.score, tt.ok)
			}
		})
	}
}

// TestFoldCohorts: each cohort is a running score with its own count.
func TestFoldCohorts(t *testing.T) {
	t.Parallel()
	p := reputation.DixieParams()
	var c reputation.Cohorts
	scores := []float64{0.9, 0.8, 0.95, 0.4, 0.85}
	for i, score := range scores {
		for _, body := range []reputation.Body{
			performance("native", "analysis", score, ""),
			performance("gpt-4o", "analysis", 0.25, ""),
			signal(0.1),
		} {
			if err := p.FoldCohorts(&c, "bear-1", happened(t, "honey", i, body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := []reputation.TaskCohort{
		{LastUpdated: minute(4), ModelID: "gpt-4o", PersonalScore: new(0.25), SampleCount: 5, TaskType: "analysis"},
		// Protocol §12.6.
		{LastUpdated: minute(4), ModelID: "native", PersonalScore: new(0.8367347490304), SampleCount: 5, TaskType: "analysis"},
	}
	if diff := cmp.Diff(want, c.Sorted(), sameEvent); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c.CollectionID != "honey" || c.Cleared {
		t.Errorf("collection %q, cleared %v, want honey and false", c.CollectionID, c.Cleared)
	}
}

// TestFoldCohortsReset: what a reset removes is told apart from what was not loaded,
// and cohorts begin again after it.
func TestFoldCohortsReset(t *testing.T) {
	t.Parallel()
	p := reputation.DefaultParams()
	var c reputation.Cohorts
	for i, body := range []reputation.Body{
		performance("native", "analysis", 0.9, ""),
		performance("native", "general", 0.9, ""),
		reputation.ReputationReset{Reason: "r", Actor: "a"},
		performance("native", "analysis", 0.25, ""),
	} {
		if err := p.FoldCohorts(&c, "bear-1", happened(t, "honey", i, body)); err != nil {
			t.Fatal(err)
		}
	}
	want := []reputation.TaskCohort{
		{LastUpdated: minute(3), ModelID: "native", PersonalScore: new(0.25), SampleCount: 1, TaskType: "analysis"},
	}
	if diff := cmp.Diff(want, c.Sorted(), sameEvent); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !c.Cleared || c.CollectionID != "honey" {
		t.Errorf("cleared %v, collection %q, want true and honey", c.Cleared, c.CollectionID)
	}
}

func TestCohortKeyCompare(t *testing.T) {
	t.Parallel()
	sorted := []reputation.CohortKey{
		{}, {"", "a"}, {"A", ""}, {"a", "b:c"}, {"a", "c"}, {"a:b", "c"}, {"b", "a"}, {"é", ""},
	}
	for i, a := range sorted {
		for j, b := range sorted {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := a.Compare(b); got != want {
				t.Errorf("%v.Compare(%v) = %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestSortedIsNeverNil(t *testing.T) {
	t.Parallel()
	var c reputation.Cohorts
	if got := c.Sorted(); got == nil || len(got) != 0 {
		t.Errorf("Sorted = %#v, want empty and not nil", got)
	}
}

func TestRecent(t *testing.T) {
	t.Parallel()
	// Two cohorts of each minute, given with the later key first.
	var cohorts []reputation.TaskCohort
	for i := range 30 {
		for _, model := range []string{"b", "a"} {
			cohorts = append(cohorts, reputation.TaskCohort{LastUpdated: minute(i), ModelID: model, TaskType: "general"})
		}
	}
	before := slices.Clone(cohorts)
	var got []string
	for _, c := range reputation.Recent(cohorts) {
		got = append(got, fmt.Sprint(c.LastUpdated, c.ModelID))
	}
	var want []string
	for i := 29; i >= 5; i-- { // 25 minutes of two cohorts
		want = append(want, fmt.Sprint(minute(i), "a"), fmt.Sprint(minute(i), "b"))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, cohorts, sameEvent); diff != "" {
		t.Errorf("the argument changed (-before +after):\n%s", diff)
	}
}

// TestRecentComparesInstants: texts of one instant in two zones are equally recent.
func TestRecentComparesInstants(t *testing.T) {
	t.Parallel()
	cohorts := []reputation.TaskCohort{
		{LastUpdated: timestamp(t, "2026-02-25T14:00:00+02:00"), ModelID: "b"},
		{LastUpdated: timestamp(t, "2026-02-25T13:00:00Z"), ModelID: "c"},
		{LastUpdated: timestamp(t, "2026-02-25T12:00:00Z"), ModelID: "a"},
	}
	var got []string
	for _, c := range reputation.Recent(cohorts) {
		got = append(got, c.ModelID)
	}
	if diff := cmp.Diff([]string{"c", "a", "b"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
