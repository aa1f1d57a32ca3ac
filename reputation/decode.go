package reputation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxDimensions = 20
	maxReason     = 500
	maxDurationMS = 3_600_000
	// maxProblems bounds the answer to a hostile event.
	maxProblems = 50
	// slack is how much longer than its canonical form the text of an event may be.
	// PostgreSQL's spelling of a JSON value has more spaces and writes 1e-300 with
	// three hundred digits.
	slack = 16 << 10
	// maxFound bounds how much of an offending value a message repeats.
	maxFound = 64
)

const (
	dimensionRule   = "name must match ^[a-z][a-z0-9_]{0,31}$"
	timestampRule   = "must be an existing RFC 3339 date and time with a zone, such as 2026-02-25T12:00:00Z"
	eventTypeRule   = "must be quality_signal, task_completed, credential_update, model_performance or reputation_reset"
	actionRule      = "must be issued, revoked, renewed or suspended"
	nftRule         = "must match ^[A-Za-z0-9._:-]{1,255}$"
	uuidRule        = "must be a UUID (8-4-4-4-12 hexadecimal digits)"
	requiredDetail  = "is required"
	duplicateDetail = "is given more than once"
)

// Decode reads one event strictly, by every rule of protocol §2 and §3: unknown
// members, duplicate members and unknown types are refused, and all problems are
// reported together as one [*InvalidError]. It accepts a reputation_reset; who
// may send one is for the caller to decide. Decode keeps nothing of data and is
// safe for concurrent use.
func Decode(data []byte) (Event, error) {
	if len(data) <= maxPlain {
		if e, ok := scan(string(data)); ok {
			return e, nil
		}
	}
	return decodeStrictly(data)
}

// decodeStrictly reads any spelling, and finds what is wrong.
func decodeStrictly(data []byte) (Event, error) {
	if len(data) > MaxEventBytes+slack {
		return Event{}, tooLong(len(data))
	}
	d := newDecoder(data)
	defer d.close()
	var w wire
	d.decode(&w)
	if err := d.err(); err != nil {
		return Event{}, err
	}
	e := w.event()
	// A canonical form can also be the longer one: 9e15 is sixteen digits.
	if len(data) > MaxEventBytes-slack {
		if n := len(e.AppendJSON(nil)); n > MaxEventBytes {
			return Event{}, tooLong(n)
		}
	}
	return e, nil
}

// readers are used again, which saves two thirds of the allocations of reading an
// event.
var readers = sync.Pool{New: func() any { return &reader{json: new(jsontext.Decoder)} }}

type reader struct {
	text bytes.Buffer
	json *jsontext.Decoder
}

func newDecoder(data []byte) decoder {
	r := readers.Get().(*reader)
	r.text = *bytes.NewBuffer(data)
	r.json.Reset(&r.text)
	return decoder{json: r.json, reader: r}
}

// close gives the reader back, without the caller's data.
func (d *decoder) close() {
	d.reader.text = bytes.Buffer{}
	d.reader.json.Reset(&d.reader.text)
	readers.Put(d.reader)
}

func tooLong(bytes int) error {
	return &InvalidError{Problems: []Problem{{
		Detail: fmt.Sprintf("must have at most %d bytes, found %d", MaxEventBytes, bytes),
	}}}
}

// decoder reads a wire form. Problems of meaning are collected; a problem of
// syntax ends the reading, and every method answers false after it.
type decoder struct {
	json     *jsontext.Decoder
	reader   *reader
	problems []Problem
	syntax   *Problem
}

// err is an [*InvalidError] with all that was found, or nil. After a problem of
// syntax the rest is not worth reporting.
func (d *decoder) err() error {
	if d.syntax != nil {
		return &InvalidError{Problems: []Problem{*d.syntax}}
	}
	if len(d.problems) > 0 {
		return &InvalidError{Problems: d.problems}
	}
	return nil
}

func (d *decoder) decode(w *wire) {
	ok := d.object("", func(name []byte) bool {
		f, known := fieldNamed(name)
		if !known {
			return d.unknown("", name)
		}
		w.has[f] = true
		return d.field(w, f)
	})
	if !ok || !d.atEnd() {
		return
	}
	d.checkVariant(w)
}

// atEnd refuses anything behind the event.
func (d *decoder) atEnd() bool {
	if _, err := d.json.ReadToken(); errors.Is(err, io.EOF) {
		return true
	}
	d.syntax = &Problem{Detail: fmt.Sprintf("must be one JSON object, found more at byte %d", d.json.InputOffset())}
	return false
}

// checkVariant reports fields that the type does not have, and those that it
// lacks. Without a valid type only the envelope can be judged.
func (d *decoder) checkVariant(w *wire) {
	variant := variantOf(w.kind)
	for f := range fieldCount {
		rule := fields[f]
		switch {
		case w.has[f] && variant != inNone && rule.allowed&variant == 0:
			d.problem(rule.name, "unknown field of a "+string(w.kind))
		case !w.has[f] && (rule.required == inAll || rule.required&variant != 0):
			d.problem(rule.name, requiredDetail)
		}
	}
}

// field reads the value of f.
func (d *decoder) field(w *wire, f field) bool {
	name := fields[f].name
	switch f {
	case fieldAction:
		return d.action(name, &w.action)
	case fieldActor:
		return d.text("", name, maxName, &w.actor)
	case fieldAgentID:
		return d.text("", name, maxName, &w.agentID)
	case fieldCollectionID:
		return d.text("", name, maxName, &w.collectionID)
	case fieldCredentialID:
		return d.uuid("", name, &w.credentialID)
	case fieldDimensions:
		return d.dimensions("dimensions", &w.dimensions)
	case fieldDurationMS:
		return d.integer("", name, maxDurationMS, &w.durationMS)
	case fieldEventID:
		return d.uuid("", name, &w.eventID)
	case fieldModelID:
		return d.text("", name, maxName, &w.modelID)
	case fieldPoolID:
		return d.text("", name, maxName, &w.poolID)
	case fieldProvider:
		return d.text("", name, maxName, &w.provider)
	case fieldObservation:
		return d.observation(&w.observation)
	case fieldReason:
		return d.text("", name, maxReason, &w.reason)
	case fieldContext:
		return d.context(&w.context)
	case fieldScore:
		return d.score("", name, &w.score)
	case fieldSequence:
		return d.integer("", name, MaxInteger, &w.sequence)
	case fieldSuccess:
		return d.boolean(name, &w.success)
	case fieldTaskType:
		return d.taskType(name, &w.taskType)
	case fieldTimestamp:
		return d.timestamp(name, &w.timestamp)
	default:
		return d.eventType(name, &w.kind)
	}
}

func (d *decoder) observation(q *QualityObservation) bool {
	const path = "quality_observation"
	scored := false
	ok := d.object(path, func(name []byte) bool {
		switch string(name) {
		case "score":
			scored = true
			return d.score(path, "score", &q.Score)
		case "dimensions":
			return d.dimensions(path+".dimensions", &q.Dimensions)
		case "latency_ms":
			q.LatencyMS = new(int64)
			return d.integer(path, "latency_ms", MaxInteger, q.LatencyMS)
		case "evaluated_by":
			return d.text(path, "evaluated_by", MaxEventBytes, &q.EvaluatedBy)
		}
		return d.unknown(path, name)
	})
	if ok && !scored {
		d.problem(path+".score", requiredDetail)
	}
	return d.syntax == nil
}

func (d *decoder) context(c *RequestContext) bool {
	const path = "request_context"
	d.object(path, func(name []byte) bool {
		switch string(name) {
		case "request_id":
			return d.uuid(path, "request_id", &c.RequestID)
		case "delegation_id":
			return d.uuid(path, "delegation_id", &c.DelegationID)
		}
		return d.unknown(path, name)
	})
	return d.syntax == nil
}

func (d *decoder) dimensions(path string, to *Dimensions) bool {
	found := make(Dimensions, 0, 4)
	ok := d.object(path, func(raw []byte) bool {
		name := string(raw)
		if !validDimension(name) {
			d.problem(path+"."+shorten(name), dimensionRule)
		}
		var score float64
		if !d.score(path, name, &score) {
			return false
		}
		if len(found) <= maxDimensions {
			found = append(found, Dimension{Name: name, Score: score})
		}
		return true
	})
	if ok && len(found) > maxDimensions {
		d.problem(path, fmt.Sprintf("must have at most %d entries", maxDimensions))
	}
	slices.SortFunc(found, func(a, b Dimension) int { return strings.Compare(a.Name, b.Name) })
	*to = found
	return d.syntax == nil
}

// object reads an object and calls member with each name, unescaped and valid
// only until the next read; member reads the value. The answer is false when
// the value is not an object, which is then reported, or when reading ended.
func (d *decoder) object(path string, member func(name []byte) bool) bool {
	if d.json.PeekKind() != '{' {
		value, ok := d.value()
		if ok {
			d.problem(path, "must be an object, found "+kindName(value.Kind()))
		}
		return false
	}
	if _, err := d.json.ReadToken(); err != nil {
		return d.fail(err)
	}
	for d.json.PeekKind() != '}' {
		raw, ok := d.value()
		if !ok || !member(unquote(raw)) {
			return false
		}
	}
	if _, err := d.json.ReadToken(); err != nil {
		return d.fail(err)
	}
	return true
}

// value reads the next value whole.
func (d *decoder) value() (jsontext.Value, bool) {
	value, err := d.json.ReadValue()
	if err != nil {
		return nil, d.fail(err)
	}
	return value, true
}

// fail ends the reading.
func (d *decoder) fail(err error) bool {
	var syntactic *jsontext.SyntacticError
	if !errors.As(err, &syntactic) {
		d.syntax = &Problem{Detail: "must be one JSON object, found the end of the text at byte " +
			strconv.FormatInt(d.json.InputOffset(), 10)}
		return false
	}
	if errors.Is(err, jsontext.ErrDuplicateName) {
		path := strings.ReplaceAll(strings.TrimPrefix(string(syntactic.JSONPointer), "/"), "/", ".")
		d.syntax = &Problem{Field: shorten(path), Detail: duplicateDetail}
		return false
	}
	d.syntax = &Problem{Detail: fmt.Sprintf("is not valid JSON at byte %d: %v", syntactic.ByteOffset, syntactic.Err)}
	return false
}

func (d *decoder) unknown(path string, name []byte) bool {
	field := join(path, shorten(string(name)))
	if _, ok := d.value(); !ok {
		return false
	}
	d.problem(field, "unknown field")
	return true
}

func (d *decoder) problem(field, detail string) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, Problem{Field: field, Detail: detail})
	}
}

// str reads a string. The second result is false when the value is of another
// kind, the third when reading ended.
func (d *decoder) str(path, name string) (s string, is, ok bool) {
	value, ok := d.value()
	if !ok {
		return "", false, false
	}
	if value.Kind() != '"' {
		d.problem(join(path, name), "must be a string, found "+kindName(value.Kind()))
		return "", false, true
	}
	s = string(unquote(value))
	if strings.IndexByte(s, 0) >= 0 {
		d.problem(join(path, name), "must not contain U+0000")
		return "", false, true
	}
	return s, true, true
}

func (d *decoder) text(path, name string, most int, to *string) bool {
	s, is, ok := d.str(path, name)
	if !is {
		return ok
	}
	if n := utf8.RuneCountInString(s); n < 1 || n > most {
		d.problem(join(path, name), fmt.Sprintf("must have 1 to %d characters, found %d", most, n))
	}
	*to = s
	return true
}

func (d *decoder) uuid(path, name string, to *string) bool {
	s, is, ok := d.str(path, name)
	if !is {
		return ok
	}
	if !validUUID(s) {
		d.problem(join(path, name), uuidRule+found(s))
	}
	*to = s
	return true
}

func (d *decoder) action(name string, to *CredentialAction) bool {
	s, is, ok := d.str("", name)
	if is && !slices.Contains(credentialActions[:], CredentialAction(s)) {
		d.problem(name, actionRule+found(s))
	}
	*to = CredentialAction(s)
	return ok
}

func (d *decoder) taskType(name string, to *TaskType) bool {
	s, is, ok := d.str("", name)
	if is && !TaskType(s).Valid() {
		d.problem(name, taskTypeRule+found(s))
	}
	*to = TaskType(s)
	return ok
}

func (d *decoder) timestamp(name string, to *Timestamp) bool {
	s, is, ok := d.str("", name)
	if !is {
		return ok
	}
	t, err := ParseTimestamp(s)
	if err != nil {
		d.problem(name, timestampRule+found(s))
	}
	*to = t
	return true
}

func (d *decoder) eventType(name string, to *Type) bool {
	s, is, ok := d.str("", name)
	if is && variantOf(Type(s)) == inNone {
		d.problem(name, eventTypeRule+found(s))
	}
	*to = Type(s)
	return ok
}

func (d *decoder) boolean(name string, to *bool) bool {
	value, ok := d.value()
	if !ok {
		return false
	}
	switch value.Kind() {
	case 't', 'f':
		*to = value.Kind() == 't'
	default:
		d.problem(name, "must be true or false, found "+kindName(value.Kind()))
	}
	return true
}

// number reads a number. The second result is false when there is none.
func (d *decoder) number(path, name string) (f float64, is, ok bool) {
	value, ok := d.value()
	if !ok {
		return 0, false, false
	}
	if value.Kind() != '0' {
		d.problem(join(path, name), "must be a number, found "+kindName(value.Kind()))
		return 0, false, true
	}
	// Out of range is an infinity, which no limit admits.
	f, _ = strconv.ParseFloat(string(value), 64)
	return f, true, true
}

// score reads a number in [0, 1]. Negative zero becomes zero (protocol §1).
func (d *decoder) score(path, name string, to *float64) bool {
	f, is, ok := d.number(path, name)
	if is && !(f >= 0 && f <= 1) {
		d.problem(join(path, name), "must be between 0 and 1, found "+formatNumber(f))
	}
	if f != 0 {
		*to = f
	}
	return ok
}

// integer reads a whole number in [0, most]; 2.0 and 2e0 are whole (protocol §1).
func (d *decoder) integer(path, name string, most int64, to *int64) bool {
	f, is, ok := d.number(path, name)
	if !is {
		return ok
	}
	if f != math.Trunc(f) || f < 0 || f > float64(most) {
		d.problem(join(path, name), fmt.Sprintf("must be a whole number between 0 and %d, found %s", most, formatNumber(f)))
		return true
	}
	*to = int64(f)
	return true
}

// unquote is the text of a JSON string. Only escaped strings are copied.
func unquote(raw jsontext.Value) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	text, _ := jsontext.AppendUnquote(nil, raw) // the decoder has checked it
	return text
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + shorten(name)
}

func found(s string) string { return ", found " + strconv.Quote(shorten(s)) }

func shorten(s string) string {
	if len(s) <= maxFound {
		return s
	}
	return strings.ToValidUTF8(s[:maxFound], "") + "…"
}

func formatNumber(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '[':
		return "an array"
	case '{':
		return "an object"
	}
	return "nothing"
}
