package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dixie/auth"
)

var quiet = slog.New(slog.DiscardHandler)

// open opens an allowlist.
func open(t testing.TB, path string) *auth.Allowlist {
	t.Helper()
	list, err := auth.OpenAllowlist(path, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// file is the path of a file with a text, in a directory of its own.
func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// add adds a new key to a file and returns its secret.
func add(t testing.TB, path, name string, scopes ...auth.Scope) string {
	t.Helper()
	secret, key := auth.NewKey(name, scopes, now)
	if err := open(t, path).AddKey(t.Context(), key, now); err != nil {
		t.Fatal(err)
	}
	return secret
}

// wantKey checks that a file has a secret's key.
func wantKey(t testing.TB, path, secret, name string, scopes ...auth.Scope) {
	t.Helper()
	key, err := open(t, path).Find(secret)
	if err != nil || key.Name != name || !cmp.Equal(key.Scopes, scopes) {
		t.Errorf("found %+v, %v; want %s with %v", key, err, name, scopes)
	}
}

func TestFileRoundTrip(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	one := add(t, path, "one", auth.ScopeRead)
	two := add(t, path, "two", auth.ScopeAppend, auth.ScopeAdmin)
	wantKey(t, path, one, "one", auth.ScopeRead)
	wantKey(t, path, two, "two", auth.ScopeAppend, auth.ScopeAdmin)
	if text := read(t, path); strings.Contains(text, one) || strings.Contains(text, two) || strings.Contains(text, one[len(auth.KeyPrefix):]) {
		t.Errorf("a secret is in the file: %s", text)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 2 || left[1].Name() != "allowlist.json.lock" {
		t.Errorf("beside the file: %v, %v", left, err)
	}
}

// TestFileForm holds what other programs read.
func TestFileForm(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	if err := open(t, path).AddKey(t.Context(), auth.KeyOf("bear", "abc", auth.Scopes, now), now); err != nil {
		t.Fatal(err)
	}
	const want = `{
  "version": 1,
  "wallets": [],
  "apiKeys": [
    {
      "name": "bear",
      "hash": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      "scopes": [
        "read",
        "append",
        "admin"
      ],
      "created_at": "2026-02-25T11:00:00Z"
    }
  ],
  "updated_at": "2026-02-25T11:00:00Z"
}
`
	if diff := cmp.Diff(want, read(t, path)); diff != "" {
		t.Errorf("file (-want +got):\n%s", diff)
	}
}

// TestOtherMembersAreKept: the file belongs to other parts of a service too.
func TestOtherMembersAreKept(t *testing.T) {
	t.Parallel()
	const hash = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	path := file(t, `{
		"version": 1,
		"wallets": ["0xAB"], "policy": {"open": false, "limit": 12345678901234567890, "note": "<&>"}, "nothing": null,
		"apiKeys": [{"name": "old", "hash": "`+hash+`", "scopes": ["read"], "created_at": "2025-01-01T00:00:00Z",
			"expires_at": "2027-01-01T00:00:00Z", "owner": {"id": 12345678901234567890}}]
	}`)
	secret := add(t, path, "new", auth.ScopeRead)
	wantKey(t, path, secret, "new", auth.ScopeRead)
	wantKey(t, path, "abc", "old", auth.ScopeRead)
	var got struct {
		Version int                        `json:"version"`
		Wallets []string                   `json:"wallets"`
		Policy  map[string]json.RawMessage `json:"policy"`
		APIKeys []map[string]any           `json:"apiKeys"`
	}
	text := read(t, path)
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != 1 || !cmp.Equal(got.Wallets, []string{"0xAB"}) || string(got.Policy["limit"]) != "12345678901234567890" || string(got.Policy["open"]) != "false" {
		t.Errorf("members are changed: %s", text)
	}
	if !strings.Contains(text, `"nothing": null`) {
		t.Errorf("a member is lost: %s", text)
	}
	if len(got.APIKeys) != 2 || got.APIKeys[0]["expires_at"] != "2027-01-01T00:00:00Z" || !strings.Contains(text, `"id": 12345678901234567890`) {
		t.Errorf("members of the old key are changed: %s", text)
	}
}

func TestNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "allowlist.json"), filepath.Join(dir, "none", "allowlist.json")} {
		if e := open(t, path).Entries(); len(e.Keys) != 0 || len(e.Wallets) != 0 {
			t.Errorf("%s: %v", path, e)
		}
	}
	_, key := auth.NewKey("a", nil, now)
	if err := open(t, filepath.Join(dir, "none", "allowlist.json")).AddKey(t.Context(), key, now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key is added in a directory that does not exist: %v", err)
	}
}

// corrupt are files that are not to be taken for empty ones, and what the error
// says about them.
var corrupt = map[string]string{
	"":                               "",
	"null":                           "",
	" \n":                            "",
	"[]":                             "",
	`"apiKeys"`:                      "",
	`{"apiKeys": [}`:                 "",
	`{"apiKeys": []} more`:           "",
	`{"apiKeys": [`:                  "",
	`{"apiKeys": [], "apiKeys": []}`: "apiKeys",
	"{\"wallets\": [\"\xff\"]}":      "",
	`{"apiKeys": {}}`:                "apiKeys",
	`{"apiKeys": [7]}`:               "apiKeys",
	`{"wallets": [7]}`:               "wallets",
	`{"wallets": {}}`:                "wallets",
	`{"apiKeys": [null]}`:            "apiKeys[0]",
	`{"apiKeys": [{}]}`:              "apiKeys[0]",
	`{"version": "1"}`:               "version",
	`{"updated_at": "now"}`:          "time",
	`{"apiKeys": [{"hash": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}]}`:                               "apiKeys[0]: hash",
	`{"apiKeys": [{"hash": "sha256:ba7816bf"}]}`:                                                                                "apiKeys[0]: hash",
	`{"apiKeys": [{"hash": "md5:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}]}`:                           "apiKeys[0]: hash",
	`{"apiKeys": [{"hash": "sha256:zz7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}]}`:                        "apiKeys[0]: hash",
	`{"apiKeys": [{"hash": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "scopes": ["all"]}]}`:     "apiKeys[0]: scopes",
	`{"apiKeys": [{"hash": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "scopes": "read"}]}`:      "scopes",
	`{"apiKeys": [{"hash": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "created_at": "today"}]}`: "time",
}

// TestCorruptFile: it stops whoever reads it, and is left as it is.
func TestCorruptFile(t *testing.T) {
	t.Parallel()
	for text, want := range corrupt {
		path := file(t, text)
		list, err := auth.OpenAllowlist(path, quiet)
		if err == nil || list != nil {
			t.Errorf("%q is opened", text)
			continue
		}
		if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error does not name the file and %q: %v", text, want, err)
		}
		if got := read(t, path); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

// TestCorruptedFile: one that was fine when it was opened is not written over, and what
// it said stays.
func TestCorruptedFile(t *testing.T) {
	t.Parallel()
	path := file(t, "{}")
	list := open(t, path)
	secret, key := auth.NewKey("a", auth.Scopes, now)
	if err := list.AddKey(t.Context(), key, now); err != nil {
		t.Fatal(err)
	}
	_, other := auth.NewKey("b", auth.Scopes, now)
	for text, want := range corrupt {
		write(t, path, text)
		for name, change := range changes(list, key.Name, other) {
			if err := change(); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %s says %v", text, name, err)
			}
		}
		if got := read(t, path); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for name, change := range changes(list, key.Name, other) {
		if err := change(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is gone: %s says %v", name, err)
		}
	}
	if found, err := list.Find(secret); err != nil || found.Name != "a" {
		t.Errorf("found %v, %v", found, err)
	}
}

// changes are all changes of an allowlist that has a key of a name.
func changes(list *auth.Allowlist, name string, other auth.Key) map[string]func() error {
	ctx, wallet := context.Background(), auth.Address{1}
	return map[string]func() error{
		"AddKey":       func() error { return list.AddKey(ctx, other, now) },
		"RemoveKey":    func() error { return list.RemoveKey(ctx, name, now) },
		"RotateKey":    func() error { _, _, err := list.RotateKey(ctx, name, now); return err },
		"AddWallet":    func() error { return list.AddWallet(ctx, wallet, now) },
		"RemoveWallet": func() error { return list.RemoveWallet(ctx, wallet, now) },
	}
}

// TestUnreadableFile: what cannot be opened is not empty either.
func TestUnreadableFile(t *testing.T) {
	t.Parallel()
	for _, path := range []string{t.TempDir(), "a\x00b"} {
		if list, err := auth.OpenAllowlist(path, quiet); err == nil || list != nil {
			t.Errorf("%q is opened: %v", path, list)
		}
	}
}

// TestMemberInOtherLetters: a member that is only like apiKeys is another one, and
// does not take its place when the file is written and read again.
func TestMemberInOtherLetters(t *testing.T) {
	t.Parallel()
	path := file(t, `{"apikeys": [], "APIKEYS": {}}`)
	secret := add(t, path, "bear", auth.ScopeRead)
	wantKey(t, path, secret, "bear", auth.ScopeRead)
	if text := read(t, path); !strings.Contains(text, `"apikeys": []`) || !strings.Contains(text, `"APIKEYS": {}`) {
		t.Errorf("members are lost: %s", text)
	}
}

// TestCapitalHash: other programs write hexadecimal digits in capitals, and their
// keys work.
func TestCapitalHash(t *testing.T) {
	t.Parallel()
	path := file(t, `{"apiKeys": [{"name": "a", "scopes": ["read"], "created_at": "2025-01-01T00:00:00Z",
		"hash": "sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"}]}`)
	wantKey(t, path, "abc", "a", auth.ScopeRead)
}

// TestDuplicateName: a name tells keys apart in the log, so it is given once.
func TestDuplicateName(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	secret := add(t, path, "bear", auth.ScopeRead)
	before := read(t, path)
	_, again := auth.NewKey("bear", []auth.Scope{auth.ScopeAdmin}, now)
	if err := open(t, path).AddKey(t.Context(), again, now); !errors.Is(err, auth.ErrEntryExists) || !strings.Contains(err.Error(), `"bear"`) {
		t.Errorf("error %v", err)
	}
	if got := read(t, path); got != before {
		t.Errorf("the file is changed: %s", got)
	}
	wantKey(t, path, secret, "bear", auth.ScopeRead)
	add(t, path, "Bear", auth.ScopeRead)
}

// TestBadKey: a key that could not be read again is not written.
func TestBadKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	add(t, path, "bear", auth.ScopeRead)
	before := read(t, path)
	for what, key := range map[string]auth.Key{
		"no hash":              {Name: "a", Scopes: auth.Scopes},
		"a hash without bytes": {Name: "a", Hash: "sha256:", Scopes: auth.Scopes},
		"an unknown scope":     auth.KeyOf("a", "abc", []auth.Scope{"all"}, now),
		"a name not in UTF-8":  auth.KeyOf("\xff", "abc", auth.Scopes, now),
		"a year beyond 9999":   auth.KeyOf("a", "abc", auth.Scopes, now.AddDate(9000, 0, 0)),
	} {
		if err := open(t, path).AddKey(t.Context(), key, now); err == nil {
			t.Errorf("a key is added with %s", what)
		}
	}
	if got := read(t, path); got != before {
		t.Errorf("the file is changed: %s", got)
	}
}

// TestFileIsReplaced: someone who reads while another writes sees the old file or
// the new one, never a part.
func TestFileIsReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	add(t, path, "key 0", auth.ScopeRead)
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := range 50 {
			_, key := auth.NewKey(fmt.Sprint("key ", n+1), auth.Scopes, now)
			if err := open(t, path).AddKey(t.Context(), key, now); err != nil {
				t.Error(err)
			}
		}
	})
	for n := 0; n < 51 && !t.Failed(); {
		list, err := auth.OpenAllowlist(path, quiet)
		if err != nil {
			t.Fatalf("after %d keys: %v", n, err)
		}
		found := len(list.Entries().Keys)
		if found < n {
			t.Fatalf("%d keys after %d", found, n)
		}
		n = found
	}
	writing.Wait()
}

// FuzzAllowlist: a file is understood and can be added to, with everything else kept,
// or it is refused and left as it is.
func FuzzAllowlist(f *testing.F) {
	for text := range corrupt {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"version":1,"apiKeys":[{"name":"a","hash":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","scopes":["read"],"created_at":"2025-01-01T00:00:00Z"}],"wallets":null}`))
	f.Add([]byte(`{"apikeys":[],"apiKeys":null,"APIKEYS":1}`))
	f.Add([]byte(`{"apiKeys":["dxk_plain","plain",""],"wallets":["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed","0x",""],"policy":{"a":[1e999]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := file(t, string(text))
		list, err := auth.OpenAllowlist(path, quiet)
		if err != nil {
			if got := read(t, path); got != string(text) {
				t.Errorf("a file that cannot be understood becomes %q", got)
			}
			return
		}
		before := list.Entries()
		secret, key := auth.NewKey("a name that no input has", []auth.Scope{auth.ScopeRead}, now)
		if err := list.AddKey(t.Context(), key, now); err != nil {
			t.Fatalf("it can be read and not added to: %v", err)
		}
		after := open(t, path)
		if found, err := after.Find(secret); err != nil || found.Name != key.Name {
			t.Errorf("the new key is not found: %v", err)
		}
		before.Keys, before.UpdatedAt = append(before.Keys, key), now.UTC().Truncate(time.Second)
		if diff := cmp.Diff(before, after.Entries(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("entries (-want +got):\n%s", diff)
		}
	})
}
