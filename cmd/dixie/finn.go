package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"dixie/http"
	"dixie/identity"
)

// finn lets the HTTP server ask the upstream service.
type finn struct {
	client   *identity.Client
	resolver *identity.Resolver
}

var (
	_ http.Upstream  = (*finn)(nil)
	_ http.Ownership = (*finn)(nil)
)

// close ends look-ups that are under way. f may be nil.
func (f *finn) close() {
	if f != nil {
		f.resolver.Close()
		f.client.Close()
	}
}

// Send implements [http.Upstream].
func (f *finn) Send(ctx context.Context, r http.UpstreamRequest) (*http.UpstreamResponse, error) {
	response, err := f.client.Send(ctx, identity.Request(r))
	if err != nil {
		return nil, upstreamError(err)
	}
	return (*http.UpstreamResponse)(response), nil
}

// upstreamError is an error of the client's in the words of the HTTP server.
func upstreamError(err error) error {
	var status *identity.StatusError
	switch {
	case errors.As(err, &status):
		return (*http.UpstreamError)(status)
	case errors.Is(err, identity.ErrCircuitOpen):
		return fmt.Errorf("%w: %w", http.ErrCircuitOpen, err)
	case errors.Is(err, identity.ErrUnavailable):
		return fmt.Errorf("%w: %w", http.ErrUpstreamAway, err)
	}
	return err
}

// Owned implements [http.Ownership].
func (f *finn) Owned(ctx context.Context, wallet string) ([]http.NFT, error) {
	owned, err := f.resolver.Owned(ctx, wallet, identity.Stale)
	if errors.Is(err, identity.ErrNoNFT) {
		return nil, nil
	}
	if err != nil {
		return nil, ownershipError(err)
	}
	nfts := make([]http.NFT, len(owned))
	for i, n := range owned {
		nfts[i] = http.NFT{ID: n.ID, Collection: n.Collection}
	}
	return nfts, nil
}

// freshness are the HTTP server's demands in the words of the resolver.
var freshness = map[http.Freshness]identity.Freshness{
	http.Stale: identity.Stale, http.Fresh: identity.Fresh, http.Current: identity.Current,
}

// Access implements [http.Ownership].
func (f *finn) Access(ctx context.Context, wallet, nft string, fresh http.Freshness) (http.Access, error) {
	n, err := f.resolver.ResolveOwnership(ctx, wallet, nft, freshness[fresh])
	switch {
	case errors.Is(err, identity.ErrNoNFT):
		return http.NoAccess, nil
	case err != nil:
		return http.NoAccess, ownershipError(err)
	case n.OwnedBy(wallet):
		return http.Owner, nil
	case n.DelegatedTo(wallet):
		return http.Delegated, nil
	}
	return http.NoAccess, nil
}

func ownershipError(err error) error {
	if errors.Is(err, identity.ErrUnavailable) {
		return fmt.Errorf("%w: %w", http.ErrOwnershipUnknown, err)
	}
	return err
}

// health is that of finn. f may be nil.
func (f *finn) health(ctx context.Context) *http.FinnHealth {
	if f == nil {
		return nil
	}
	health := http.FinnHealth(f.client.Health(ctx))
	return &health
}

// storeTime is what is left at least for storing, after the last request.
const storeTime = 3 * time.Second

// storeOutcomes gives what chats told the rest of the grace time to get into the
// log, and a moment when there is none left.
func storeOutcomes(closing context.Context, api *http.Server, logger *slog.Logger) {
	until := time.Now().Add(storeTime)
	if deadline, ok := closing.Deadline(); ok && deadline.After(until) {
		until = deadline
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(closing), until)
	defer cancel()
	if err := api.Close(ctx); err != nil {
		logger.ErrorContext(ctx, "stopped before everything was stored", "error", err)
	}
}
