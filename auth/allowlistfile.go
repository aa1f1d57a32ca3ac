package auth

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxAllowlist is the greatest size of an allowlist file, in bytes: about 300,000
// wallets.
const maxAllowlist = 16 << 20

// allowlistFile is the JSON of an allowlist. Members that this service does not use
// are kept when the file is written.
type allowlistFile struct {
	Version   int                       `json:"version"`
	Wallets   []string                  `json:"wallets"`
	Keys      []fileKey                 `json:"apiKeys"`
	UpdatedAt time.Time                 `json:"updated_at"`
	Rest      map[string]jsontext.Value `json:",embed"`
}

// fileKey is an API key in a file: an object, or in files of the service before this
// one the key itself.
type fileKey struct {
	storedKey
	plain *string // nil for an object
}

type storedKey struct {
	Key
	Rest map[string]jsontext.Value `json:",embed"`
}

// UnmarshalJSONFrom reads either form.
func (k *fileKey) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() == jsontext.KindString {
		return json.UnmarshalDecode(d, &k.plain)
	}
	return json.UnmarshalDecode(d, &k.storedKey)
}

// MarshalJSONTo writes the form that was read.
func (k *fileKey) MarshalJSONTo(e *jsontext.Encoder) error {
	if k.plain != nil {
		return json.MarshalEncode(e, k.plain)
	}
	return json.MarshalEncode(e, &k.storedKey)
}

// works reports whether a plain key is one that callers can use.
func (k *fileKey) works() bool {
	return strings.HasPrefix(*k.plain, KeyPrefix) && len(*k.plain) > len(KeyPrefix)
}

// parseAllowlist understands the text of a file, or says why it cannot: it is never
// taken for an empty one.
func parseAllowlist(text []byte) (*allowlistFile, error) {
	file := &allowlistFile{Version: 1}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	if file == nil {
		return nil, errors.New("must be an object, found null")
	}
	for i := range file.Keys {
		key := &file.Keys[i]
		if key.plain != nil {
			continue
		}
		if err := key.check(); err != nil {
			return nil, fmt.Errorf("apiKeys[%d]: %w", i, err)
		}
		key.Hash = strings.ToLower(key.Hash) // as Keys compares it
	}
	return file, nil
}

// readAllowlist reads the text of a file, up to the greatest size of one.
func readAllowlist(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, maxAllowlist+1))
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	if len(text) > maxAllowlist {
		return nil, errTooLong
	}
	return text, nil
}

var errTooLong = fmt.Errorf("must not be longer than %d bytes", maxAllowlist)

// useless are the entries that can never work: where they are, and why.
func (f *allowlistFile) useless() (entries []uselessEntry) {
	for i, wallet := range f.Wallets {
		if _, err := ParseAddress(wallet); err != nil {
			entries = append(entries, uselessEntry{fmt.Sprintf("wallets[%d]", i), err.Error()})
		}
	}
	for i, key := range f.Keys {
		if key.plain != nil && !key.works() {
			entries = append(entries, uselessEntry{fmt.Sprintf("apiKeys[%d]", i), "an API key begins with " + KeyPrefix})
		}
	}
	return entries
}

type uselessEntry struct{ place, reason string }

// hashPlainKeys puts hashes in the place of plain keys that work, and tells how many
// there were. Whoever held one was allowed what a listed wallet is. It gets a name of
// its hash, because it had none.
func (f *allowlistFile) hashPlainKeys(now time.Time) (count int) {
	for i := range f.Keys {
		if plain := f.Keys[i].plain; plain != nil && f.Keys[i].works() {
			key := KeyOf("", *plain, ScopesOf(RoleTeam), now)
			key.Name = "plain-" + strings.TrimPrefix(key.Hash, "sha256:")[:8]
			f.Keys[i] = fileKey{storedKey: storedKey{Key: key}}
			count++
		}
	}
	return count
}

// isWallet compares entries of a file with a wallet, by bytes.
func isWallet(wallet Address) func(string) bool {
	return func(entry string) bool {
		a, err := ParseAddress(entry)
		return err == nil && a == wallet
	}
}

// isNamed compares entries of a file with a key's name.
func isNamed(name string) func(fileKey) bool {
	return func(k fileKey) bool { return k.plain == nil && k.Name == name }
}

// encode is the text of the file, as it is changed at a time.
func (f *allowlistFile) encode(now time.Time) ([]byte, error) {
	f.UpdatedAt = now.UTC().Truncate(time.Second)
	if f.Wallets == nil {
		f.Wallets = []string{} // which other programs take for granted
	}
	if f.Keys == nil {
		f.Keys = []fileKey{}
	}
	text, err := json.Marshal(f, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return nil, err
	}
	text = append(text, '\n')
	if len(text) > maxAllowlist {
		return nil, errTooLong
	}
	return text, nil
}

// replaceFile replaces a file as a whole, so that nobody reads half of it and a crash
// leaves the old one or the new one. It keeps the permissions and the owner of the old
// one; a new one is for the owner of its directory alone. The directory must exist.
func replaceFile(path string, text []byte) (err error) {
	dir := filepath.Dir(path)
	mode, owner, err := ownership(path)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, ".allowlist-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name())
		}
	}()
	likeOwner(temp.Name(), owner)
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err = os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// ownership is what a file that replaces the one at path has to look like. owner is the
// old file, or its directory if there is none.
func ownership(path string) (mode fs.FileMode, owner fs.FileInfo, err error) {
	if owner, err = os.Stat(path); err == nil {
		return owner.Mode().Perm(), owner, nil
	}
	owner, err = os.Stat(filepath.Dir(path))
	return 0o600, owner, err
}

// syncDir makes a rename last through a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
