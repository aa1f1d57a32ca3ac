package reputation_test

import (
	"bytes"
	"errors"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"dixie/reputation"

	"github.com/google/go-cmp/cmp"
)

// FuzzDecode has no long seeds: the fuzzer would spend its time minimising them, and
// the tables test lengths.
func FuzzDecode(f *testing.F) {
	for _, fixture := range fixtures() {
		f.Add([]byte(fixture.text))
	}
	for _, text := range []string{
		"", "{}", "[]", "null", " { } ", "{} {}", "\xef\xbb\xbf{}", `{"a":{"a":[{"a":1,"a":2}]}}`,
		`{"type":"model_performance","quality_observation":{"dimensions":{"A":2},"latency_ms":1.5,"x":1},"request_context":[]}`,
		`{"type":"quality_signal","\u0074ype":"quality_signal"}`,
		`{"event_id":"550E8400-e29b-41d4-a716-446655440000","agent_id":"\ud83d\udc3b\/","collection_id":"\u0001<&>\u2028",` +
			`"timestamp":"2026-02-25T14:00:00.5+02:00","sequence":9e15,"score":-0.0e-7,"dimensions":{"b":1e-400,"a":1.0},` +
			`"type":"quality\u005fsignal"}`,
		`{"agent_id":"\ud800"}`, `{"score":1e400,"sequence":1e999,"agent_id":"\u0000"}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		e, err := reputation.Decode(data)
		if !bytes.Equal(before, data) {
			t.Fatalf("Decode changed its input to %q", data)
		}
		if err != nil {
			checkRefusal(t, err)
			return
		}
		encoded := e.AppendJSON(nil)
		if want, err := reputation.Canonical(data); err != nil || !bytes.Equal(encoded, want) {
			t.Fatalf("AppendJSON = %s, Canonical = %s, %v", encoded, want, err)
		}
		if len(encoded) > reputation.MaxEventBytes {
			t.Fatalf("the canonical form has %d bytes", len(encoded))
		}
		back, err := reputation.Decode(encoded)
		if err != nil {
			t.Fatalf("Decode(%s): %v", encoded, err)
		}
		if diff := cmp.Diff(e, back, sameEvent); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// checkRefusal holds what callers rest on: problems can be shown as JSON, and there
// are not too many.
func checkRefusal(t *testing.T, err error) {
	t.Helper()
	var invalid *reputation.InvalidError
	if !errors.As(err, &invalid) || !errors.Is(err, reputation.ErrInvalid) {
		t.Fatalf("%T %v is not an *InvalidError", err, err)
	}
	if n := len(invalid.Problems); n < 1 || n > 50 {
		t.Fatalf("%d problems", n)
	}
	for _, p := range invalid.Problems {
		if p.Detail == "" || !utf8.ValidString(p.Field) || !utf8.ValidString(p.Detail) || len(p.String()) > 1000 {
			t.Fatalf("problem %q", p)
		}
	}
}

// dateTime is the shape of protocol §1 with zones that exist. Its groups are the
// six numbers, the fraction and the zone's sign, hours and minutes.
var dateTime = regexp.MustCompile(`\A(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?` +
	`(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))\z`)

// referenceTime reads a time by its digits alone.
func referenceTime(text string) (time.Time, bool) {
	m := dateTime.FindStringSubmatch(text)
	if m == nil {
		return time.Time{}, false
	}
	number := func(group int) int {
		n, _ := strconv.Atoi(m[group]) // an absent group is 0
		return n
	}
	nanoseconds, _ := strconv.Atoi((m[7] + "000000000")[:9])
	at := time.Date(number(1), time.Month(number(2)), number(3), number(4), number(5), number(6), nanoseconds, time.UTC)
	// A day or a time that does not exist has become another one.
	exists := at.Format("2006-01-02T15:04:05") == text[:19]
	offset := time.Duration(number(9))*time.Hour + time.Duration(number(10))*time.Minute
	if m[8] == "-" {
		offset = -offset
	}
	return at.Add(-offset), exists
}

func FuzzParseTimestamp(f *testing.F) {
	for _, text := range []string{
		"2026-02-25T12:00:00Z", "2026-02-25T14:00:00.5+02:00", "2026-02-25T12:00:00.0000000019-23:59", "2024-02-29T00:00:00Z",
		"2026-02-29T00:00:00Z", "2026-02-25T1:00:00Z", "2026-02-25T12:00:00,5Z", "2026-02-25T12:00:00+24:00",
		"2026-02-25T12:00:00-00:60", "2026-02-25T23:59:60Z", "0000-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := reputation.ParseTimestamp(text)
		want, ok := referenceTime(text)
		if (err == nil) != ok {
			t.Fatalf("ParseTimestamp(%q): %v, valid %v", text, err, ok)
		}
		if err != nil {
			return
		}
		if !got.Time().Equal(want) || got.String() != text {
			t.Fatalf("ParseTimestamp(%q) = %q at %v, want %v", text, got, got.Time(), want)
		}
		marshalled, err := got.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back reputation.Timestamp
		if err := back.UnmarshalText(marshalled); err != nil || !cmp.Equal(got, back, sameEvent) {
			t.Fatalf("UnmarshalText(%s) = %q, %v", marshalled, back, err)
		}
	})
}

// taskTypes is protocol §3.3.
var taskTypes = regexp.MustCompile(`\A(?:code_review|creative_writing|analysis|summarization|general|unspecified|` +
	`[a-z][a-z0-9_-]+:[a-z][a-z0-9_]+)\z`)

func FuzzTaskType(f *testing.F) {
	for _, text := range []string{
		"analysis", "unspecified", "legal-guild:contract_review", "ab:cd", "a:bb", "ab:c", "ab:c-d", "Ab:cd", "ab:cd:ef", "",
		"analysis\n", "ab:cd\n", "ab:" + strings.Repeat("c", 252), "ab:" + strings.Repeat("c", 253),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		want := len(text) <= 255 && taskTypes.MatchString(text)
		if got := reputation.TaskType(text).Valid(); got != want {
			t.Fatalf("TaskType(%q).Valid() = %v, want %v", text, got, want)
		}
	})
}
