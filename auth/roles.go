package auth

import (
	"fmt"
	"slices"
	"strings"
)

// Scope is something that a caller may do.
type Scope string

// The scopes. None includes another.
const (
	ScopeRead   Scope = "read"   // read reputations and the log; ask finn on behalf of one's own NFT
	ScopeAppend Scope = "append" // append events to the log
	ScopeAdmin  Scope = "admin"  // reset agents, manage the allowlist, operate the service
)

// Scopes are all scopes.
var Scopes = []Scope{ScopeRead, ScopeAppend, ScopeAdmin}

// RoleTeam is the role of every wallet that signs in.
const RoleTeam = "team"

// ScopesOf are the scopes of a role, which is what a token carries. This is the
// one table of roles; API keys carry their scopes themselves. A role that is not
// here may do nothing.
func ScopesOf(role string) []Scope {
	switch role {
	case RoleTeam:
		return []Scope{ScopeRead, ScopeAppend}
	default:
		return nil
	}
}

// ParseScopes reads a comma-separated list of scopes.
func ParseScopes(list string) ([]Scope, error) {
	var scopes []Scope
	for name := range strings.SplitSeq(list, ",") {
		scope := Scope(strings.TrimSpace(name))
		if !slices.Contains(Scopes, scope) {
			return nil, fmt.Errorf("scope must be read, append or admin, found %q", scope)
		}
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes, nil
}
