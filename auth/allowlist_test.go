package auth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dixie/auth"
	"dixie/internal/logtext"
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

// logTo is a logger whose lines can be read.
func logTo(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// TestWallets: they are known by their bytes, however the file spells them.
func TestWallets(t *testing.T) {
	t.Parallel()
	path := file(t, `{"wallets": ["0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"]}`)
	list := open(t, path)
	other, added := mustAddress("0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"), auth.Address{1}
	wantWallets(t, list, wallet, other)
	for _, err := range []error{
		list.AddWallet(t.Context(), wallet, now),
		list.RemoveWallet(t.Context(), added, now),
	} {
		if !errors.Is(err, auth.ErrEntryExists) && !errors.Is(err, auth.ErrNoEntry) {
			t.Errorf("error %v", err)
		}
	}
	if list.HasWallet(added) || !list.HasWallet(wallet) {
		t.Error("a wallet is listed that is not there, or the other way round")
	}
	if err := errors.Join(list.AddWallet(t.Context(), added, now), list.RemoveWallet(t.Context(), wallet, now)); err != nil {
		t.Fatal(err)
	}
	wantWallets(t, list, other, added)
	wantWallets(t, open(t, path), other, added)
	if text := read(t, path); !strings.Contains(text, `"0x0100000000000000000000000000000000000000"`) || !strings.Contains(text, `"updated_at": "2026-02-25T11:00:00Z"`) {
		t.Errorf("the file is %s", text)
	}
}

func wantWallets(t testing.TB, list *auth.Allowlist, want ...auth.Address) {
	t.Helper()
	if diff := cmp.Diff(want, list.Entries().Wallets); diff != "" {
		t.Errorf("wallets (-want +got):\n%s", diff)
	}
	for _, w := range want {
		if !list.HasWallet(w) {
			t.Errorf("%s is not listed", w)
		}
	}
}

// TestEntriesAreCopied: whoever gets them cannot change them for others.
func TestEntriesAreCopied(t *testing.T) {
	t.Parallel()
	path := file(t, `{"wallets": ["`+wallet.String()+`"]}`)
	add(t, path, "bear", auth.ScopeRead)
	list := open(t, path)
	e := list.Entries()
	clear(e.Wallets)
	clear(e.Keys)
	if e := list.Entries(); e.Wallets[0] != wallet || e.Keys[0].Name != "bear" {
		t.Errorf("entries %v", e)
	}
}

// TestKeyLife: a key is added, rotated and removed, and every other list that reads the
// file knows it.
func TestKeyLife(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	first := add(t, path, "bear", auth.ScopeRead, auth.ScopeAppend)
	list := open(t, path)
	second, key, err := list.RotateKey(t.Context(), "bear", now)
	if err != nil || second == first || !secretForm.MatchString(second) || key.Name != "bear" || !cmp.Equal(key.Scopes, []auth.Scope{"read", "append"}) {
		t.Fatalf("rotated to %+v, %v", key, err)
	}
	for _, l := range []*auth.Allowlist{list, open(t, path)} {
		if _, err := l.Find(first); !errors.Is(err, auth.ErrUnknownKey) {
			t.Errorf("the former secret: %v", err)
		}
		if found, err := l.Find(second); err != nil || found.Name != "bear" {
			t.Errorf("the new secret: %v, %v", found, err)
		}
	}
	if err := list.AddKey(t.Context(), auth.KeyOf("cub", second, auth.Scopes, now), now); !errors.Is(err, auth.ErrEntryExists) || !strings.Contains(err.Error(), `"bear"`) {
		t.Errorf("one secret has two names: %v", err)
	}
	if err := list.RemoveKey(t.Context(), "bear", now); err != nil {
		t.Fatal(err)
	}
	if _, err := list.Find(second); !errors.Is(err, auth.ErrUnknownKey) {
		t.Errorf("the removed key: %v", err)
	}
	_, _, err = list.RotateKey(t.Context(), "bear", now)
	for _, err := range []error{err, list.RemoveKey(t.Context(), "bear", now)} {
		if !errors.Is(err, auth.ErrNoEntry) {
			t.Errorf("the removed key is changed: %v", err)
		}
	}
}

// TestRotateAmbiguous: of keys that someone wrote under one name, none of the former
// secrets is left.
func TestRotateAmbiguous(t *testing.T) {
	t.Parallel()
	const entry = `{"name": "a", "hash": "sha256:%s", "scopes": ["read"], "created_at": "2025-01-01T00:00:00Z", "expires_at": "2027-01-01"}`
	path := file(t, `{"apiKeys": [`+fmt.Sprintf(entry, strings.Repeat("0", 64))+`, `+fmt.Sprintf(entry, strings.Repeat("1", 64))+`]}`)
	list := open(t, path)
	if _, _, err := list.RotateKey(t.Context(), "a", now); err != nil {
		t.Fatal(err)
	}
	text := read(t, path)
	if len(list.Entries().Keys) != 1 || strings.Contains(text, "00000000") || strings.Contains(text, "11111111") || !strings.Contains(text, `"expires_at": "2027-01-01"`) {
		t.Errorf("left in the file: %s", text)
	}
}

func TestKeyNames(t *testing.T) {
	t.Parallel()
	list := open(t, filepath.Join(t.TempDir(), "allowlist.json"))
	for name, ok := range map[string]bool{
		"a": true, "Bär 7 (Köln)": true, strings.Repeat("x", 100): true,
		"": false, " a": false, "a ": false, "a\nb": false, "a\x1b[2J": false, "\u202eevil": false, strings.Repeat("x", 101): false, "\xff": false,
	} {
		_, key := auth.NewKey(name, auth.Scopes, now)
		if err := list.AddKey(t.Context(), key, now); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// plain is a file of the service before this one, in which some entries never worked.
const plain = `{"version": 1, "wallets": ["` + "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed" + `", "0xAB"],
	"apiKeys": ["dxk_plain_one", "plain_two", "dxk_plain_three", "dxk_"], "updated_at": "2025-01-01T00:00:00.000Z"}`

// TestPlainKeys: keys of an old file work, and it holds them no longer.
func TestPlainKeys(t *testing.T) {
	t.Parallel()
	path := file(t, plain)
	var log strings.Builder
	list, err := auth.OpenAllowlist(path, logTo(&log))
	if err != nil {
		t.Fatal(err)
	}
	wantPlainKeys(t, list)
	wantPlainKeys(t, open(t, path))
	text := read(t, path)
	for _, secret := range []string{"plain_one", "plain_three"} {
		if strings.Contains(text, secret) || strings.Contains(log.String(), secret) {
			t.Errorf("%s is in the file or in the log:\n%s\n%s", secret, text, &log)
		}
	}
	if strings.Contains(log.String(), "plain_two") {
		t.Errorf("a key is in the log:\n%s", &log)
	}
	// What never worked is left for whoever knows what it was meant to be.
	for _, entry := range []string{`"plain_two"`, `"dxk_"`, `"0xAB"`} {
		if !strings.Contains(text, entry) {
			t.Errorf("%s is lost from %s", entry, text)
		}
	}
	for _, want := range []string{"entry=wallets[1]", "entry=apiKeys[1]", "entry=apiKeys[3]", "replaced by their hashes", "keys=2"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is missing from the log:\n%s", want, &log)
		}
	}
	if strings.Contains(log.String(), "entry=apiKeys[0]") || strings.Contains(log.String(), "entry=wallets[0]") {
		t.Errorf("good entries are reported:\n%s", &log)
	}
}

// wantPlainKeys checks that the plain keys that work do.
func wantPlainKeys(t testing.TB, list *auth.Allowlist) {
	t.Helper()
	names := map[string]bool{}
	for _, secret := range []string{"dxk_plain_one", "dxk_plain_three"} {
		key, err := list.Find(secret)
		if err != nil || !cmp.Equal(key.Scopes, []auth.Scope{"read", "append"}) || !strings.HasPrefix(key.Name, "plain-") {
			t.Errorf("%s: %+v, %v", secret, key, err)
		}
		names[key.Name] = true
	}
	if len(names) != 2 || len(list.Entries().Keys) != 2 {
		t.Errorf("names %v, entries %v", names, list.Entries().Keys)
	}
	for _, secret := range []string{"plain_two", "dxk_", ""} {
		if key, err := list.Find(secret); !errors.Is(err, auth.ErrUnknownKey) {
			t.Errorf("%q is found: %+v, %v", secret, key, err)
		}
	}
}

// TestPlainKeysThatStay: a file that cannot be written is used as it is, and its keys
// are replaced by the next write.
func TestPlainKeysThatStay(t *testing.T) {
	t.Parallel()
	path := file(t, plain)
	if err := os.Mkdir(path+".lock", 0o700); err != nil { // which no lock can be taken on
		t.Fatal(err)
	}
	var log strings.Builder
	list, err := auth.OpenAllowlist(path, logTo(&log))
	if err != nil {
		t.Fatal(err)
	}
	wantPlainKeys(t, list)
	if read(t, path) != plain {
		t.Error("the file is changed")
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "cannot be written") || strings.Contains(log.String(), "plain_") {
		t.Errorf("the log says:\n%s", &log)
	}
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err)
	}
	if err := list.AddWallet(t.Context(), auth.Address{1}, now); err != nil {
		t.Fatal(err)
	}
	wantPlainKeys(t, list)
	if text := read(t, path); strings.Contains(text, "dxk_plain") {
		t.Errorf("plain keys are written again: %s", text)
	}
}

// TestErrorsShowNoKeys: a file that is refused may hold plain keys.
func TestErrorsShowNoKeys(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"apiKeys": "dxk_plain_one"}`, `{"apiKeys": ["dxk_plain_one" "dxk_plain_two"]}`, `{"apiKeys": ["dxk_plain_one`, `["dxk_plain_one"]`, `"dxk_plain_one"`,
		`{"apiKeys": [dxk_plain_one]}`, `{"wallets": "dxk_plain_one"}`, `{"version": "dxk_plain_one"}`, `{"apiKeys": [{"hash": "dxk_plain_one"}]}`,
		`{"apiKeys": [["dxk_plain_one"]]}`, "{\"apiKeys\": [\"dxk_plain_one\xff\"]}",
	} {
		_, err := auth.OpenAllowlist(file(t, text), quiet)
		if err == nil || strings.Contains(err.Error(), "plain_one") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTooLongFile(t *testing.T) {
	t.Parallel()
	path := file(t, `{}`)
	if err := os.Truncate(path, 1<<24+1); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.OpenAllowlist(path, quiet); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("error %v", err)
	}
}

// TestKeyOfThisProcess: it is found, and never written.
func TestKeyOfThisProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	list := open(t, path)
	secret, key := auth.NewKey("dev", auth.Scopes, now)
	list.Also(key)
	if err := list.AddWallet(t.Context(), wallet, now); err != nil {
		t.Fatal(err)
	}
	if found, err := list.Find(secret); err != nil || found.Name != "dev" {
		t.Errorf("found %v, %v", found, err)
	}
	if len(list.Entries().Keys) != 0 || strings.Contains(read(t, path), "dev") {
		t.Errorf("it is in the file: %s", read(t, path))
	}
}

// TestManyWriters: nobody's change is lost, whoever else writes. Each list here locks the
// file as another process does.
func TestManyWriters(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	const writers, changes = 6, 8
	var writing sync.WaitGroup
	for w := range writers {
		list := open(t, path)
		writing.Go(func() {
			for n := range changes {
				_, key := auth.NewKey(fmt.Sprint(w, " ", n), auth.Scopes, now)
				err := errors.Join(list.AddKey(t.Context(), key, now), list.AddWallet(t.Context(), auth.Address{byte(w), byte(n)}, now))
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	if e := open(t, path).Entries(); len(e.Keys) != writers*changes || len(e.Wallets) != writers*changes {
		t.Errorf("%d keys and %d wallets of %d", len(e.Keys), len(e.Wallets), writers*changes)
	}
}

// TestLockedFile: a change waits for others no longer than its context, and changes
// nothing then.
func TestLockedFile(t *testing.T) {
	t.Parallel()
	path := file(t, `{}`)
	list := open(t, path)
	other := flock.New(path + ".lock")
	if err := other.Lock(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := list.AddWallet(ctx, wallet, now); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path+".lock") {
		t.Errorf("error %v", err)
	}
	if list.HasWallet(wallet) || read(t, path) != `{}` {
		t.Error("the wallet is listed")
	}
	if err := other.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := list.AddWallet(t.Context(), wallet, now); err != nil || !list.HasWallet(wallet) {
		t.Errorf("after the lock: %v", err)
	}
}

// TestFileKeepsItsPlace: a link stays one, and who may read the file may do so
// afterwards.
func TestFileKeepsItsPlace(t *testing.T) {
	t.Parallel()
	path := file(t, `{}`)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.json")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	secret := add(t, link, "bear", auth.ScopeRead)
	wantKey(t, path, secret, "bear", auth.ScopeRead)
	info, err := os.Lstat(link)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if info, err = os.Stat(path); err != nil || info.Mode() != 0o640 {
		t.Errorf("the file is %v, %v", info.Mode(), err)
	}
}

// TestRun follows a file through what others do to it, in a time of its own.
func TestRun(t *testing.T) {
	t.Parallel()
	path := file(t, `{"wallets": ["`+wallet.String()+`"]}`)
	good := read(t, path)
	synctest.Test(t, func(t *testing.T) {
		var log logtext.Log
		list, err := auth.OpenAllowlist(path, logTo(&log))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { list.Run(ctx) })
		wantLog := func(parts ...string) {
			t.Helper()
			text := log.Take()
			for _, part := range parts {
				if strings.Count(text, part) != 1 {
					t.Errorf("%q is not once in the log:\n%s", part, text)
				}
			}
		}
		settle := func() {
			time.Sleep(10 * time.Second)
			synctest.Wait()
		}

		settle()
		if text := log.Take(); text != "" {
			t.Errorf("a file at rest is reported:\n%s", text)
		}

		secret := add(t, path, "bear", auth.ScopeRead)
		if _, err := list.Find(secret); !errors.Is(err, auth.ErrUnknownKey) {
			t.Errorf("a key is known before anyone looked: %v", err)
		}
		time.Sleep(2*time.Second + time.Millisecond)
		synctest.Wait()
		if key, err := list.Find(secret); err != nil || key.Name != "bear" {
			t.Errorf("the key that another process added: %v, %v", key, err)
		}
		wantLog("level=INFO")

		for _, text := range []string{"", `{"wallets": [`, "null"} {
			write(t, path, text)
			settle()
			if _, err := list.Find(secret); err != nil || !list.HasWallet(wallet) {
				t.Errorf("after %.20q: what the file said before is forgotten: %v", text, err)
			}
			wantLog("level=ERROR", path)
		}

		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		settle()
		if _, err := list.Find(secret); err != nil || !list.HasWallet(wallet) {
			t.Errorf("after the file was lost, what it said is forgotten: %v", err)
		}
		wantLog("level=ERROR")

		write(t, path, good)
		settle()
		if _, err := list.Find(secret); !errors.Is(err, auth.ErrUnknownKey) || !list.HasWallet(wallet) {
			t.Errorf("after the file was restored: %v", err)
		}
		wantLog("the allowlist has changed", "can be read again")

		write(t, path, plain)
		settle()
		wantPlainKeys(t, list)
		if text := read(t, path) + log.Take(); strings.Contains(text, "dxk_plain") {
			t.Errorf("plain keys stay in the file, or are in the log:\n%s", text)
		}

		stop()
		running.Wait()
	})
}

// TestRunWaitsForRest: a file that is being written is not taken over before it reads
// the same twice.
func TestRunWaitsForRest(t *testing.T) {
	t.Parallel()
	path := file(t, `{}`)
	synctest.Test(t, func(t *testing.T) {
		list, err := auth.OpenAllowlist(path, quiet)
		if err != nil {
			t.Fatal(err)
		}
		list.Poll = time.Minute
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { list.Run(ctx) })
		time.Sleep(time.Second)
		for n := range 5 {
			write(t, path, `{"wallets": ["`+wallet.String()+`"]`+strings.Repeat(" ", n)+`}`)
			time.Sleep(time.Minute)
			synctest.Wait()
			if list.HasWallet(wallet) {
				t.Fatalf("taken over after %d of 5 changes", n+1)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if !list.HasWallet(wallet) {
			t.Error("not taken over at rest")
		}
		stop()
		running.Wait()
	})
}

// TestRunWithoutFile: one that appears is read, and until then nothing is wrong.
func TestRunWithoutFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "allowlist.json")
	synctest.Test(t, func(t *testing.T) {
		var log logtext.Log
		list, err := auth.OpenAllowlist(path, logTo(&log))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { list.Run(ctx) })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if text := log.Take(); text != "" {
			t.Errorf("a file that never was is reported:\n%s", text)
		}
		secret := add(t, path, "bear", auth.ScopeRead)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if _, err := list.Find(secret); err != nil {
			t.Error(err)
		}
		stop()
		running.Wait()
	})
}

// A list in memory is like one in a file, except that no file has it.
func TestAllowlistInMemory(t *testing.T) {
	t.Parallel()
	list := auth.NewAllowlist(slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { list.Run(ctx) })
	now := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	wallet := auth.Address{1}
	secret, key := auth.NewKey("bear", auth.Scopes, now)
	if err := errors.Join(list.AddWallet(ctx, wallet, now), list.AddKey(ctx, key, now)); err != nil {
		t.Fatal(err)
	}
	if err := list.AddWallet(ctx, wallet, now); !errors.Is(err, auth.ErrEntryExists) {
		t.Errorf("added twice: %v", err)
	}
	if found, err := list.Find(secret); err != nil || found.Name != "bear" || !list.HasWallet(wallet) {
		t.Errorf("found %+v, %v", found, err)
	}
	other, _, err := list.RotateKey(ctx, "bear", now)
	if _, lost := list.Find(secret); err != nil || !errors.Is(lost, auth.ErrUnknownKey) {
		t.Errorf("rotated: %v, %v", err, lost)
	}
	if _, err := list.Find(other); err != nil {
		t.Error(err)
	}
	if err := errors.Join(list.RemoveWallet(ctx, wallet, now), list.RemoveKey(ctx, "bear", now)); err != nil || list.HasWallet(wallet) {
		t.Errorf("removed: %v", err)
	}
	if e := list.Entries(); len(e.Wallets)+len(e.Keys) != 0 || !e.UpdatedAt.Equal(now) {
		t.Errorf("left are %+v", e)
	}
	stop()
	running.Wait()
}
