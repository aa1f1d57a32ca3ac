package main_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"dixie/auth"
)

const wallet = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"

// A key that keygen writes is for its owner alone, signs tokens, and is not written
// over.
func TestKeygen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "private.pem")
	public := mustCLI(t, nil, "keygen", "--out", path)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	private, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kid := regexp.MustCompile(`^kid: ([\w-]{43})\n-----BEGIN PUBLIC KEY-----`).FindStringSubmatch(public)
	if kid == nil || strings.Contains(public, "PRIVATE") {
		t.Fatalf("keygen says %s", public)
	}
	token := strings.TrimSpace(mustCLI(t, []string{"DIXIE_JWT_PRIVATE_KEY=" + string(private), "DIXIE_JWT_KID=" + kid[1]}, "token", "--wallet", strings.ToLower(wallet)))
	// What keygen printed is what another server takes as a previous key.
	verifier, err := auth.NewTokens(auth.TokenConfig{PrivateKey: strings.Repeat("x", 32), PreviousKeys: public})
	if err != nil {
		t.Fatal(err)
	}
	if claims, err := verifier.Verify(token, time.Now()); err != nil || claims.Wallet.String() != wallet {
		t.Errorf("claims %+v, %v", claims, err)
	}
	if _, stderr, err := cli(t, nil, "keygen", "--out", path); err == nil || !strings.Contains(stderr, "exists") {
		t.Errorf("the key is written over: %v, %s", err, stderr)
	}
	stdout, stderr, err := cli(t, nil, "keygen")
	if err != nil || !strings.HasPrefix(stdout, "-----BEGIN PRIVATE KEY-----\n") || strings.Contains(stderr, "PRIVATE") || !strings.HasPrefix(stderr, "kid: ") {
		t.Errorf("keygen prints %s and %s, %v", stdout, stderr, err)
	}
}

// A key as openssl writes it gives ES256 tokens, a secret HS256 ones.
func TestToken(t *testing.T) {
	t.Parallel()
	key, err := auth.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]string{
		key.Private: `{"alg":"ES256","kid":"dixie-es256-v1","typ":"at+jwt"}`,
		strings.ReplaceAll(key.Private, "\n", `\n`): `{"alg":"ES256","kid":"dixie-es256-v1","typ":"at+jwt"}`,
		"a secret of at least 32 characters":        `{"alg":"HS256","typ":"at+jwt"}`,
	}
	if _, err := exec.LookPath("openssl"); err == nil {
		out, err := exec.CommandContext(t.Context(), "openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout").Output()
		if err != nil {
			t.Fatal(err)
		}
		keys[string(out)] = keys[key.Private]
	}
	for key, want := range keys {
		token := mustCLI(t, []string{"DIXIE_JWT_PRIVATE_KEY=" + key}, "token", "--wallet", wallet)
		header, err := base64.RawURLEncoding.DecodeString(token[:strings.IndexByte(token, '.')])
		if err != nil || string(header) != want {
			t.Errorf("header %s, %v; want %s", header, err, want)
		}
	}
	for name, env := range map[string]string{
		"DIXIE_JWT_PRIVATE_KEY to a key": "X=",
		"found 5 characters":             "DIXIE_JWT_PRIVATE_KEY=short",
	} {
		stdout, stderr, err := cli(t, []string{env}, "token", "--wallet", "0xabc")
		if err == nil || stdout != "" || !strings.Contains(stderr, name) || !strings.Contains(stderr, "wallet: ") {
			t.Errorf("%s: %v, %s", name, err, stderr)
		}
	}
}

// What is wrong with the settings of a server is told at once.
func TestServeRefusesKeys(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	if err := os.WriteFile(path, []byte(`{"apiKeys": [`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, err := cli(t, []string{
		"DIXIE_JWT_PRIVATE_KEY=too short", "DIXIE_JWT_LEGACY_HS256_SECRET=other", "DIXIE_JWT_PREVIOUS_PUBLIC_KEYS=x", "DIXIE_ALLOWLIST_PATH=" + path,
	}, "serve", "--port", "0")
	if err == nil {
		t.Fatal("it serves")
	}
	for _, want := range []string{"DIXIE_JWT_PRIVATE_KEY: ", "DIXIE_JWT_LEGACY_HS256_SECRET: ", "DIXIE_JWT_PREVIOUS_PUBLIC_KEYS: ", path} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is missing from:\n%s", want, stderr)
		}
	}
	if strings.Contains(stderr, "too short") {
		t.Errorf("the key is shown:\n%s", stderr)
	}
}

// A running server takes over what apikey commands change.
func TestServerFollowsAllowlist(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	env := []string{"DIXIE_ALLOWLIST_PATH=" + path, "DIXIE_ALLOWLIST_POLL=10ms"}
	s := serve(t, env)
	first := strings.TrimSpace(mustCLI(t, env, "apikey", "new", "--name", "bear", "--scopes", "read,append"))
	s.waitForKey(first, true)
	second := strings.TrimSpace(mustCLI(t, env, "apikey", "rotate", "bear"))
	s.waitForKey(second, true)
	s.waitForKey(first, false)
	list := mustCLI(t, env, "apikey", "list")
	if !regexp.MustCompile(`(?m)^bear +read,append +20\d\d-\S+Z +[0-9a-f]{8}$`).MatchString(list) || strings.Contains(list, second) {
		t.Errorf("the list is\n%s", list)
	}
	mustCLI(t, env, "apikey", "remove", "bear")
	s.waitForKey(second, false)
	if _, stderr, err := cli(t, env, "apikey", "remove", "bear"); err == nil || !strings.Contains(stderr, `no such entry: a key named "bear"`) {
		t.Errorf("removed twice: %v, %s", err, stderr)
	}
}

// waitForKey waits until the server knows a key, or does not.
func (s *server) waitForKey(key string, known bool) {
	s.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-ticker.C {
		request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.url+"/api/reputation/bear-1", nil)
		if err != nil {
			s.t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+key)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			s.t.Fatal(err)
		}
		_ = response.Body.Close()
		if (response.StatusCode == http.StatusNotFound) == known {
			return
		}
	}
	s.t.Fatalf("whether the key is known is still not %v", known)
}

// Processes that write at the same time lose nothing.
func TestAPIKeysAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	env := []string{"DIXIE_ALLOWLIST_PATH=" + path}
	const count = 8
	var writing sync.WaitGroup
	for n := range count {
		writing.Go(func() {
			if _, stderr, err := cli(t, env, "apikey", "new", "--name", fmt.Sprint("key ", n)); err != nil {
				t.Errorf("%v, %s", err, stderr)
			}
		})
	}
	writing.Wait()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Keys []struct{} `json:"apiKeys"`
	}
	if err := json.Unmarshal(text, &file); err != nil || len(file.Keys) != count {
		t.Errorf("%d keys of %d, %v", len(file.Keys), count, err)
	}
}
