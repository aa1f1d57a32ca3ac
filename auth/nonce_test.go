package auth_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/auth"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

// TestNonceStores checks what the comments on NonceStore promise. open returns two
// replicas' views of one empty store.
func TestNonceStores(t *testing.T) {
	t.Parallel()
	stores := map[string]func(*testing.T) [2]auth.NonceStore{
		"memory": func(*testing.T) [2]auth.NonceStore {
			m := &auth.MemoryNonces{}
			return [2]auth.NonceStore{m, m}
		},
		"postgres": func(t *testing.T) [2]auth.NonceStore {
			url := pgtest.URL(t)
			return [2]auth.NonceStore{auth.NewPostgresNonces(poolOf(t, url)), auth.NewPostgresNonces(poolOf(t, url))}
		},
	}
	tests := map[string]func(*testing.T, [2]auth.NonceStore){
		"once": testUsedOnce, "expiry": testNonceExpires, "concurrent": testConcurrentUse, "many at once": testManyAtOnce, "expired at once": testConcurrentReuse,
	}
	for name, open := range stores {
		for what, test := range tests {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				test(t, open(t))
			})
		}
	}
}

func poolOf(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func wantUse(t *testing.T, store auth.NonceStore, nonce string, now, until time.Time, want bool) {
	t.Helper()
	if free, err := store.Use(t.Context(), nonce, now, until); err != nil || free != want {
		t.Errorf("nonce %s at %s: %t, %v; want %t", nonce, now.Format(time.RFC3339Nano), free, err, want)
	}
}

func testUsedOnce(t *testing.T, stores [2]auth.NonceStore) {
	until := now.Add(time.Minute)
	wantUse(t, stores[0], "nonce0001", now, until, true)
	wantUse(t, stores[0], "nonce0001", now, until, false)
	wantUse(t, stores[1], "nonce0001", now, until.Add(time.Hour), false)
	wantUse(t, stores[1], "NONCE0001", now, until, true)
	wantUse(t, stores[0], strings.Repeat("9", 128), now, until, true)
	wantUse(t, stores[1], strings.Repeat("9", 128), now, until, false)
}

// testNonceExpires: to the microsecond, which is what PostgreSQL keeps.
func testNonceExpires(t *testing.T, stores [2]auth.NonceStore) {
	start := now.Truncate(time.Microsecond)
	until := start.Add(time.Minute)
	wantUse(t, stores[0], "nonce0001", start, until, true)
	wantUse(t, stores[0], "other0001", start, until.Add(time.Hour), true)
	wantUse(t, stores[1], "nonce0001", until.Add(-time.Microsecond), until.Add(time.Hour), false)
	wantUse(t, stores[1], "nonce0001", until, until.Add(time.Minute), true)
	wantUse(t, stores[0], "nonce0001", until, until.Add(time.Minute), false)
	wantUse(t, stores[0], "nonce0001", until.Add(time.Minute-time.Microsecond), until.Add(time.Hour), false)
	wantUse(t, stores[0], "nonce0001", until.Add(time.Minute), until.Add(time.Hour), true)
	wantUse(t, stores[0], "other0001", until.Add(time.Minute), until.Add(2*time.Hour), false)
}

// race has n callers use a nonce at the same time, and returns how many were
// told that it was free.
func race(t *testing.T, stores [2]auth.NonceStore, nonce string, n int, now, until time.Time) int64 {
	t.Helper()
	var free atomic.Int64
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-start
			ok, err := stores[i%2].Use(t.Context(), nonce, now, until)
			if err != nil {
				t.Error(err)
			}
			if ok {
				free.Add(1)
			}
		})
	}
	close(start)
	group.Wait()
	return free.Load()
}

func testConcurrentUse(t *testing.T, stores [2]auth.NonceStore) {
	for i := range 20 {
		if n := race(t, stores, fmt.Sprint("nonce", i), 32, now, now.Add(time.Minute)); n != 1 {
			t.Errorf("%d of 32 were told that the nonce is free", n)
		}
	}
}

// testConcurrentReuse: of those who come when a nonce has expired, while others
// remove it in passing, one gets it.
func testConcurrentReuse(t *testing.T, stores [2]auth.NonceStore) {
	at := now
	for range 20 {
		if n := race(t, stores, "nonce0001", 32, at, at.Add(time.Minute)); n != 1 {
			t.Errorf("%d of 32 were told that the nonce is free", n)
		}
		at = at.Add(time.Minute)
	}
}

// testManyAtOnce: callers with nonces of their own do not stand in each other's way.
func testManyAtOnce(t *testing.T, stores [2]auth.NonceStore) {
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			for j := range 30 {
				at := now.Add(time.Duration(j) * time.Minute)
				nonce := fmt.Sprint("nonce", i, "x", j)
				if free, err := stores[i%2].Use(t.Context(), nonce, at, at.Add(90*time.Second)); err != nil || !free {
					t.Errorf("%s: %t, %v", nonce, free, err)
				}
			}
		})
	}
	group.Wait()
}

// TestPostgresNoncesStaySmall: expired nonces go as others come, so the table is
// as large as what has to be remembered.
func TestPostgresNoncesStaySmall(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	store := auth.NewPostgresNonces(pool)
	if _, err := pool.Exec(t.Context(), `
		INSERT INTO signin_nonces SELECT 'expired' || n, $1::timestamptz - n * interval '1 second' FROM generate_series(0, 99) n
		UNION ALL SELECT 'kept' || n, $1::timestamptz + interval '1 minute' FROM generate_series(1, 10) n`, now); err != nil {
		t.Fatal(err)
	}
	count := func() (expired, kept int) {
		if err := pool.QueryRow(t.Context(), `
			SELECT count(*) FILTER (WHERE expires_at <= $1), count(*) FILTER (WHERE expires_at > $1) FROM signin_nonces`, now).Scan(&expired, &kept); err != nil {
			t.Fatal(err)
		}
		return expired, kept
	}
	for i := range 10 {
		wantUse(t, store, fmt.Sprint("nonce", i), now, now.Add(time.Minute), true)
		if expired, _ := count(); i == 0 && expired == 0 {
			t.Error("one call removes all, however many there are")
		}
	}
	if expired, kept := count(); expired != 0 || kept != 20 {
		t.Errorf("%d expired nonces are left, and %d others", expired, kept)
	}
}

// TestPostgresNoncesDoNotWait: whoever is at an expired nonce holds up nobody who
// comes with another.
func TestPostgresNoncesDoNotWait(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t)
	store := auth.NewPostgresNonces(pool)
	wantUse(t, store, "expired1", now, now.Add(time.Second), true)
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := tx.Exec(t.Context(), `SELECT FROM signin_nonces FOR UPDATE`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	later := now.Add(time.Minute)
	if free, err := store.Use(ctx, "another1", later, later.Add(time.Minute)); !free || err != nil {
		t.Errorf("%t, %v", free, err)
	}
}

// TestPostgresNoncesUnavailable: the error says that trying again can help.
func TestPostgresNoncesUnavailable(t *testing.T) {
	t.Parallel()
	pool := poolOf(t, pgtest.URL(t))
	pool.Close()
	if free, err := auth.NewPostgresNonces(pool).Use(t.Context(), "nonce0001", now, now.Add(time.Minute)); free || !errors.Is(err, reputation.ErrUnavailable) {
		t.Errorf("%t, %v", free, err)
	}
}

// TestMemoryNoncesBounded: they refuse rather than forget, and have room again
// when old ones have expired.
func TestMemoryNoncesBounded(t *testing.T) {
	t.Parallel()
	var store auth.MemoryNonces
	use := func(nonce string, at time.Time) (bool, error) {
		return store.Use(t.Context(), nonce, at, at.Add(time.Minute))
	}
	for i := range auth.MaxMemoryNonces {
		if free, err := use(fmt.Sprint("nonce", i), now); err != nil || !free {
			t.Fatalf("nonce %d: %t, %v", i, free, err)
		}
	}
	for _, later := range []time.Duration{0, time.Second, 59 * time.Second} {
		if free, err := use("one more", now.Add(later)); free || !errors.Is(err, reputation.ErrUnavailable) {
			t.Errorf("after %s one more: %t, %v", later, free, err)
		}
		if free, err := use("nonce0", now.Add(later)); free || err != nil {
			t.Errorf("after %s the first: %t, %v", later, free, err)
		}
	}
	if free, err := use("one more", now.Add(time.Minute)); !free || err != nil {
		t.Errorf("after all have expired: %t, %v", free, err)
	}
}

var serverNonceForm = regexp.MustCompile(`^[0-9A-Za-z]{39}$`)

func newNonce(t testing.TB, s *auth.SignIn) string {
	t.Helper()
	nonce, err := s.NewNonce(t.Context())
	if err != nil || !serverNonceForm.MatchString(nonce) {
		t.Fatalf("nonce %q, %v", nonce, err)
	}
	return nonce
}

func TestServerNoncesDiffer(t *testing.T) {
	t.Parallel()
	s := newSignIn(t)
	seen := map[string]bool{}
	for range 1000 {
		nonce := newNonce(t, s)
		if seen[nonce] {
			t.Fatalf("%s again", nonce)
		}
		seen[nonce] = true
	}
}

func serverNonces(c *auth.SignInConfig) {
	c.RequireServerNonce, c.NonceKey = true, []byte(strings.Repeat("k", 32))
}

func present(t testing.TB, name string, s *auth.SignIn, issued time.Time, nonce string, want error) {
	t.Helper()
	message := messageOf(alice, withNonce(nonce), func(m *auth.Message) { m.IssuedAt = reputation.TimestampOf(issued) })
	wantSignIn(t, name, s, message, hexOf(alice.sign(message)), want)
}

// TestServerNonce: issued by one replica, used once at another.
func TestServerNonce(t *testing.T) {
	t.Parallel()
	nonces := &auth.MemoryNonces{}
	shared := func(c *auth.SignInConfig) { c.Nonces = nonces }
	one, two := newSignIn(t, serverNonces, shared), newSignIn(t, serverNonces, shared)
	nonce := newNonce(t, one)
	present(t, "first", two, signInTime, nonce, nil)
	present(t, "again", one, signInTime, nonce, auth.ErrSignInReplayed)
	present(t, "another", one, signInTime, newNonce(t, two), nil)
	present(t, "of a client", one, signInTime, "k7Qw2Zt9Lm4Xb8Rc", auth.ErrSignInReplayed)
	// Where it is not required, a server nonce is as good as any.
	present(t, "not required", newSignIn(t), signInTime, newNonce(t, one), nil)
}

// TestServerNonceTimes: a nonce can be used for less than five minutes.
func TestServerNonceTimes(t *testing.T) {
	t.Parallel()
	nonce := newNonce(t, newSignIn(t, serverNonces))
	for later, want := range map[time.Duration]error{
		0: nil, time.Minute: nil, 5*time.Minute - 1: nil, 5 * time.Minute: auth.ErrSignInReplayed, time.Hour: auth.ErrSignInReplayed,
		-time.Minute: nil, -time.Minute - 1: auth.ErrSignInReplayed, // of a replica whose clock is ahead
	} {
		now := signInTime.Add(later)
		present(t, later.String(), newSignIn(t, serverNonces, at(now)), now, nonce, want)
	}
}

// TestForgedServerNonce: nobody makes one without the key.
func TestForgedServerNonce(t *testing.T) {
	t.Parallel()
	s := newSignIn(t, serverNonces)
	nonce := newNonce(t, s)
	forged := []string{
		newNonce(t, newSignIn(t)), newNonce(t, newSignIn(t, func(c *auth.SignInConfig) { c.NonceKey = []byte(strings.Repeat("j", 32)) })),
		strings.Repeat("0", 39), strings.Repeat("Z", 39), strings.Repeat("0", 38), strings.Repeat("z", 128), nonce[:38], nonce + "0", "0" + nonce, "00000000",
	}
	for i := range nonce {
		for _, c := range []byte("09azAZ") {
			if nonce[i] != c {
				forged = append(forged, nonce[:i]+string(c)+nonce[i+1:])
			}
		}
	}
	for _, text := range forged {
		present(t, text, s, signInTime, text, auth.ErrSignInReplayed)
	}
	present(t, "none of these", s, signInTime, nonce, nil)
}

// FuzzServerNonce: whatever a message has for a nonce, nothing panics and nothing
// that was not issued is accepted.
func FuzzServerNonce(f *testing.F) {
	s := newSignIn(f, serverNonces)
	f.Add(newNonce(f, newSignIn(f)))
	f.Add(strings.Repeat("0", 39))
	f.Add(strings.Repeat("z", 39))
	f.Add("-" + strings.Repeat("0", 38))
	f.Add("k7Qw2Zt9Lm4Xb8Rc")
	f.Fuzz(func(t *testing.T, nonce string) {
		message := messageOf(alice, withNonce(nonce))
		// The nonce is looked at before the signature.
		_, err := s.Verify(t.Context(), message, hexOf(make([]byte, 65)))
		if errors.Is(err, auth.ErrSignInSignature) {
			t.Errorf("nonce %q is taken for one of ours", nonce)
		}
	})
}
