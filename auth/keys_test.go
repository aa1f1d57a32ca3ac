package auth_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dixie/auth"
)

var now = time.Date(2026, 2, 25, 12, 0, 0, 123456789, time.FixedZone("CET", 3600))

var secretForm = regexp.MustCompile(`^dxk_[A-Za-z0-9_-]{43}$`)

func TestNewKey(t *testing.T) {
	t.Parallel()
	scopes := []auth.Scope{auth.ScopeRead, auth.ScopeAppend}
	secret, key := auth.NewKey("bear", scopes, now)
	if !secretForm.MatchString(secret) {
		t.Errorf("secret %q", secret)
	}
	random, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(secret, auth.KeyPrefix))
	if err != nil || len(random) != 32 {
		t.Errorf("%d random bytes, %v", len(random), err)
	}
	want := auth.Key{Name: "bear", Hash: key.Hash, Scopes: scopes, CreatedAt: time.Date(2026, 2, 25, 11, 0, 0, 0, time.UTC)}
	if diff := cmp.Diff(want, key); diff != "" {
		t.Errorf("key (-want +got):\n%s", diff)
	}
	if err := auth.CheckSecret(secret); err != nil {
		t.Errorf("a new key is refused: %v", err)
	}
}

func TestNewKeysDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 1000 {
		secret, key := auth.NewKey("bear", nil, now)
		if seen[secret] || seen[key.Hash] {
			t.Fatalf("%s again", secret)
		}
		seen[secret], seen[key.Hash] = true, true
	}
}

// TestKeyOf: other programs make keys too, with any SHA-256.
func TestKeyOf(t *testing.T) {
	t.Parallel()
	const want = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" // FIPS 180-2, B.1
	if got := auth.KeyOf("a", "abc", nil, now).Hash; got != want {
		t.Errorf("hash %s", got)
	}
}

func TestCheckSecret(t *testing.T) {
	t.Parallel()
	for secret, ok := range map[string]bool{
		"dxk_0123456789abcdef":  true,
		"dxk_0123456789abcde":   false,
		"dxk_":                  false,
		"":                      false,
		"0123456789abcdef01234": false,
		"DXK_0123456789abcdef":  false,
	} {
		if err := auth.CheckSecret(secret); (err == nil) != ok {
			t.Errorf("%q: %v", secret, err)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	one, first := auth.NewKey("one", []auth.Scope{auth.ScopeRead}, now)
	two, second := auth.NewKey("two", []auth.Scope{auth.ScopeAdmin}, now)
	keys := auth.NewKeys(first)
	keys.Add(second)
	for secret, want := range map[string]auth.Key{one: first, two: second} {
		// The outcome is the same however often one asks.
		for range 3 {
			got, err := keys.Find(secret)
			if err != nil || !cmp.Equal(got, want) {
				t.Errorf("found %v, %v; want %v", got, err, want)
			}
		}
	}
	unknown, stranger := auth.NewKey("one", nil, now)
	for _, secret := range []string{unknown, stranger.Hash, first.Hash, "", one[:len(one)-1], one + " ", strings.ToUpper(one), strings.TrimPrefix(one, auth.KeyPrefix)} {
		if got, err := keys.Find(secret); !errors.Is(err, auth.ErrUnknownKey) || !cmp.Equal(got, auth.Key{}) {
			t.Errorf("%q is found: %v, %v", secret, got, err)
		}
	}
	if n := keys.Len(); n != 2 {
		t.Errorf("%d keys", n)
	}
}

func TestNoKeys(t *testing.T) {
	t.Parallel()
	var zero auth.Keys
	for _, keys := range []*auth.Keys{&zero, auth.NewKeys()} {
		if _, err := keys.Find(""); !errors.Is(err, auth.ErrUnknownKey) || keys.Len() != 0 {
			t.Errorf("%v, %d keys", err, keys.Len())
		}
	}
}

// TestKeysAreCopied: whoever made the set cannot change it behind its back.
func TestKeysAreCopied(t *testing.T) {
	t.Parallel()
	secret, key := auth.NewKey("a", nil, now)
	given := []auth.Key{key}
	keys := auth.NewKeys(given...)
	given[0] = auth.Key{}
	if _, err := keys.Find(secret); err != nil {
		t.Error(err)
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	var keys auth.Keys
	var group sync.WaitGroup
	for n := range 8 {
		group.Go(func() {
			for i := range 20 {
				secret, key := auth.NewKey(fmt.Sprint(n, i), nil, now)
				keys.Add(key)
				if found, err := keys.Find(secret); err != nil || found.Name != key.Name {
					t.Errorf("%v, %v", found, err)
				}
			}
		})
	}
	group.Wait()
	if n := keys.Len(); n != 160 {
		t.Errorf("%d keys", n)
	}
}

func TestParseScopes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		list string
		want []auth.Scope // nil when refused
	}{
		{"read", []auth.Scope{"read"}},
		{"read,append,admin", []auth.Scope{"read", "append", "admin"}},
		{" admin ,\tread", []auth.Scope{"admin", "read"}},
		{"read,read,append,read", []auth.Scope{"read", "append"}},
		{"", nil},
		{",", nil},
		{"read,", nil},
		{"READ", nil},
		{"read append", nil},
		{"read,write", nil},
		{"*", nil},
	}
	for _, tt := range tests {
		got, err := auth.ParseScopes(tt.list)
		if !cmp.Equal(got, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("%q: %v, %v; want %v", tt.list, got, err, tt.want)
		}
	}
}
