package reputation

import (
	"fmt"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// AppendJSON appends the event's canonical JSON (RFC 8785) to dst. Written here
// and not by a generic encoder because every event that is stored or compared
// passes through it; a test holds it to the library's canonical form.
func (e *Event) AppendJSON(dst []byte) []byte {
	w := wires.Get().(*wire)
	defer w.close()
	w.fill(e)
	o := beginObject(dst)
	for f := range fieldCount {
		if w.has[f] {
			o.name(fields[f].name)
			o.buf = w.appendField(o.buf, f)
		}
	}
	return o.end()
}

// MarshalJSON writes the event's canonical JSON.
func (e *Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// Validate reports every rule of the protocol that an event made in Go breaks,
// as an [*InvalidError], or nil.
func (e *Event) Validate() error {
	if e.Body == nil {
		return &InvalidError{Problems: []Problem{{Field: "type", Detail: "is required"}}}
	}
	_, err := Decode(e.AppendJSON(nil))
	return err
}

// Canonical is the RFC 8785 form of a JSON value: sorted members, one spelling
// for each number and string. It fails on invalid JSON, duplicate members and
// invalid UTF-8.
func Canonical(value []byte) ([]byte, error) {
	v := jsontext.Value(value).Clone()
	if err := v.Canonicalize(); err != nil {
		return nil, fmt.Errorf("canonical JSON: %w", err)
	}
	return v, nil
}

func (w *wire) appendField(dst []byte, f field) []byte {
	switch f {
	case fieldAction:
		return appendString(dst, string(w.action))
	case fieldActor:
		return appendString(dst, w.actor)
	case fieldAgentID:
		return appendString(dst, w.agentID)
	case fieldCollectionID:
		return appendString(dst, w.collectionID)
	case fieldCredentialID:
		return appendString(dst, w.credentialID)
	case fieldDimensions:
		return appendDimensions(dst, w.dimensions)
	case fieldDurationMS:
		return strconv.AppendInt(dst, w.durationMS, 10)
	case fieldEventID:
		return appendString(dst, w.eventID)
	case fieldModelID:
		return appendString(dst, w.modelID)
	case fieldPoolID:
		return appendString(dst, w.poolID)
	case fieldProvider:
		return appendString(dst, w.provider)
	case fieldObservation:
		return appendObservation(dst, w.observation)
	case fieldReason:
		return appendString(dst, w.reason)
	case fieldContext:
		return appendContext(dst, w.context)
	case fieldScore:
		return AppendNumber(dst, w.score)
	case fieldSequence:
		return strconv.AppendInt(dst, w.sequence, 10)
	case fieldSuccess:
		return strconv.AppendBool(dst, w.success)
	case fieldTaskType:
		return appendString(dst, string(w.taskType))
	case fieldTimestamp:
		return appendString(dst, w.timestamp.String())
	case fieldType:
		return appendString(dst, string(w.kind))
	}
	return dst
}

func appendObservation(dst []byte, q QualityObservation) []byte {
	o := beginObject(dst)
	if q.Dimensions != nil {
		o.name("dimensions")
		o.buf = appendDimensions(o.buf, q.Dimensions)
	}
	if q.EvaluatedBy != "" {
		o.name("evaluated_by")
		o.buf = appendString(o.buf, q.EvaluatedBy)
	}
	if q.LatencyMS != nil {
		o.name("latency_ms")
		o.buf = strconv.AppendInt(o.buf, *q.LatencyMS, 10)
	}
	o.name("score")
	o.buf = AppendNumber(o.buf, q.Score)
	return o.end()
}

func appendContext(dst []byte, c RequestContext) []byte {
	o := beginObject(dst)
	if c.DelegationID != "" {
		o.name("delegation_id")
		o.buf = appendString(o.buf, c.DelegationID)
	}
	if c.RequestID != "" {
		o.name("request_id")
		o.buf = appendString(o.buf, c.RequestID)
	}
	return o.end()
}

func appendDimensions(dst []byte, dimensions Dimensions) []byte {
	o := beginObject(dst)
	for _, d := range dimensions {
		o.name(d.Name)
		o.buf = AppendNumber(o.buf, d.Score)
	}
	return o.end()
}

// object writes a JSON object whose members are given in canonical order.
type object struct {
	buf   []byte
	comma bool
}

func beginObject(dst []byte) object { return object{buf: append(dst, '{')} }

func (o *object) name(name string) {
	if o.comma {
		o.buf = append(o.buf, ',')
	}
	o.comma = true
	o.buf = appendString(o.buf, name)
	o.buf = append(o.buf, ':')
}

func (o *object) end() []byte { return append(o.buf, '}') }

// appendString uses the minimal escaping of RFC 8785 §3.2.2.2. Invalid UTF-8
// becomes U+FFFD, which only events made in Go can hold.
func appendString(dst []byte, s string) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}

// AppendNumber appends f to dst as ECMAScript writes it (RFC 8785 §3.2.2.3): the shortest
// digits that read back as f, with an exponent only for very small and very
// large values. Scores are in [0, 1], so the large ones do not occur; NaN and
// infinities are written as null, which validation refuses.
func AppendNumber(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if f == 0 {
		return append(dst, '0')
	}
	if abs := math.Abs(f); abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	// Go pads a one-digit exponent to two digits.
	if n := len(dst); n >= 4 && dst[n-4] == 'e' && dst[n-2] == '0' {
		dst = append(dst[:n-2], dst[n-1])
	}
	return dst
}
