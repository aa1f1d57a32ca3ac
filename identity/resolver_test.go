package identity_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"dixie/identity"
	"dixie/internal/fakefinn"
)

// newResolver asks a handler directly.
func newResolver(t *testing.T, finn http.Handler, config ...identity.ResolverConfig) *identity.Resolver {
	t.Helper()
	resolver := identity.NewResolver(newClient(t, finn), append(config, identity.ResolverConfig{})[0])
	t.Cleanup(resolver.Close)
	return resolver
}

var shapes = map[string]fakefinn.Shape{"lists": fakefinn.Lists, "objects": fakefinn.Objects, "names": fakefinn.Names}

// TestOwned: every shape of finn's answers tells the same.
func TestOwned(t *testing.T) {
	t.Parallel()
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			finn := fakefinn.New()
			finn.Change(func(b *fakefinn.Behaviour) { b.Shape = shape })
			finn.Give(alice, fakefinn.NFT{Collection: "mibera", Token: "42"})
			resolver := newResolver(t, finn)
			owned, err := resolver.Owned(t.Context(), alice, identity.Stale)
			if err != nil || len(owned) != 1 || owned[0].ID != "mibera:42" || owned[0].Collection != "mibera" {
				t.Errorf("alice: %+v, %v", owned, err)
			}
			for range 2 { // asked, and remembered
				if owned, err := resolver.Owned(t.Context(), bob, identity.Stale); !errors.Is(err, identity.ErrNoNFT) || errors.Is(err, identity.ErrUnavailable) {
					t.Errorf("bob: %+v, %v", owned, err)
				}
			}
			mine, err := resolver.ResolveOwnership(t.Context(), alice, "mibera:42", identity.Current)
			if err != nil || !mine.OwnedBy(alice) || mine.DelegatedTo(alice) {
				t.Errorf("alice's own: %+v, %v", mine, err)
			}
			for _, wallet := range []string{alice, bob} {
				if n, err := resolver.ResolveOwnership(t.Context(), wallet, "mibera:43", identity.Stale); !errors.Is(err, identity.ErrNoNFT) {
					t.Errorf("another NFT for %s: %+v, %v", wallet, n, err)
				}
			}
		})
	}
}

// TestAnyNFT: a wallet's second NFT counts like its first.
func TestAnyNFT(t *testing.T) {
	t.Parallel()
	finn := fakefinn.New()
	finn.Give(alice, fakefinn.NFT{Collection: "mibera", Token: "1"}, fakefinn.NFT{Collection: "honey", Token: "2"})
	resolver := newResolver(t, finn)
	for _, id := range []string{"mibera:1", "honey:2"} {
		if n, err := resolver.ResolveOwnership(t.Context(), alice, id, identity.Fresh); err != nil || n.ID != id {
			t.Errorf("%s: %+v, %v", id, n, err)
		}
	}
}

// TestDelegates: who is delegated an NFT is not its owner, however the address is
// spelled.
func TestDelegates(t *testing.T) {
	t.Parallel()
	shared := fakefinn.NFT{Collection: "mibera", Token: "42", Owner: strings.ToLower(alice), Delegates: []string{carol, strings.ToUpper(bob[:2]) + bob[2:]}}
	for _, name := range []string{"lists", "names"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			finn := fakefinn.New()
			finn.Change(func(b *fakefinn.Behaviour) { b.Shape = shapes[name] })
			finn.Give(alice, shared)
			finn.Give(bob, shared)
			resolver := newResolver(t, finn)
			n, err := resolver.ResolveOwnership(t.Context(), bob, "mibera:42", identity.Stale)
			if err != nil || n.OwnedBy(bob) || !n.DelegatedTo(bob) || !n.DelegatedTo(strings.ToLower(bob)) {
				t.Errorf("bob: %+v, %v", n, err)
			}
			n, err = resolver.ResolveOwnership(t.Context(), alice, "mibera:42", identity.Stale)
			if err != nil || !n.OwnedBy(alice) || n.DelegatedTo(alice) {
				t.Errorf("alice: %+v, %v", n, err)
			}
		})
	}
	finn := fakefinn.New()
	finn.Give(bob, shared)
	finn.Give(carol, fakefinn.NFT{Collection: "mibera", Token: "7", Owner: alice})
	resolver := newResolver(t, finn)
	for _, wallet := range []string{bob, carol} {
		if owned, err := resolver.Owned(t.Context(), wallet, identity.Stale); !errors.Is(err, identity.ErrNoNFT) {
			t.Errorf("%s owns %+v, %v", wallet, owned, err)
		}
	}
	if n, err := resolver.ResolveOwnership(t.Context(), carol, "mibera:7", identity.Stale); !errors.Is(err, identity.ErrNoNFT) {
		t.Errorf("carol is neither owner nor delegate: %+v, %v", n, err)
	}
}

// answering gives fixed answers by the last segment of the path, and 404 for
// others.
func answering(answers map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, text)
	}
}

// TestForms of what finn may write for an NFT. No digit of a token's number is
// lost.
func TestForms(t *testing.T) {
	t.Parallel()
	type forms []identity.NFT
	nft := func(id, collection string) identity.NFT { return identity.NFT{ID: id, Collection: collection} }
	const big = "115792089237316195423570985008687907853269984665640564039457584007913129639935"
	for answer, want := range map[string]forms{
		`[{"nftId":"mibera:42"}]`:                                                {nft("mibera:42", "mibera")},
		`[{"nftId":"a:b:42"}]`:                                                   {nft("a:b:42", "a:b")},
		`[{"nftId":"bear-1"}]`:                                                   {nft("bear-1", "")},
		`[{"nftId":"bear-1","collection":"honey"}]`:                              {nft("bear-1", "honey")},
		`[{"nftId":"bear-1","contractAddress":"0xc"}]`:                           {nft("bear-1", "0xc")},
		`[{"nftId":"mibera:42","contractAddress":"0xc","tokenId":42}]`:           {nft("mibera:42", "mibera")},
		`[{"nftId":"mibera:42","collection":"Mibera"}]`:                          {nft("mibera:42", "Mibera")},
		`[{"collection":"mibera","tokenId":"42","title":"x"}]`:                   {nft("mibera:42", "mibera")},
		`[{"collection":"mibera","tokenId":9007199254740993}]`:                   {nft("mibera:9007199254740993", "mibera")},
		`[{"contractAddress":"0xc","tokenId":` + big + `}]`:                      {nft("0xc:"+big, "0xc")},
		`[{"collection":"m","tokenId":42},{"collection":"m","tokenId":"43"}]`:    {nft("m:42", "m"), nft("m:43", "m")},
		`[{"nftId":7},{"nftId":"m:1"},5,{"collection":"m","tokenId":1.5},null]`:  {nft("m:1", "m")},
		`[{"collection":"m"},{"tokenId":1},{"nftId":""},{"nftId":"m:2"}]`:        {nft("m:2", "m")},
		`[{"nftId":"m:1","delegatedWallets":null,"ownerWallet":null,"more":{}}]`: {nft("m:1", "m")},
		`[{"collection":"m","tokenId":1e3},{"collection":"m","tokenId":"0x1f"}]`: nil,
		`[{"collection":"m","tokenId":-1},{"collection":"m","tokenId":""}]`:      nil,
		`[{"collection":"m","tokenId":1` + big + `}]`:                            nil,
	} {
		resolver := newResolver(t, answering(map[string]string{"nfts": `{"nfts":` + answer + `}`}))
		owned, err := resolver.Owned(t.Context(), alice, identity.Fresh)
		if want == nil {
			wantUnavailable(t, err)
			continue
		}
		if diff := cmp.Diff([]identity.NFT(want), owned); diff != "" || err != nil {
			t.Errorf("%s: error %v (-want +got):\n%s", answer, err, diff)
		}
	}
}

// TestNothing is what finn says of a wallet without an NFT, and [TestUnknown] what
// says nothing about it.
func TestNothing(t *testing.T) {
	t.Parallel()
	for _, answers := range []map[string]string{
		{},
		{"nfts": `{"nfts":[]}`},
		{"nft": `{"nft":null}`},
		{"nft": `{"nftId":null}`},
		{"nft": `{"nft":null}`, "ownership": `{"nftId":null,"ownerWallet":null,"delegatedWallets":[]}`},
	} {
		resolver := newResolver(t, answering(answers))
		if owned, err := resolver.Owned(t.Context(), alice, identity.Fresh); !errors.Is(err, identity.ErrNoNFT) {
			t.Errorf("%v: owned %+v, %v", answers, owned, err)
		}
		if n, err := resolver.ResolveOwnership(t.Context(), alice, "m:1", identity.Fresh); !errors.Is(err, identity.ErrNoNFT) {
			t.Errorf("%v: NFT %+v, %v", answers, n, err)
		}
	}
}

// unknown are handlers that say nothing about a wallet.
func unknown() map[string]http.Handler {
	handlers := map[string]http.Handler{
		"down": newFinn(fakefinn.Down), "failing": newFinn(fakefinn.Failing), "rubbish": newFinn(fakefinn.Rubbish), "slow": newFinn(fakefinn.Slow),
	}
	handlers["slow"].(*fakefinn.Server).Change(func(b *fakefinn.Behaviour) { b.Delay = time.Hour })
	for _, status := range []int{400, 401, 403, 429, 500, 502, 503, 302} {
		handlers[fmt.Sprint(status)] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
	}
	for name, text := range map[string]string{
		"empty": "", "null": "null", "text": `"no"`, "list": "[]", "object": "{}", "null list": `{"nfts":null}`,
		"other list": `{"nfts":{}}`, "strange": `{"nfts":[{}]}`, "half": `{"nfts":[`, "other name": `{"NFTs":[]}`,
		"long": `{"nfts":[],"x":"` + strings.Repeat("x", 1<<20) + `"}`,
	} {
		handlers["nfts "+name] = answering(map[string]string{"nfts": text})
	}
	for name, text := range map[string]string{
		"object": "{}", "number": `{"nft":7}`, "strange": `{"nft":{"title":"x"}}`, "id": `{"nftId":7}`, "text": "nft",
	} {
		handlers["nft "+name] = answering(map[string]string{"nft": text})
	}
	return handlers
}

// TestUnknown: what says nothing about a wallet is not taken for 'no NFT', and not
// remembered: the next who asks gets the truth.
func TestUnknown(t *testing.T) {
	t.Parallel()
	for name, away := range unknown() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var broken, well http.Handler = away, answering(map[string]string{"nfts": `{"nfts":[{"nftId":"m:1"}]}`})
				finn := broken
				resolver := newResolver(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { finn.ServeHTTP(w, r) }))
				for _, freshness := range []identity.Freshness{identity.Stale, identity.Fresh, identity.Current} {
					start := time.Now()
					_, err := resolver.Owned(t.Context(), alice, freshness)
					wantUnavailable(t, err)
					if waited := time.Since(start); waited > 10*time.Second {
						t.Errorf("waited %s", waited)
					}
				}
				finn = well
				if owned, err := resolver.Owned(t.Context(), alice, identity.Stale); err != nil || owned[0].ID != "m:1" {
					t.Errorf("finn is back: %+v, %v", owned, err)
				}
				finn = broken
				if n, err := resolver.ResolveOwnership(t.Context(), bob, "m:1", identity.Stale); !errors.Is(err, identity.ErrUnavailable) {
					if strings.HasPrefix(name, "nft") { // it has no such route, and none of another
						return
					}
					t.Errorf("ownership: %+v, %v", n, err)
				}
			})
		})
	}
}

// TestRemembered: what finn said holds for five minutes, and for one when it was
// nothing.
func TestRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		finn := fakefinn.New()
		finn.Give(alice, fakefinn.NFT{Collection: "m", Token: "1"})
		looked := map[string]int{}
		resolver := newResolver(t, finn, identity.ResolverConfig{Looked: func(result string) { looked[result]++ }})
		steps := []struct {
			sleep     time.Duration
			wallet    string
			freshness identity.Freshness
			asked     int
		}{
			{0, alice, identity.Fresh, 1},
			{0, strings.ToLower(alice), identity.Stale, 1},
			{0, "0x" + strings.ToUpper(alice[2:]), identity.Fresh, 1},
			{5*time.Minute - time.Second, alice, identity.Fresh, 1},
			{time.Second, alice, identity.Stale, 2},
			{0, alice, identity.Current, 3},
			{5*time.Minute - time.Second, alice, identity.Fresh, 3},
			{0, bob, identity.Fresh, 4},
			{time.Minute - time.Second, bob, identity.Stale, 4},
			{time.Second, bob, identity.Stale, 5},
			{0, bob, identity.Current, 6},
		}
		for i, step := range steps {
			time.Sleep(step.sleep)
			_, _ = resolver.Owned(t.Context(), step.wallet, step.freshness)
			if got := len(finn.Requests("/nfts")); got != step.asked {
				t.Errorf("step %d: asked %d times, want %d", i, got, step.asked)
			}
		}
		finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Down })
		time.Sleep(10 * time.Minute)
		_, _ = resolver.Owned(t.Context(), alice, identity.Stale)
		if diff := cmp.Diff(map[string]int{"hit": 5, "miss": 6, "stale": 1}, looked); diff != "" {
			t.Errorf("looked up (-want +got):\n%s", diff)
		}
	})
}

// TestStale: for an hour an old answer does for reads while finn is away, for
// nothing else, and only one that named an NFT.
func TestStale(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		finn := fakefinn.New()
		finn.Give(alice, fakefinn.NFT{Collection: "m", Token: "1"})
		resolver := newResolver(t, finn)
		for _, wallet := range []string{alice, bob} {
			_, _ = resolver.Owned(t.Context(), wallet, identity.Fresh)
		}
		finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Down })
		if _, err := resolver.Owned(t.Context(), alice, identity.Current); !errors.Is(err, identity.ErrUnavailable) {
			t.Errorf("a current answer while finn is away: %v", err)
		}
		time.Sleep(59 * time.Minute)
		if owned, err := resolver.Owned(t.Context(), alice, identity.Stale); err != nil || owned[0].ID != "m:1" {
			t.Errorf("a read: %+v, %v", owned, err)
		}
		if n, err := resolver.ResolveOwnership(t.Context(), alice, "m:1", identity.Stale); err != nil || n.ID != "m:1" {
			t.Errorf("a read of an NFT: %+v, %v", n, err)
		}
		_, err := resolver.ResolveOwnership(t.Context(), alice, "m:2", identity.Stale) // may be delegated
		wantUnavailable(t, err)
		_, err = resolver.ResolveOwnership(t.Context(), alice, "m:1", identity.Fresh)
		wantUnavailable(t, err)
		_, err = resolver.Owned(t.Context(), alice, identity.Fresh)
		wantUnavailable(t, err)
		_, err = resolver.Owned(t.Context(), bob, identity.Stale)
		wantUnavailable(t, err)
		time.Sleep(longer)
		finn.Change(func(b *fakefinn.Behaviour) { b.Trouble, b.Delay = fakefinn.Slow, time.Hour })
		hurry, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if owned, err := resolver.Owned(hurry, alice, identity.Stale); err != nil || owned[0].ID != "m:1" {
			t.Errorf("a read in a hurry: %+v, %v", owned, err)
		}
		time.Sleep(time.Minute)
		_, err = resolver.Owned(t.Context(), alice, identity.Stale)
		wantUnavailable(t, err)
	})
}

// TestLosing an NFT is believed at once, also for reads.
func TestLosing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		finn := fakefinn.New()
		finn.Give(alice, fakefinn.NFT{Collection: "m", Token: "1"})
		resolver := newResolver(t, finn)
		_, _ = resolver.Owned(t.Context(), alice, identity.Fresh)
		finn.Give(alice)
		if _, err := resolver.Owned(t.Context(), alice, identity.Current); !errors.Is(err, identity.ErrNoNFT) {
			t.Errorf("current: %v", err)
		}
		finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Down })
		time.Sleep(2 * time.Minute)
		_, err := resolver.Owned(t.Context(), alice, identity.Stale)
		wantUnavailable(t, err)
	})
}

// TestTogether: those who ask for a wallet at the same time are one question, and
// one who leaves takes the answer from nobody.
func TestTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		finn := newFinn(fakefinn.Slow)
		finn.Change(func(b *fakefinn.Behaviour) { b.Delay = time.Second })
		finn.Give(alice, fakefinn.NFT{Collection: "m", Token: "1"})
		resolver := newResolver(t, finn)
		first, leave := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		asking.Go(func() {
			if _, err := resolver.Owned(first, alice, identity.Fresh); !errors.Is(err, context.Canceled) {
				t.Errorf("who left: %v", err)
			}
		})
		synctest.Wait()
		for i := range 50 {
			asking.Go(func() {
				wallet := []string{alice, strings.ToLower(alice)}[i%2]
				if owned, err := resolver.Owned(t.Context(), wallet, identity.Current); err != nil || owned[0].ID != "m:1" {
					t.Errorf("who stayed: %+v, %v", owned, err)
				}
			})
		}
		synctest.Wait()
		leave()
		asking.Wait()
		if n := len(finn.Requests("")); n != 1 {
			t.Errorf("finn was asked %d times", n)
		}
	})
}

// TestBounded: the least recently used wallet is forgotten.
func TestBounded(t *testing.T) {
	t.Parallel()
	finn := fakefinn.New()
	resolver := newResolver(t, finn, identity.ResolverConfig{Wallets: 2})
	for _, wallet := range []string{alice, bob, alice, carol, alice, bob} {
		_, _ = resolver.Owned(t.Context(), wallet, identity.Fresh)
	}
	if n := len(finn.Requests("/nfts")); n != 4 {
		t.Errorf("finn was asked %d times, want 4: alice, bob, carol and bob again", n)
	}
}

// TestWallets: only an address gets as far as finn.
func TestWallets(t *testing.T) {
	t.Parallel()
	finn := fakefinn.New()
	resolver := newResolver(t, finn)
	for _, wallet := range []string{
		"", "0x", "alice", alice[2:], alice[:41], alice + "0", alice[:41] + "g", "../../admin", "0x/../../../../health?" + strings.Repeat("a", 20),
		alice[:38] + "\r\n: ", "0X" + alice[2:], "0x" + strings.Repeat("é", 20), alice[:40] + "%2",
	} {
		if _, err := resolver.Owned(t.Context(), wallet, identity.Fresh); !errors.Is(err, identity.ErrWallet) {
			t.Errorf("%q: %v", wallet, err)
		}
		if _, err := resolver.ResolveOwnership(t.Context(), wallet, "m:1", identity.Fresh); !errors.Is(err, identity.ErrWallet) {
			t.Errorf("%q: %v", wallet, err)
		}
	}
	if n := len(finn.Requests("")); n != 0 {
		t.Errorf("finn was asked %d times", n)
	}
}

// TestClose ends what is under way and asks nothing more.
func TestClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		finn := newFinn(fakefinn.Slow)
		finn.Change(func(b *fakefinn.Behaviour) { b.Delay = time.Hour })
		resolver := newResolver(t, finn)
		start := time.Now()
		var asking sync.WaitGroup
		asking.Go(func() {
			_, err := resolver.Owned(t.Context(), alice, identity.Fresh)
			wantUnavailable(t, err)
		})
		synctest.Wait()
		resolver.Close()
		asking.Wait()
		_, err := resolver.Owned(t.Context(), bob, identity.Fresh)
		wantUnavailable(t, err)
		if waited := time.Since(start); waited != 0 || len(finn.Requests("")) != 1 {
			t.Errorf("closed after %s and %d requests", waited, len(finn.Requests("")))
		}
	})
}

// FuzzResolver: whatever finn says, the answer is NFTs with ids, none, or unknown.
func FuzzResolver(f *testing.F) {
	f.Add(`{"nfts":[{"nftId":"m:1","ownerWallet":"`+alice+`","delegatedWallets":["`+bob+`"]}]}`, `{"nftId":"m:1"}`)
	f.Add(`{"nfts":[{"collection":"m","tokenId":9007199254740993}]}`, `{}`)
	f.Add(`{"nft":{"collection":"m","tokenId":"1"}}`, `{"nftId":null}`)
	f.Add(`[]`, `null`)
	f.Fuzz(func(t *testing.T, nfts, other string) {
		for _, route := range []string{"nfts", "nft"} {
			resolver := newResolver(t, answering(map[string]string{route: nfts, "ownership": other}))
			owned, err := resolver.Owned(t.Context(), alice, identity.Fresh)
			switch {
			case err == nil && len(owned) == 0:
				t.Error("nothing is owned, without ErrNoNFT")
			case err != nil && !errors.Is(err, identity.ErrNoNFT) && !errors.Is(err, identity.ErrUnavailable):
				t.Errorf("error %v", err)
			}
			for _, n := range owned {
				if n.ID == "" || !n.OwnedBy(alice) {
					t.Errorf("owned %+v", n)
				}
			}
			n, err := resolver.ResolveOwnership(t.Context(), alice, "m:1", identity.Fresh)
			if err == nil && (n.ID != "m:1" || !n.OwnedBy(alice) && !n.DelegatedTo(alice)) {
				t.Errorf("ownership %+v", n)
			}
		}
	})
}
