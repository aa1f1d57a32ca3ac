package http

import (
	"context"
	"fmt"
	"net/http"

	"dixie/reputation"
)

// appendRules decide which events a caller may append in one request. They are
// used by one goroutine at a time.
type appendRules struct {
	server *Server
	caller Caller
	// unknown is why ownership could not be found out. It is not tried again within
	// the request, which may have millions of events.
	unknown error
}

func (s *Server) appendRules(ctx context.Context) *appendRules {
	return &appendRules{server: s, caller: callerFrom(ctx)}
}

// check is nil when the caller may append an event that counts for an NFT. Only
// administrators reset an agent, and nobody judges an agent of his own: callers
// with a wallet only judge NFTs that they neither own nor are delegated.
func (a *appendRules) check(ctx context.Context, nft string, e *reputation.Event) error {
	if err := mayAppend(a.caller, e); err != nil {
		return err
	}
	if a.caller.Wallet == "" || !judges(e.Type()) {
		return nil
	}
	if a.unknown != nil {
		return a.unknown
	}
	access, err := a.server.access(ctx, a.caller.Wallet, nft, Fresh)
	if err != nil {
		a.unknown = err
		return err
	}
	if access != NoAccess {
		return &requestError{
			status: http.StatusForbidden, code: "self_scoring",
			message: fmt.Sprintf("self-scoring is refused: the wallet owns %s or is delegated it", nft),
		}
	}
	return nil
}

// judges reports whether events of a type say how good an agent is.
func judges(t reputation.Type) bool {
	return t == reputation.TypeQualitySignal || t == reputation.TypeModelPerformance
}

// access is what a wallet is to an NFT.
func (s *Server) access(ctx context.Context, wallet, nft string, f Freshness) (Access, error) {
	if s.Ownership == nil {
		return NoAccess, errNoUpstream
	}
	return s.Ownership.Access(ctx, wallet, nft, f)
}
