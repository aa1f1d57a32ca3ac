package reputation

import (
	"strings"
	"time"
)

// A compact timestamp is its microseconds since 1970 and, in the lower bits, how
// it is spelled: the number of fractional digits, and whether the zone is Z or
// +00:00.
const (
	compactBits   = 4
	compactDigits = 6
	compactZoned  = compactDigits + 1 // added when the zone is +00:00
	numericUTC    = "+00:00"
	wholeSeconds  = len("2006-01-02T15:04:05")
)

// Compact is the timestamp in 64 bits, for whoever keeps many. It is false for a
// rare spelling, which has no such form: another zone than UTC, or more than six
// fractional digits. No form has all its lower four bits set.
func (t Timestamp) Compact() (uint64, bool) {
	text, form := strings.CutSuffix(t.text, "Z")
	spelling := 0
	if !form {
		text, form = strings.CutSuffix(t.text, numericUTC)
		spelling = compactZoned
	}
	if !form || len(text) < wholeSeconds {
		return 0, false
	}
	if fraction := text[wholeSeconds:]; fraction != "" {
		digits := len(fraction) - 1
		if fraction[0] != '.' || digits < 1 || digits > compactDigits {
			return 0, false
		}
		spelling += digits
	}
	return uint64(t.time.UnixMicro()<<compactBits | int64(spelling)), true
}

// ExpandTimestamp is the timestamp of which [Timestamp.Compact] gave a form. Its
// text is appended to texts, so that those of many share one piece of memory.
func ExpandTimestamp(form uint64, texts *strings.Builder) Timestamp {
	at := time.UnixMicro(int64(form) >> compactBits).UTC()
	spelling := int(form & (1<<compactBits - 1))
	zone := "Z"
	if spelling >= compactZoned {
		zone, spelling = numericUTC, spelling-compactZoned
	}
	var room [32]byte
	text := at.AppendFormat(room[:0], time.RFC3339)[:wholeSeconds]
	if spelling > 0 {
		text = append(text, '.')
		for micros, unit := at.Nanosecond()/1000, 100_000; spelling > 0; spelling-- {
			text = append(text, byte('0'+micros/unit%10))
			unit /= 10
		}
	}
	text = append(text, zone...)
	start := texts.Len()
	texts.Write(text)
	return Timestamp{text: texts.String()[start:], time: at}
}
