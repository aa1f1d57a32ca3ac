package reputation

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Point is a point in the history of a log: up to a position, or up to a time.
type Point struct {
	// Position is that of the last event before the point; it counts when Time is
	// zero. Before the first event it is 0.
	Position int64
	// Time is when the log had stored what lies before the point. Events count by
	// the time at which they were stored, not by the timestamp that their author
	// gave them: it is the time at which the service knew of them.
	Time time.Time
}

// pointRule is what [ParsePoint] accepts, in words.
const pointRule = "must be a position, or an RFC 3339 date and time with a zone, such as 2026-02-25T12:00:00Z"

// ParsePoint reads a position, a whole number in [0, 2⁵³−1], or an RFC 3339 date and
// time. The error is for whoever wrote the text.
func ParsePoint(text string) (Point, error) {
	if text != "" && strings.Trim(text, "0123456789") == "" {
		position, err := strconv.ParseInt(text, 10, 64)
		if err != nil || position > MaxInteger {
			return Point{}, fmt.Errorf("must be a position of at most %d%s", int64(MaxInteger), found(text))
		}
		return Point{Position: position}, nil
	}
	at, err := ParseTimestamp(text)
	if err != nil {
		return Point{}, fmt.Errorf("%s%s", pointRule, found(text))
	}
	return Point{Time: at.Time()}, nil
}

// IsTime reports whether the point is a time and not a position.
func (p Point) IsTime() bool { return !p.Time.IsZero() }

// Includes reports whether an event at a position, stored at a time, lies before
// the point. In the order of a log it is true and then false.
func (p Point) Includes(position int64, storedAt time.Time) bool {
	if p.IsTime() {
		return !storedAt.After(p.Time)
	}
	return position <= p.Position
}

// String is the position, or the time in RFC 3339.
func (p Point) String() string {
	if p.IsTime() {
		return p.Time.UTC().Format(time.RFC3339Nano)
	}
	return strconv.FormatInt(p.Position, 10)
}
