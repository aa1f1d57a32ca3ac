package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	ownedLife   = 5 * time.Minute // of an answer that names NFTs
	nothingLife = time.Minute     // of one that names none
	staleLife   = time.Hour       // of NFTs for those who rather take an old answer than none
)

// Freshness is how old an answer about ownership may be.
type Freshness int

const (
	// Stale takes an answer of up to an hour while finn is away: for reads.
	Stale Freshness = iota
	// Fresh takes an answer of up to five minutes, and of one minute when it is
	// that a wallet owns nothing.
	Fresh
	// Current asks finn: for what cannot be undone.
	Current
)

// Resolver knows which wallet owns which NFT. It remembers what finn said, for a
// bounded number of wallets, and never that finn could not be asked. Look-ups of
// one wallet at the same time are one question to finn, which goes on when those
// who wait for it leave. It is safe for concurrent use.
type Resolver struct {
	client *Client
	nfts   *memo // all that finn lists for a wallet
	shares *memo // the one NFT of which finn tells the owner and the delegates
}

// ResolverConfig sets a [Resolver] up.
type ResolverConfig struct {
	// Wallets is how many are remembered; 10,000 when 0.
	Wallets int
	// Looked is told of each question what memory had to it: "hit", "miss", or
	// "stale" when an old answer served because finn could not be asked. It may be
	// nil.
	Looked func(result string)
}

// NewResolver returns a resolver that knows nothing yet.
func NewResolver(client *Client, c ResolverConfig) *Resolver {
	if c.Wallets <= 0 {
		c.Wallets = 10_000
	}
	if c.Looked == nil {
		c.Looked = func(string) {}
	}
	r := &Resolver{client: client}
	r.nfts = newMemo(c, r.list)
	r.shares = newMemo(c, r.share)
	return r
}

// Close ends the look-ups that are under way and waits for them.
func (r *Resolver) Close() {
	r.nfts.close()
	r.shares.close()
}

// Owned are the NFTs that a wallet owns, in finn's order: never none without
// [ErrNoNFT]. [ErrUnavailable] says that it is not known. Any other error is
// [ErrWallet] or the context's.
func (r *Resolver) Owned(ctx context.Context, wallet string, f Freshness) ([]NFT, error) {
	listed, err := r.nfts.get(ctx, wallet, f)
	if err != nil {
		return nil, err
	}
	owned := make([]NFT, 0, len(listed))
	for _, n := range listed {
		if n.OwnedBy(wallet) {
			owned = append(owned, n)
		}
	}
	if len(owned) == 0 {
		return nil, ErrNoNFT
	}
	return owned, nil
}

// ResolveOwnership is what finn says of an NFT to a wallet that owns it or is
// delegated it. [ErrNoNFT] says that the wallet has nothing to do with it; other
// errors are those of Owned.
func (r *Resolver) ResolveOwnership(ctx context.Context, wallet, nft string, f Freshness) (NFT, error) {
	shared, err := r.shares.get(ctx, wallet, f)
	if found, ok := find(shared, wallet, nft); ok {
		return found, nil
	}
	unknown := err != nil && !errors.Is(err, ErrNoNFT)
	if unknown && f != Stale {
		return NFT{}, err
	}
	listed, listErr := r.nfts.get(ctx, wallet, f)
	if found, ok := find(listed, wallet, nft); ok {
		return found, nil
	}
	if listErr != nil && !errors.Is(listErr, ErrNoNFT) {
		return NFT{}, listErr
	}
	if unknown { // the list alone does not tell who is delegated what
		return NFT{}, err
	}
	return NFT{}, ErrNoNFT
}

func find(nfts []NFT, wallet, id string) (NFT, bool) {
	for _, n := range nfts {
		if n.ID == id && (n.OwnedBy(wallet) || n.DelegatedTo(wallet)) {
			return n, true
		}
	}
	return NFT{}, false
}

// list asks for all NFTs of a wallet, and for its one where finn has no list.
func (r *Resolver) list(ctx context.Context, wallet string) ([]NFT, error) {
	var answer struct {
		NFTs []jsontext.Value `json:"nfts"`
	}
	err := r.ask(ctx, wallet, "nfts", &answer)
	if notFound(err) {
		return r.single(ctx, wallet)
	}
	if err != nil {
		return nil, err
	}
	if answer.NFTs == nil {
		return nil, fmt.Errorf("%w: no member nfts", ErrAnswer)
	}
	return understood(answer.NFTs)
}

// understood are the NFTs of entries. A strange one does not hide the others, but
// strange ones alone do not mean that there are none.
func understood(entries []jsontext.Value) ([]NFT, error) {
	var nfts []NFT
	strange := ErrNoNFT
	for _, value := range entries {
		n, err := parseNFT(value)
		if err != nil {
			strange = err
			continue
		}
		nfts = append(nfts, n)
	}
	if len(nfts) == 0 {
		return nil, strange
	}
	return nfts, nil
}

// single asks for the one NFT of a wallet: {"nftId": …} or {"nft": {…} or null}.
func (r *Resolver) single(ctx context.Context, wallet string) ([]NFT, error) {
	var answer jsontext.Value
	err := r.ask(ctx, wallet, "nft", &answer)
	if notFound(err) {
		return nil, ErrNoNFT
	}
	if err != nil {
		return nil, err
	}
	if inner, ok := member(answer, "nft"); ok {
		return one(inner)
	}
	return named(answer)
}

// share asks which NFT a wallet owns or is delegated, and by whom. Newer finns
// have no such route, which is remembered as nothing.
func (r *Resolver) share(ctx context.Context, wallet string) ([]NFT, error) {
	var answer jsontext.Value
	err := r.ask(ctx, wallet, "ownership", &answer)
	if notFound(err) {
		return nil, ErrNoNFT
	}
	if err != nil {
		return nil, err
	}
	return named(answer)
}

// named is the NFT of an object that has nftId, which may be null.
func named(answer jsontext.Value) ([]NFT, error) {
	id, ok := member(answer, "nftId")
	if !ok {
		return nil, fmt.Errorf("%w: no member nftId", ErrAnswer)
	}
	if id.Kind() == 'n' {
		return nil, ErrNoNFT
	}
	return one(answer)
}

// one is a list of one NFT, or of none when it is null.
func one(value jsontext.Value) ([]NFT, error) {
	if value.Kind() == 'n' {
		return nil, ErrNoNFT
	}
	return understood([]jsontext.Value{value})
}

// member is a member of an object; false when there is none, or no object.
func member(value jsontext.Value, name string) (jsontext.Value, bool) {
	var members map[string]jsontext.Value
	if json.Unmarshal(value, &members) != nil {
		return nil, false
	}
	found, ok := members[name]
	return found, ok
}

func (r *Resolver) ask(ctx context.Context, wallet, what string, v any) error {
	return r.client.JSON(ctx, Request{
		Method: http.MethodGet, Path: []string{"api", "identity", "wallet", wallet, what},
	}, v)
}

func notFound(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Status == http.StatusNotFound
}
