package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

// memo remembers the answers to one question about wallets.
type memo struct {
	ask    func(ctx context.Context, wallet string) ([]NFT, error)
	looked func(result string)
	known  *lru.Cache[string, answer] // by the wallet in lower case
	calls  singleflight.Group

	base    context.Context // ends look-ups
	stop    context.CancelFunc
	mu      sync.Mutex // guards closed, and running against it
	closed  bool
	running sync.WaitGroup
}

// answer is what finn said: some NFTs, or none.
type answer struct {
	nfts []NFT
	at   time.Time
}

func newMemo(c ResolverConfig, ask func(context.Context, string) ([]NFT, error)) *memo {
	known, err := lru.New[string, answer](c.Wallets)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	m := &memo{ask: ask, looked: c.Looked, known: known}
	m.base, m.stop = context.WithCancel(context.Background())
	return m
}

// get is the answer for a wallet: NFTs, [ErrNoNFT] or [ErrUnavailable].
func (m *memo) get(ctx context.Context, wallet string, f Freshness) ([]NFT, error) {
	if !validWallet(wallet) {
		return nil, fmt.Errorf("%w, found %.50q", ErrWallet, wallet)
	}
	key := strings.ToLower(wallet)
	if known, ok := m.known.Get(key); ok && f != Current && known.fresh() {
		m.looked("hit")
		return known.result()
	}
	nfts, err := m.look(ctx, key, wallet)
	if f == Stale && err != nil && !errors.Is(err, ErrNoNFT) {
		if known, ok := m.known.Get(key); ok && known.usable() {
			m.looked("stale")
			return known.result()
		}
	}
	m.looked("miss")
	return nfts, err
}

func (a answer) fresh() bool {
	life := ownedLife
	if len(a.nfts) == 0 {
		life = nothingLife
	}
	return time.Since(a.at) < life
}

// usable reports whether an answer is better than none. That a wallet owned
// nothing is not: it may since have got something.
func (a answer) usable() bool { return len(a.nfts) > 0 && time.Since(a.at) < staleLife }

func (a answer) result() ([]NFT, error) {
	if len(a.nfts) == 0 {
		return nil, ErrNoNFT
	}
	return a.nfts, nil
}

// look asks finn, together with whoever asks for the same wallet.
func (m *memo) look(ctx context.Context, key, wallet string) ([]NFT, error) {
	looking := m.calls.DoChan(key, func() (any, error) { return m.answer(ctx, key, wallet) })
	select {
	case result := <-looking:
		nfts, _ := result.Val.([]NFT)
		return nfts, result.Err
	case <-ctx.Done():
		return nil, fmt.Errorf("look up a wallet: %w", ctx.Err())
	}
}

// answer asks finn and remembers what it says. Nobody's leaving ends it, only
// close does, and the client's timeout.
func (m *memo) answer(ctx context.Context, key, wallet string) ([]NFT, error) {
	if !m.begin() {
		return nil, fmt.Errorf("%w: shutting down", ErrUnavailable)
	}
	defer m.running.Done()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(m.base, cancel)()
	nfts, err := m.ask(ctx, wallet)
	switch {
	case err == nil, errors.Is(err, ErrNoNFT):
		m.known.Add(key, answer{nfts: nfts, at: time.Now()})
	case !errors.Is(err, ErrUnavailable):
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nfts, err
}

func (m *memo) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.running.Add(1)
	return true
}

func (m *memo) close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.stop()
	m.running.Wait()
}
