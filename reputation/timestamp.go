package reputation

import (
	"fmt"
	"strings"
	"time"
)

// Timestamp is a point in time together with the RFC 3339 text that an event
// spelled it with, so that what is stored and hashed is what was said. The zero
// value means that there is none. Timestamps are values; compare the instants
// with Time, not with ==.
type Timestamp struct {
	text string // or one of spellings
	time time.Time
}

// ParseTimestamp reads an RFC 3339 date-time: an upper-case T and Z, any number
// of fractional digits, a zone. It is stricter than the shape check of protocol
// §1: the date and the time of day must exist, so the 30th of February and leap
// seconds are refused.
func ParseTimestamp(text string) (Timestamp, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return Timestamp{}, fmt.Errorf("parse timestamp: %w", err)
	}
	if !strictRFC3339(text) {
		return Timestamp{}, fmt.Errorf("parse timestamp: %q is not RFC 3339", text)
	}
	return Timestamp{text: text, time: t.UTC()}, nil
}

// strictRFC3339 refuses what time.Parse accepts beyond RFC 3339, and
// time.UnmarshalText too (go.dev/issue/54580): a one-digit hour, a comma before
// the fraction, and a zone of 24 hours or with 60 minutes.
func strictRFC3339(text string) bool {
	if text[len("2006-01-02T1")] == ':' || strings.Contains(text, ",") {
		return false
	}
	if strings.HasSuffix(text, "Z") {
		return true
	}
	zone := text[len(text)-len("+07:00"):]
	return zone[1:3] < "24" && zone[4:6] < "60"
}

// TimestampOf is t in UTC, spelled with as many fractional digits as it needs.
func TimestampOf(t time.Time) Timestamp {
	t = t.UTC().Round(0)
	return Timestamp{text: t.Format(time.RFC3339Nano), time: t}
}

// Time is the instant in UTC.
func (t Timestamp) Time() time.Time { return t.time }

// String is the text as the event gave it.
func (t Timestamp) String() string {
	if !t.expanded() {
		return t.text
	}
	return string(t.appendText(make([]byte, 0, maxCompactText)))
}

// IsZero reports whether there is no timestamp.
func (t Timestamp) IsZero() bool { return t.text == "" }

// Later is the later of the two instants, and t when they are equal.
func (t Timestamp) Later(u Timestamp) Timestamp {
	if t.IsZero() || u.time.After(t.time) {
		return u
	}
	return t
}

// MarshalText writes the text as the event gave it.
func (t Timestamp) MarshalText() ([]byte, error) { return t.appendText(nil), nil }

// UnmarshalText accepts what [ParseTimestamp] accepts.
func (t *Timestamp) UnmarshalText(text []byte) error {
	parsed, err := ParseTimestamp(string(text))
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}
