package reputation

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// DecodeText is [Decode] for whoever has the text anyway, such as of a whole log: the
// strings of the event are parts of text and keep it in memory. It is safe for
// concurrent use.
func DecodeText(text string) (Event, error) {
	if e, ok := scan(text); ok {
		return e, nil
	}
	return decodeStrictly([]byte(text))
}

// maxPlain is the length of the longest text that is scanned: that of longer ones is to
// be measured in canonical form.
const maxPlain = MaxEventBytes - slack

// scan reads an event in the plain spelling that nearly all have, several times as fast
// as [decodeStrictly]. It answers false for whatever is not plain or not valid.
func scan(text string) (Event, bool) {
	if len(text) > maxPlain {
		return Event{}, false
	}
	w := wires.Get().(*wire)
	defer w.close()
	s := scanner{text: text}
	if !s.scan(w) {
		return Event{}, false
	}
	return w.event(), true
}

// scanner reads valid events in plain JSON: ASCII without escapes, spaces the
// only white space, numbers without sign and exponent. Its methods answer false
// for all else, and nobody has to know why.
type scanner struct {
	text string
	at   int
}

func (s *scanner) scan(w *wire) bool {
	ok := s.object(func(name string) bool {
		f, known := fieldNamed(name)
		if !known || w.has[f] {
			return false
		}
		w.has[f] = true
		return s.field(w, f)
	})
	s.spaces()
	return ok && s.at == len(s.text) && w.complete()
}

// complete says whether the fields are those that the type may and must have.
func (w *wire) complete() bool {
	variant := variantOf(w.kind)
	if variant == inNone {
		return false
	}
	for f := range fieldCount {
		allowed, required := fields[f].allowed&variant != 0, fields[f].required&variant != 0
		if w.has[f] && !allowed || !w.has[f] && required {
			return false
		}
	}
	return true
}

func (s *scanner) field(w *wire, f field) bool {
	switch f {
	case fieldAction:
		return s.literal((*string)(&w.action)) && slices.Contains(credentialActions[:], w.action)
	case fieldActor:
		return s.name(maxName, &w.actor)
	case fieldAgentID:
		return s.name(maxName, &w.agentID)
	case fieldCollectionID:
		return s.name(maxName, &w.collectionID)
	case fieldCredentialID:
		return s.uuid(&w.credentialID)
	case fieldDimensions:
		return s.dimensions(&w.dimensions)
	case fieldDurationMS:
		return s.integer(maxDurationMS, &w.durationMS)
	case fieldEventID:
		return s.uuid(&w.eventID)
	case fieldModelID:
		return s.name(maxName, &w.modelID)
	case fieldPoolID:
		return s.name(maxName, &w.poolID)
	case fieldProvider:
		return s.name(maxName, &w.provider)
	case fieldObservation:
		return s.observation(&w.observation)
	case fieldReason:
		return s.name(maxReason, &w.reason)
	case fieldContext:
		return s.context(&w.context)
	case fieldScore:
		return s.score(&w.score)
	case fieldSequence:
		return s.integer(MaxInteger, &w.sequence)
	case fieldSuccess:
		return s.boolean(&w.success)
	case fieldTaskType:
		return s.literal((*string)(&w.taskType)) && w.taskType.Valid()
	case fieldTimestamp:
		return s.timestamp(&w.timestamp)
	case fieldType:
		return s.literal((*string)(&w.kind))
	}
	return false
}

func (s *scanner) observation(q *QualityObservation) bool {
	var scored, evaluated bool
	ok := s.object(func(name string) bool {
		switch {
		case name == "score" && !scored:
			scored = true
			return s.score(&q.Score)
		case name == "dimensions" && q.Dimensions == nil:
			return s.dimensions(&q.Dimensions)
		case name == "latency_ms" && q.LatencyMS == nil:
			q.LatencyMS = new(int64)
			return s.integer(MaxInteger, q.LatencyMS)
		case name == "evaluated_by" && !evaluated:
			evaluated = true
			return s.name(MaxEventBytes, &q.EvaluatedBy)
		}
		return false
	})
	return ok && scored
}

func (s *scanner) context(c *RequestContext) bool {
	return s.object(func(name string) bool {
		switch {
		case name == "request_id" && c.RequestID == "":
			return s.uuid(&c.RequestID)
		case name == "delegation_id" && c.DelegationID == "":
			return s.uuid(&c.DelegationID)
		}
		return false
	})
}

func (s *scanner) dimensions(to *Dimensions) bool {
	found := make(Dimensions, 0, 4)
	ok := s.object(func(name string) bool {
		d := Dimension{Name: name}
		if len(found) == maxDimensions || !validDimension(name) || !s.score(&d.Score) {
			return false
		}
		found = append(found, d)
		return true
	})
	slices.SortFunc(found, func(a, b Dimension) int { return strings.Compare(a.Name, b.Name) })
	for i := 1; i < len(found); i++ {
		if found[i].Name == found[i-1].Name {
			return false
		}
	}
	*to = found
	return ok
}

// object reads an object and calls member with each name to read the value.
func (s *scanner) object(member func(name string) bool) bool {
	if !s.take('{') {
		return false
	}
	if s.take('}') {
		return true
	}
	for {
		var name string
		if !s.literal(&name) || !s.take(':') || !member(name) {
			return false
		}
		if !s.take(',') {
			return s.take('}')
		}
	}
}

func (s *scanner) spaces() {
	for s.at < len(s.text) && s.text[s.at] == ' ' {
		s.at++
	}
}

// take reads a character, and spaces before it.
func (s *scanner) take(c byte) bool {
	s.spaces()
	if s.at == len(s.text) || s.text[s.at] != c {
		return false
	}
	s.at++
	return true
}

// literal reads a string.
func (s *scanner) literal(to *string) bool {
	if !s.take('"') {
		return false
	}
	rest := s.text[s.at:]
	n := 0
	for n < len(rest) && plain[rest[n]] {
		n++
	}
	if n == len(rest) || rest[n] != '"' {
		return false
	}
	*to = rest[:n]
	s.at += n + 1
	return true
}

// plain are the characters that stand for themselves in a string of JSON. Looking
// them up and finding fields by the length of their names took a quarter off decoding.
var plain = func() (is [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		is[c] = c != '"' && c != '\\'
	}
	return is
}()

func (s *scanner) name(most int, to *string) bool {
	return s.literal(to) && len(*to) >= 1 && len(*to) <= most
}

func (s *scanner) uuid(to *string) bool { return s.literal(to) && validUUID(*to) }

func (s *scanner) timestamp(to *Timestamp) bool {
	var text string
	if !s.literal(&text) {
		return false
	}
	t, err := ParseTimestamp(text)
	*to = t
	return err == nil
}

func (s *scanner) boolean(to *bool) bool {
	s.spaces()
	switch rest := s.text[s.at:]; {
	case strings.HasPrefix(rest, "true"):
		*to = true
		s.at += len("true")
	case strings.HasPrefix(rest, "false"):
		s.at += len("false")
	default:
		return false
	}
	return true
}

// digits reads digits, at least one.
func (s *scanner) digits() bool {
	start := s.at
	for s.at < len(s.text) && isDigit(s.text[s.at]) {
		s.at++
	}
	return s.at > start
}

// whole reads the digits of a number before its fraction, of which only zero
// begins with 0.
func (s *scanner) whole() (start int, ok bool) {
	s.spaces()
	start = s.at
	if !s.digits() {
		return start, false
	}
	return start, s.text[start] != '0' || s.at == start+1
}

func (s *scanner) score(to *float64) bool {
	start, ok := s.whole()
	if !ok {
		return false
	}
	if s.at < len(s.text) && s.text[s.at] == '.' {
		s.at++
		if !s.digits() {
			return false
		}
	}
	f, err := strconv.ParseFloat(s.text[start:s.at], 64)
	*to = f
	return err == nil && f <= 1
}

func (s *scanner) integer(most int64, to *int64) bool {
	start, ok := s.whole()
	if !ok {
		return false
	}
	n, err := strconv.ParseInt(s.text[start:s.at], 10, 64)
	*to = n
	return err == nil && n <= most
}
