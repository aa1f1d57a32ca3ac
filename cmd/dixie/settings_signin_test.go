package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// parseSignIn reads the settings as serve does.
func parseSignIn(t *testing.T, args ...string) signInSettings {
	t.Helper()
	var s signInSettings
	parser, err := kong.New(&s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(args); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignInSettings(t *testing.T) {
	t.Parallel()
	s := parseSignIn(t, "--siwe-domains=dixie.example,http://localhost:3001", "--siwe-chains=1,8453")
	if !slices.Equal(s.Domains, []string{"dixie.example", "http://localhost:3001"}) || !slices.Equal(s.Chains, []uint64{1, 8453}) {
		t.Errorf("settings %+v", s)
	}
	if s := parseSignIn(t); len(s.Domains) != 0 || !slices.Equal(s.Chains, []uint64{1}) || s.RequireServerNonce {
		t.Errorf("defaults %+v", s)
	}
}

// TestSignInDomains: the origins of CORS are the sites unless there is a list.
func TestSignInDomains(t *testing.T) {
	t.Parallel()
	if _, err := parseSignIn(t).open(signInParts{Origins: []string{"https://app.example"}}); err != nil {
		t.Error(err)
	}
	if _, err := parseSignIn(t, "--siwe-domains=dixie.example").open(signInParts{Origins: []string{"*"}}); err != nil {
		t.Error(err)
	}
	if _, err := parseSignIn(t).open(signInParts{Origins: []string{"*"}}); err == nil || !strings.Contains(err.Error(), `"*"`) || !strings.Contains(err.Error(), "DIXIE_SIWE_DOMAINS") {
		t.Errorf("error %v", err)
	}
	if _, err := parseSignIn(t).open(signInParts{}); err == nil {
		t.Error("no site is needed")
	}
}

// TestNonceKey: replicas with the same token key agree, others do not, and the
// token key itself is not given away.
func TestNonceKey(t *testing.T) {
	t.Parallel()
	key := func(secret string) string {
		k, err := nonceKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		return string(k)
	}
	one := strings.Repeat("secret", 8)
	if a, b := key(one), key(one); a != b || len(a) != 32 || strings.Contains(a, one) {
		t.Errorf("keys %x and %x", a, b)
	}
	if key(one) == key(one+"2") {
		t.Error("different secrets have the same key")
	}
	if key("-----BEGIN\nsecret\n") != key(`-----BEGIN\nsecret`) {
		t.Error("the spelling of line feeds counts")
	}
	if key("") != "" {
		t.Error("a key of nothing")
	}
}

func TestContractNodeSettings(t *testing.T) {
	t.Parallel()
	s := parseSignIn(t, "--siwe-domains=dixie.example", "--siwe-rpc-urls=1=https://node.example/a?b=c,8453=http://localhost:8545")
	if s.Nodes[1] != "https://node.example/a?b=c" || s.Nodes[8453] != "http://localhost:8545" || len(s.Nodes) != 2 {
		t.Errorf("nodes %v", s.Nodes)
	}
	if _, err := s.open(signInParts{}); err != nil {
		t.Error(err)
	}
	s = parseSignIn(t, "--siwe-domains=dixie.example", "--siwe-rpc-urls=1=node.example/secret")
	if _, err := s.open(signInParts{}); err == nil || !strings.Contains(err.Error(), "siwe-rpc-urls") || strings.Contains(err.Error(), "secret") {
		t.Errorf("error %v", err)
	}
}
