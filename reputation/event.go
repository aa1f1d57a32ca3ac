package reputation

import "encoding/hex"

// Type names the variant of an [Event].
type Type string

// The event types. The first four are the protocol's (§2); reputation_reset is
// this service's own and comes from administrators only.
const (
	TypeQualitySignal    Type = "quality_signal"
	TypeTaskCompleted    Type = "task_completed"
	TypeCredentialUpdate Type = "credential_update"
	TypeModelPerformance Type = "model_performance"
	TypeReputationReset  Type = "reputation_reset"
)

// MaxEventBytes is the longest canonical JSON text of an event. Only an evaluator's
// name, which the protocol does not bound, can make an event as long.
const MaxEventBytes = 64 << 10

// MaxInteger is the largest integer in an event: beyond 2⁵³−1 JSON numbers are
// not exact (RFC 7493 §2.2).
const MaxInteger = 1<<53 - 1

// Types are all event types.
var Types = []Type{TypeQualitySignal, TypeTaskCompleted, TypeCredentialUpdate, TypeModelPerformance, TypeReputationReset}

// Event is something that happened to an agent (protocol §2.1). Events are
// immutable: what [Decode] returned may be shared, and is not to be changed.
type Event struct {
	// ID is the event's UUID as its author spelled it.
	ID string
	// AgentID is the author's name for the agent, 1 to 255 characters. Which NFT
	// the event counts for is said beside the event, not by it.
	AgentID string
	// CollectionID is the collection of the NFT, 1 to 255 characters.
	CollectionID string
	// Timestamp is when it happened, by its author's clock.
	Timestamp Timestamp
	// Sequence is the author's own numbering; nil when absent. It does not order
	// the log.
	Sequence *int64
	// Body is what happened. It is never nil in a decoded event.
	Body Body
}

// Type is the type of the body.
func (e *Event) Type() Type { return e.Body.eventType() }

// UUID is the event's id as 16 bytes: ids that differ only in letter case are
// the same.
func (e *Event) UUID() [16]byte {
	id, _ := ParseUUID(e.ID)
	return id
}

// ParseUUID reads a UUID of either letter case; false when s is none.
func ParseUUID(s string) (id [16]byte, ok bool) {
	if !validUUID(s) {
		return id, false
	}
	var digits [2 * len(id)]byte
	n := 0
	for i := range len(s) {
		if s[i] != '-' {
			digits[n] = s[i]
			n++
		}
	}
	_, err := hex.Decode(id[:], digits[:])
	return id, err == nil
}

// Body is one of [QualitySignal], [TaskCompleted], [CredentialUpdate],
// [ModelPerformance] and [ReputationReset].
type Body interface {
	eventType() Type
	// put copies the body into the flat form that is encoded.
	put(*wire)
}

// QualitySignal is a judgement of the agent's work (protocol §2.2).
type QualitySignal struct {
	Score      float64    // in [0, 1]
	TaskType   TaskType   // empty when absent
	Dimensions Dimensions // nil when absent
}

// TaskCompleted says that the agent finished a task (protocol §2.3).
type TaskCompleted struct {
	TaskType   TaskType
	Success    bool
	DurationMS *int64 // 0 to 3,600,000; nil when absent
}

// CredentialUpdate says what became of a credential of the agent (protocol §2.4).
type CredentialUpdate struct {
	CredentialID string // UUID
	Action       CredentialAction
}

// CredentialAction is what happened to a credential.
type CredentialAction string

// credentialActions are the values of protocol §2.4.
var credentialActions = [...]CredentialAction{"issued", "revoked", "renewed", "suspended"}

// ModelPerformance is a judgement of one model's work for the agent (protocol
// §2.5).
type ModelPerformance struct {
	ModelID, Provider, PoolID string // 1 to 255 characters each
	TaskType                  TaskType
	Observation               QualityObservation
	RequestContext            *RequestContext // nil when absent
}

// QualityObservation is protocol §3.1.
type QualityObservation struct {
	Score       float64    // in [0, 1]
	Dimensions  Dimensions // nil when absent
	LatencyMS   *int64     // not negative; nil when absent
	EvaluatedBy string     // empty when absent
}

// RequestContext names the request that was judged. Both members are UUIDs, or
// empty when absent.
type RequestContext struct {
	RequestID, DelegationID string
}

// ReputationReset is an administrator's decision that the agent starts again.
type ReputationReset struct {
	Reason string // 1 to 500 characters
	Actor  string // 1 to 255 characters
}

// Dimensions are named scores, sorted by name. Empty and nil differ: empty was
// given as {}.
type Dimensions []Dimension

// Dimension is one aspect of a judgement.
type Dimension struct {
	Name  string  // ^[a-z][a-z0-9_]{0,31}$
	Score float64 // in [0, 1]
}

func (QualitySignal) eventType() Type    { return TypeQualitySignal }
func (TaskCompleted) eventType() Type    { return TypeTaskCompleted }
func (CredentialUpdate) eventType() Type { return TypeCredentialUpdate }
func (ModelPerformance) eventType() Type { return TypeModelPerformance }
func (ReputationReset) eventType() Type  { return TypeReputationReset }
