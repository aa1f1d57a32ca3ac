package reputation

import (
	"errors"
	"strings"
)

var (
	// ErrInvalid is matched by every [*InvalidError].
	ErrInvalid = errors.New("invalid")

	// ErrNotFound says that nothing is known under the identifier asked for.
	ErrNotFound = errors.New("not found")

	// ErrConflict says that an event is stored under this id with other content.
	ErrConflict = errors.New("conflict")
)

// Problem is one thing that is wrong with an event.
type Problem struct {
	// Field is the path of the offending member, such as
	// "quality_observation.score"; empty when the event as a whole is meant.
	Field string `json:"field"`
	// Detail says what was expected and what was found.
	Detail string `json:"detail"`
}

// String is "field: detail".
func (p Problem) String() string {
	if p.Field == "" {
		return p.Detail
	}
	return p.Field + ": " + p.Detail
}

// InvalidError lists everything that is wrong with one event. It matches
// [ErrInvalid].
type InvalidError struct {
	Problems []Problem
}

// Error joins the problems with "; ".
func (e *InvalidError) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.String()
	}
	return strings.Join(texts, "; ")
}

// Is makes errors.Is(err, ErrInvalid) true.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

// Within reports the problems of an [*InvalidError] under a path; other errors are
// returned as they are.
func Within(path string, err error) error {
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	problems := make([]Problem, len(invalid.Problems))
	for i, p := range invalid.Problems {
		problems[i] = Problem{Field: join(path, p.Field), Detail: p.Detail}
		if p.Field == "" {
			problems[i].Field = path
		}
	}
	return &InvalidError{Problems: problems}
}

// Reason is why the fold set an event aside. The values are stored and shown to
// operators; they do not change.
type Reason string

// The reasons for which an event is set aside.
const (
	// ReasonInvalidEvent: the stored event breaks a rule of the protocol.
	ReasonInvalidEvent Reason = "invalid_event"
	// ReasonInvalidNFT: the row names an NFT by an id that no request could name.
	ReasonInvalidNFT Reason = "invalid_nft_id"
	// ReasonCollectionMismatch: the NFT belongs to another collection.
	ReasonCollectionMismatch Reason = "collection_mismatch"
)

// SetAsideError says that an event has no effect, and why. The fold is total: an
// event either changes state or is set aside, and it is set aside alike wherever
// it is folded.
type SetAsideError struct {
	Reason Reason
	Detail string
}

func (e *SetAsideError) Error() string { return string(e.Reason) + ": " + e.Detail }
