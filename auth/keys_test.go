package auth_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

// file is the path of a file with a text, in a directory of its own.
func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys.json")
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
	if err := auth.AddToFile(path, key); err != nil {
		t.Fatal(err)
	}
	return secret
}

// wantKey checks that a file has a secret's key.
func wantKey(t testing.TB, path, secret, name string, scopes ...auth.Scope) {
	t.Helper()
	keys, err := auth.LoadKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	key, err := keys.Find(secret)
	if err != nil || key.Name != name || !cmp.Equal(key.Scopes, scopes) {
		t.Errorf("found %+v, %v; want %s with %v", key, err, name, scopes)
	}
}

func TestFileRoundTrip(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
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
	if err != nil || len(left) != 1 {
		t.Errorf("beside the file: %v, %v", left, err)
	}
}

// TestFileForm holds what other programs read.
func TestFileForm(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := auth.AddToFile(path, auth.KeyOf("bear", "abc", auth.Scopes, now)); err != nil {
		t.Fatal(err)
	}
	const want = `{
  "version": 1,
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
	for _, path := range []string{filepath.Join(dir, "keys.json"), filepath.Join(dir, "none", "keys.json")} {
		keys, err := auth.LoadKeys(path)
		if err != nil || keys.Len() != 0 {
			t.Errorf("%s: %v, %v", path, keys, err)
		}
	}
	_, key := auth.NewKey("a", nil, now)
	if err := auth.AddToFile(filepath.Join(dir, "none", "keys.json"), key); !errors.Is(err, fs.ErrNotExist) {
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
	`{"apiKeys": ["x"]}`:             "apiKeys",
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
		keys, err := auth.LoadKeys(path)
		if err == nil || keys != nil {
			t.Errorf("%q holds %d keys", text, keys.Len())
			continue
		}
		if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error does not name the file and %q: %v", text, want, err)
		}
		_, key := auth.NewKey("a", []auth.Scope{auth.ScopeRead}, now)
		if err := auth.AddToFile(path, key); err == nil {
			t.Errorf("%q: a key is added", text)
		}
		if got := read(t, path); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}

// TestUnreadableFile: what cannot be opened is not empty either.
func TestUnreadableFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if keys, err := auth.LoadKeys(dir); err == nil || keys != nil {
		t.Errorf("a directory holds %v", keys)
	}
	if keys, err := auth.LoadKeys("a\x00b"); err == nil || keys != nil {
		t.Errorf("an impossible name holds %v", keys)
	}
	_, key := auth.NewKey("a", nil, now)
	if err := auth.AddToFile(dir, key); err == nil {
		t.Error("a key is added to a directory")
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
	path := filepath.Join(t.TempDir(), "keys.json")
	secret := add(t, path, "bear", auth.ScopeRead)
	before := read(t, path)
	_, again := auth.NewKey("bear", []auth.Scope{auth.ScopeAdmin}, now)
	if err := auth.AddToFile(path, again); err == nil || !strings.Contains(err.Error(), `"bear"`) {
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
	path := filepath.Join(t.TempDir(), "keys.json")
	add(t, path, "bear", auth.ScopeRead)
	before := read(t, path)
	for what, key := range map[string]auth.Key{
		"no hash":              {Name: "a", Scopes: auth.Scopes},
		"a hash without bytes": {Name: "a", Hash: "sha256:", Scopes: auth.Scopes},
		"an unknown scope":     auth.KeyOf("a", "abc", []auth.Scope{"all"}, now),
		"a name not in UTF-8":  auth.KeyOf("\xff", "abc", auth.Scopes, now),
		"a year beyond 9999":   auth.KeyOf("a", "abc", auth.Scopes, now.AddDate(9000, 0, 0)),
	} {
		if err := auth.AddToFile(path, key); err == nil {
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
	path := filepath.Join(t.TempDir(), "keys.json")
	add(t, path, "key 0", auth.ScopeRead)
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := range 50 {
			_, key := auth.NewKey(fmt.Sprint("key ", n+1), auth.Scopes, now)
			if err := auth.AddToFile(path, key); err != nil {
				t.Error(err)
			}
		}
	})
	for n := 0; n < 51 && !t.Failed(); {
		keys, err := auth.LoadKeys(path)
		if err != nil || keys.Len() < n {
			t.Fatalf("%d keys after %d, %v", keys.Len(), n, err)
		}
		n = keys.Len()
	}
	writing.Wait()
}

func FuzzLoadKeys(f *testing.F) {
	for text := range corrupt {
		f.Add([]byte(text))
	}
	f.Add([]byte(`{"version":1,"apiKeys":[{"name":"a","hash":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","scopes":["read"],"created_at":"2025-01-01T00:00:00Z"}],"wallets":{}}`))
	f.Add([]byte(`{"apikeys":[],"apiKeys":null,"APIKEYS":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := file(t, string(text))
		keys, err := auth.LoadKeys(path)
		secret, key := auth.NewKey("a name that no input has", []auth.Scope{auth.ScopeRead}, now)
		added := auth.AddToFile(path, key)
		if (err == nil) != (added == nil) {
			t.Fatalf("load: %v, add: %v", err, added)
		}
		if err != nil {
			if got := read(t, path); got != string(text) {
				t.Errorf("a file that cannot be understood becomes %q", got)
			}
			return
		}
		more, err := auth.LoadKeys(path)
		if err != nil || more.Len() != keys.Len()+1 {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if found, err := more.Find(secret); err != nil || found.Name != key.Name {
			t.Errorf("the new key is not found: %v", err)
		}
	})
}
