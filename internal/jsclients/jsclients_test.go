// Package jsclients_test signs in with the JavaScript libraries that sites use.
// What they send is also in auth/testdata, so the tests of auth need no node.
package jsclients_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dixie/auth"
)

// scripts are what node needs beside the packages.
var scripts = []string{"package.json", "package-lock.json", "clients.mjs", "signed.mjs", "verdicts.mjs", "signin.mjs"}

// TestClients leaves out what it is for where there is no node.
func TestClients(t *testing.T) {
	t.Parallel()
	dir := install(t)
	if dir == "" {
		return
	}
	// What auth is tested with is what the clients say today.
	for _, name := range []string{"signed", "verdicts"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(filepath.Join("../../auth/testdata/siwe", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if got := node(t, dir, name+".mjs"); got != string(want) {
				t.Errorf("auth/testdata/siwe/%[1]s.json is not what node %[1]s.mjs writes", name)
			}
		})
	}
	t.Run("sign in", func(t *testing.T) {
		t.Parallel()
		server := serve(t, strings.Fields(node(t, dir, "signin.mjs", "--wallets")))
		t.Log(node(t, dir, "signin.mjs", server, "https://dixie.example"))
	})
}

// install installs the packages in a directory of the test, from the registry or
// from npm's cache. It returns none where it cannot, which on CI it must.
func install(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Logf("left out, as there is no %s", program)
			return ""
		}
	}
	dir := t.TempDir()
	for _, name := range scripts {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	npm.Dir = dir
	out, err := npm.CombinedOutput()
	switch {
	case err == nil:
		return dir
	case os.Getenv("CI") != "":
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	t.Logf("left out, as npm ci cannot install the packages: %v\n%s", err, out)
	return ""
}

// node runs a script and returns what it prints.
func node(t *testing.T, dir string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

// serve serves what signing in needs.
func serve(t *testing.T, wallets []string) string {
	t.Helper()
	key, err := auth.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := auth.NewTokens(auth.TokenConfig{PrivateKey: key.Private})
	if err != nil {
		t.Fatal(err)
	}
	signIn, err := auth.NewSignIn(auth.SignInConfig{
		Domains: []string{"dixie.example"}, Chains: []uint64{1}, Nonces: &auth.MemoryNonces{}, RequireServerNonce: true,
		Admits: func(a auth.Address) bool { return strings.Contains(strings.Join(wallets, " "), a.String()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, status int, v any) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("GET /api/auth/nonce", func(w http.ResponseWriter, r *http.Request) {
		nonce, _ := signIn.NewNonce(r.Context())
		reply(w, 200, map[string]string{"nonce": nonce})
	})
	mux.HandleFunc("POST /api/auth/siwe", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Message, Signature string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		wallet, err := signIn.Verify(r.Context(), body.Message, body.Signature)
		if err != nil {
			status := 401
			if strings.HasPrefix(err.Error(), "message") || strings.HasPrefix(err.Error(), "domain") {
				status = 400
			}
			reply(w, status, map[string]string{"error": err.Error()})
			return
		}
		token, _, _ := tokens.Issue(wallet, time.Now())
		reply(w, 200, map[string]string{"token": token, "wallet": wallet.String(), "expiresIn": "1h"})
	})
	mux.HandleFunc("GET /api/auth/verify", func(w http.ResponseWriter, r *http.Request) {
		claims, err := tokens.Verify(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), time.Now())
		if err != nil {
			reply(w, 401, map[string]string{"error": err.Error()})
			return
		}
		reply(w, 200, map[string]any{"wallet": claims.Wallet.String(), "role": claims.Role, "exp": claims.ExpiresAt.Unix()})
	})
	mux.HandleFunc("GET /api/auth/.well-known/jwks.json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(tokens.JWKS()) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}
