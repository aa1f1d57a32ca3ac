package reputation

import (
	"strings"
	"time"
)

// The spelling of a compact timestamp is the number of its fractional digits, and
// more when its zone is +00:00 and not Z.
const (
	compactBits   = 4
	compactDigits = 6
	compactZoned  = compactDigits + 1 // added when the zone is +00:00
	numericUTC    = "+00:00"
	wholeSeconds  = len("2006-01-02T15:04:05")

	maxCompactText = len("2006-01-02T15:04:05.000000+00:00")
)

// spellings are texts that stand for the spelling of a compact timestamp. No
// timestamp is as short.
const spellings = "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d"

// Compact is the timestamp in 64 bits, for whoever keeps many: the microseconds
// since 1970 and, in the lower bits, how it is spelled. It is false for a rare
// spelling, which has no such form: another zone than Z and +00:00, or more than six
// fractional digits. No form has all its lower four bits set.
func (t Timestamp) Compact() (uint64, bool) {
	spelling, ok := t.spelling()
	return uint64(t.time.UnixMicro()<<compactBits | int64(spelling)), ok
}

// ExpandTimestamp is the timestamp of which [Timestamp.Compact] gave a form. Its
// text is made when it is asked for.
func ExpandTimestamp(form uint64) Timestamp {
	spelling := form & (1<<compactBits - 1)
	return Timestamp{text: spellings[spelling : spelling+1], time: time.UnixMicro(int64(form) >> compactBits).UTC()}
}

func (t Timestamp) expanded() bool { return len(t.text) == 1 }

func (t Timestamp) spelling() (spelling int, ok bool) {
	if t.expanded() {
		return int(t.text[0]), true
	}
	length := len(t.text) - len("Z")
	if length < wholeSeconds {
		return 0, false
	}
	if t.text[length] != 'Z' {
		if !strings.HasSuffix(t.text, numericUTC) {
			return 0, false
		}
		length, spelling = len(t.text)-len(numericUTC), compactZoned
	}
	if length > wholeSeconds {
		digits := length - wholeSeconds - len(".")
		if digits > compactDigits {
			return 0, false
		}
		spelling += digits
	}
	return spelling, true
}

// appendText appends the text of the timestamp to dst.
func (t Timestamp) appendText(dst []byte) []byte {
	if !t.expanded() {
		return append(dst, t.text...)
	}
	year, month, day := t.time.Date()
	hour, minute, second := t.time.Clock()
	dst = appendDigits(dst, year, 4)
	dst = appendDigits(append(dst, '-'), int(month), 2)
	dst = appendDigits(append(dst, '-'), day, 2)
	dst = appendDigits(append(dst, 'T'), hour, 2)
	dst = appendDigits(append(dst, ':'), minute, 2)
	dst = appendDigits(append(dst, ':'), second, 2)
	digits, zone := int(t.text[0]), "Z"
	if digits >= compactZoned {
		digits, zone = digits-compactZoned, numericUTC
	}
	if digits > 0 {
		fraction := t.time.Nanosecond() / int(time.Microsecond)
		for range compactDigits - digits {
			fraction /= 10
		}
		dst = appendDigits(append(dst, '.'), fraction, digits)
	}
	return append(dst, zone...)
}

// appendDigits appends a number with leading zeros.
func appendDigits(dst []byte, n, digits int) []byte {
	dst = append(dst, "000000"[:digits]...)
	for i := len(dst) - 1; n > 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}
