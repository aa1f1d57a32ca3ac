package reputation

import "sync"

// wire is the flat form between an event and its JSON object. All variants share
// it, because JSON may name the type last.
type wire struct {
	has [fieldCount]bool

	action       CredentialAction
	actor        string
	agentID      string
	collectionID string
	credentialID string
	dimensions   Dimensions
	durationMS   int64
	eventID      string
	modelID      string
	poolID       string
	provider     string
	observation  QualityObservation
	reason       string
	context      RequestContext
	score        float64
	sequence     int64
	success      bool
	taskType     TaskType
	timestamp    Timestamp
	kind         Type
}

// wires are used again.
var wires = sync.Pool{New: func() any { return new(wire) }}

// close gives the wire form back, empty, so that it keeps no text in memory.
func (w *wire) close() {
	*w = wire{}
	wires.Put(w)
}

// field is a member of an event's JSON object.
type field int

// In the order of RFC 8785 §3.2.3, in which they are encoded.
const (
	fieldAction field = iota
	fieldActor
	fieldAgentID
	fieldCollectionID
	fieldCredentialID
	fieldDimensions
	fieldDurationMS
	fieldEventID
	fieldModelID
	fieldPoolID
	fieldProvider
	fieldObservation
	fieldReason
	fieldContext
	fieldScore
	fieldSequence
	fieldSuccess
	fieldTaskType
	fieldTimestamp
	fieldType
	fieldCount
)

// variants is a set of event types.
type variants uint8

const (
	inQualitySignal variants = 1 << iota
	inTaskCompleted
	inCredentialUpdate
	inModelPerformance
	inReputationReset
	inNone variants = 0
	inAll           = inQualitySignal | inTaskCompleted | inCredentialUpdate | inModelPerformance | inReputationReset
)

// variantOf is the set of one type, and inNone of what is no type.
func variantOf(kind Type) variants {
	switch kind {
	case TypeQualitySignal:
		return inQualitySignal
	case TypeTaskCompleted:
		return inTaskCompleted
	case TypeCredentialUpdate:
		return inCredentialUpdate
	case TypeModelPerformance:
		return inModelPerformance
	case TypeReputationReset:
		return inReputationReset
	}
	return inNone
}

// fields says which types have a field, and which must have it (protocol §2).
var fields = [fieldCount]struct {
	name              string
	allowed, required variants
}{
	fieldAction:       {"action", inCredentialUpdate, inCredentialUpdate},
	fieldActor:        {"actor", inReputationReset, inReputationReset},
	fieldAgentID:      {"agent_id", inAll, inAll},
	fieldCollectionID: {"collection_id", inAll, inAll},
	fieldCredentialID: {"credential_id", inCredentialUpdate, inCredentialUpdate},
	fieldDimensions:   {"dimensions", inQualitySignal, inNone},
	fieldDurationMS:   {"duration_ms", inTaskCompleted, inNone},
	fieldEventID:      {"event_id", inAll, inAll},
	fieldModelID:      {"model_id", inModelPerformance, inModelPerformance},
	fieldPoolID:       {"pool_id", inModelPerformance, inModelPerformance},
	fieldProvider:     {"provider", inModelPerformance, inModelPerformance},
	fieldObservation:  {"quality_observation", inModelPerformance, inModelPerformance},
	fieldReason:       {"reason", inReputationReset, inReputationReset},
	fieldContext:      {"request_context", inModelPerformance, inNone},
	fieldScore:        {"score", inQualitySignal, inQualitySignal},
	fieldSequence:     {"sequence", inAll, inNone},
	fieldSuccess:      {"success", inTaskCompleted, inTaskCompleted},
	fieldTaskType:     {"task_type", inQualitySignal | inTaskCompleted | inModelPerformance, inTaskCompleted | inModelPerformance},
	fieldTimestamp:    {"timestamp", inAll, inAll},
	fieldType:         {"type", inAll, inAll},
}

// fieldsByLength are the fields by the length of their names, of which few have the
// same: reading a log asks ten times for each event, and a map takes longer.
var fieldsByLength = func() (all [20][]field) {
	for f := range fieldCount {
		n := len(fields[f].name)
		all[n] = append(all[n], f)
	}
	return all
}()

// fieldNamed finds a field by the name that JSON gives it.
func fieldNamed[S ~string | ~[]byte](name S) (f field, known bool) {
	if len(name) >= len(fieldsByLength) {
		return 0, false
	}
	for _, f := range fieldsByLength[len(name)] {
		if fields[f].name == string(name) {
			return f, true
		}
	}
	return 0, false
}

// event is the variant that kind names. The wire form has been checked.
func (w *wire) event() Event {
	e := Event{ID: w.eventID, AgentID: w.agentID, CollectionID: w.collectionID, Timestamp: w.timestamp}
	if w.has[fieldSequence] {
		e.Sequence = pointer(w.sequence)
	}
	switch w.kind {
	case TypeQualitySignal:
		e.Body = QualitySignal{Score: w.score, TaskType: w.taskType, Dimensions: w.dimensions}
	case TypeTaskCompleted:
		body := TaskCompleted{TaskType: w.taskType, Success: w.success}
		if w.has[fieldDurationMS] {
			body.DurationMS = pointer(w.durationMS)
		}
		e.Body = body
	case TypeCredentialUpdate:
		e.Body = CredentialUpdate{CredentialID: w.credentialID, Action: w.action}
	case TypeModelPerformance:
		body := ModelPerformance{
			ModelID: w.modelID, Provider: w.provider, PoolID: w.poolID,
			TaskType: w.taskType, Observation: w.observation,
		}
		if w.has[fieldContext] {
			body.RequestContext = pointer(w.context)
		}
		e.Body = body
	case TypeReputationReset:
		e.Body = ReputationReset{Reason: w.reason, Actor: w.actor}
	}
	return e
}

// pointer copies a value, so that an event does not keep its whole wire form.
func pointer[T any](v T) *T { return &v }

// fill makes w, which is empty, the flat form of e.
func (w *wire) fill(e *Event) {
	w.eventID, w.agentID, w.collectionID = e.ID, e.AgentID, e.CollectionID
	w.timestamp, w.kind = e.Timestamp, e.Type()
	w.set(fieldEventID, fieldAgentID, fieldCollectionID, fieldTimestamp, fieldType)
	if e.Sequence != nil {
		w.sequence = *e.Sequence
		w.set(fieldSequence)
	}
	e.Body.put(w)
}

func (w *wire) set(fields ...field) {
	for _, f := range fields {
		w.has[f] = true
	}
}

func (b QualitySignal) put(w *wire) {
	w.score, w.taskType, w.dimensions = b.Score, b.TaskType, b.Dimensions
	w.set(fieldScore)
	w.has[fieldTaskType] = b.TaskType != ""
	w.has[fieldDimensions] = b.Dimensions != nil
}

func (b TaskCompleted) put(w *wire) {
	w.taskType, w.success = b.TaskType, b.Success
	w.set(fieldTaskType, fieldSuccess)
	if b.DurationMS != nil {
		w.durationMS = *b.DurationMS
		w.set(fieldDurationMS)
	}
}

func (b CredentialUpdate) put(w *wire) {
	w.credentialID, w.action = b.CredentialID, b.Action
	w.set(fieldCredentialID, fieldAction)
}

func (b ModelPerformance) put(w *wire) {
	w.modelID, w.provider, w.poolID = b.ModelID, b.Provider, b.PoolID
	w.taskType, w.observation = b.TaskType, b.Observation
	w.set(fieldModelID, fieldProvider, fieldPoolID, fieldTaskType, fieldObservation)
	if b.RequestContext != nil {
		w.context = *b.RequestContext
		w.set(fieldContext)
	}
}

func (b ReputationReset) put(w *wire) {
	w.reason, w.actor = b.Reason, b.Actor
	w.set(fieldReason, fieldActor)
}
