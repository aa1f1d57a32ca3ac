package reputation_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"dixie/reputation"

	"pgregory.net/rapid"
)

// checkCompact checks that a timestamp that has a compact form comes back from it
// as it was, and tells whether it has one.
func checkCompact(t interface {
	Helper()
	Fatalf(string, ...any)
}, text string) bool {
	t.Helper()
	want, err := reputation.ParseTimestamp(text)
	if err != nil {
		t.Fatalf("%v", err)
	}
	form, ok := want.Compact()
	if !ok {
		return false
	}
	got := reputation.ExpandTimestamp(form)
	marshalled, err := json.Marshal(got)
	if got.String() != text || string(marshalled) != `"`+text+`"` || err != nil || !got.Time().Equal(want.Time()) || got.IsZero() {
		t.Fatalf("%q became %q, in JSON %s, at %v, error %v", text, got, marshalled, got.Time(), err)
	}
	if again, ok := got.Compact(); !ok || again != form || form&15 == 15 {
		t.Fatalf("%q has the form %x and again %x, %v", text, form, again, ok)
	}
	return true
}

func TestCompact(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"2026-02-25T12:00:00Z":             true,
		"2026-02-25T12:00:00+00:00":        true,
		"2026-02-25T12:00:00.0Z":           true,
		"2026-02-25T12:00:00.10Z":          true,
		"2026-02-25T12:00:00.000001Z":      true,
		"2026-02-25T12:00:00.999999+00:00": true,
		"1969-12-31T23:59:59.999999Z":      true,
		"0000-01-01T00:00:00Z":             true,
		"0099-01-01T00:00:00.5Z":           true,
		"9999-12-31T23:59:59.999999Z":      true,
		"2026-02-25T12:00:00.0000001Z":     false,
		"2026-02-25T12:00:00.1234567Z":     false,
		"2026-02-25T12:00:00-00:00":        false,
		"2026-02-25T12:00:00+05:45":        false,
	} {
		if got := checkCompact(t, text); got != want {
			t.Errorf("%s has a compact form: %v", text, got)
		}
	}
	if _, ok := (reputation.Timestamp{}).Compact(); ok {
		t.Error("no timestamp has a compact form")
	}
	for _, at := range []time.Time{time.Unix(0, 0), time.Unix(1, 5e8), time.Unix(1, 1000)} {
		if _, ok := reputation.TimestampOf(at).Compact(); !ok {
			t.Errorf("%v has no compact form", at)
		}
	}
}

func TestCompactProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := when().Draw(t, "any timestamp").String()
		checkCompact(t, text)
		digits := rapid.IntRange(0, 6).Draw(t, "digits")
		fraction := ""
		if digits > 0 {
			fraction = "." + rapid.StringMatching(`[0-9]{6}`).Draw(t, "fraction")[:digits]
		}
		text = text[:len("2026-02-25T12:00:00")] + fraction + rapid.SampledFrom([]string{"Z", "+00:00"}).Draw(t, "zone")
		if !checkCompact(t, text) {
			t.Fatalf("%s has no compact form", text)
		}
	})
}

// TestExpandedTimestamps: an expanded timestamp takes part in everything like the
// one that it was.
func TestExpandedTimestamps(t *testing.T) {
	t.Parallel()
	expand := func(text string) (parsed, expanded reputation.Timestamp) {
		parsed, err := reputation.ParseTimestamp(text)
		if err != nil {
			t.Fatal(err)
		}
		form, _ := parsed.Compact()
		return parsed, reputation.ExpandTimestamp(form)
	}
	early, earlyExpanded := expand("2026-02-25T12:00:00.5Z")
	late, lateExpanded := expand("2026-02-25T12:00:01+00:00")
	for _, pair := range [][2]reputation.Timestamp{{early, lateExpanded}, {earlyExpanded, late}, {earlyExpanded, lateExpanded}, {lateExpanded, early}} {
		if got := pair[0].Later(pair[1]).String(); got != late.String() {
			t.Errorf("the later of %s and %s is %s", pair[0], pair[1], got)
		}
	}
	want := reputation.TaskCohort{LastUpdated: early, ModelID: "m", TaskType: "analysis"}
	got := want
	got.LastUpdated = earlyExpanded
	for name, encoded := range map[string]func(*reputation.TaskCohort) string{
		"AppendJSON": func(c *reputation.TaskCohort) string { return string(c.AppendJSON(nil)) },
		"Encode":     func(c *reputation.TaskCohort) string { return encode(t, c) },
	} {
		if encoded(&got) != encoded(&want) || !strings.Contains(encoded(&got), early.String()) {
			t.Errorf("%s: %s, want %s", name, encoded(&got), encoded(&want))
		}
	}
}
