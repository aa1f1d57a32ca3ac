// Package auth knows who is asking: API keys and what their holders may do.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ErrUnknownKey says that a key was never issued, or has been removed.
var ErrUnknownKey = errors.New("unknown API key")

// KeyPrefix begins every API key, so that a leaked one can be recognised.
const KeyPrefix = "dxk_"

// Scope is something that a key's holder may do.
type Scope string

// The scopes. None includes another.
const (
	ScopeRead   Scope = "read"   // read reputations and the log
	ScopeAppend Scope = "append" // append events
	ScopeAdmin  Scope = "admin"  // reset agents, operate the service
)

// Scopes are all scopes.
var Scopes = []Scope{ScopeRead, ScopeAppend, ScopeAdmin}

// ParseScopes reads a comma-separated list of scopes.
func ParseScopes(list string) ([]Scope, error) {
	var scopes []Scope
	for name := range strings.SplitSeq(list, ",") {
		scope := Scope(strings.TrimSpace(name))
		if !slices.Contains(Scopes, scope) {
			return nil, fmt.Errorf("scope must be read, append or admin, found %q", scope)
		}
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return scopes, nil
}

// Key is what is kept of an API key: enough to recognise it, not enough to use
// it.
type Key struct {
	Name      string    `json:"name"`
	Hash      string    `json:"hash"` // "sha256:" and the hexadecimal SHA-256 of the key
	Scopes    []Scope   `json:"scopes"`
	CreatedAt time.Time `json:"created_at"`
}

// NewKey makes a key of 256 random bits. The secret is returned once and kept
// nowhere.
func NewKey(name string, scopes []Scope, now time.Time) (secret string, key Key) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	secret = KeyPrefix + base64.RawURLEncoding.EncodeToString(random)
	return secret, KeyOf(name, secret, scopes, now)
}

// minSecret is the least length of a key that someone chose, prefix included.
const minSecret = 20

// CheckSecret reports what is wrong with a key that someone chose.
func CheckSecret(secret string) error {
	if !strings.HasPrefix(secret, KeyPrefix) || len(secret) < minSecret {
		return fmt.Errorf("an API key must begin with %s and have at least %d characters", KeyPrefix, minSecret)
	}
	return nil
}

// KeyOf is what is kept of a given secret.
func KeyOf(name, secret string, scopes []Scope, now time.Time) Key {
	return Key{Name: name, Hash: hash(secret), Scopes: scopes, CreatedAt: now.UTC().Truncate(time.Second)}
}

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Keys recognises API keys. It is safe for concurrent use; the zero value knows
// none.
type Keys struct {
	mu   sync.RWMutex
	keys []Key
}

// NewKeys returns a set of keys.
func NewKeys(keys ...Key) *Keys { return &Keys{keys: slices.Clone(keys)} }

// Find returns the key that a secret belongs to, or [ErrUnknownKey]. How long it
// takes does not depend on how much of a secret is right.
func (k *Keys) Find(secret string) (Key, error) {
	sought := []byte(hash(secret))
	k.mu.RLock()
	defer k.mu.RUnlock()
	at := -1
	for i := range k.keys {
		if subtle.ConstantTimeCompare(sought, []byte(k.keys[i].Hash)) == 1 {
			at = i
		}
	}
	if at < 0 {
		return Key{}, ErrUnknownKey
	}
	return k.keys[at], nil
}

// Add makes a key known.
func (k *Keys) Add(key Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = append(k.keys, key)
}

// Len is the number of keys.
func (k *Keys) Len() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.keys)
}

// keyFile is the JSON of a file of keys. Members that this service does not use
// are kept when the file is written.
type keyFile struct {
	Version   int                       `json:"version"`
	Keys      []storedKey               `json:"apiKeys"`
	UpdatedAt time.Time                 `json:"updated_at"`
	Rest      map[string]jsontext.Value `json:",embed"`
}

type storedKey struct {
	Key
	Rest map[string]jsontext.Value `json:",embed"`
}

// LoadKeys reads a file of keys. A file that does not exist holds none; one that
// cannot be read or understood is an error, and never taken for an empty one.
func LoadKeys(path string) (*Keys, error) {
	file, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	keys := &Keys{}
	for _, key := range file.Keys {
		keys.Add(key.Key)
	}
	return keys, nil
}

// AddToFile adds a key to a file of keys and makes the file if there is none. The
// file is replaced as a whole, so that nobody reads half of it; its directory
// must exist.
func AddToFile(path string, key Key) error {
	if err := key.check(); err != nil {
		return fmt.Errorf("add an API key: %w", err)
	}
	file, err := readKeyFile(path)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(file.Keys, func(k storedKey) bool { return k.Name == key.Name }) {
		return fmt.Errorf("%s has a key named %q already, choose another name", path, key.Name)
	}
	file.Keys = append(file.Keys, storedKey{Key: key})
	file.UpdatedAt = key.CreatedAt
	return writeKeyFile(path, file)
}

func readKeyFile(path string) (*keyFile, error) {
	file := &keyFile{Version: 1}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return file, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read API keys: %w", err)
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("read API keys from %s: %w", path, err)
	}
	if file == nil {
		return nil, fmt.Errorf("read API keys from %s: must be an object, found null", path)
	}
	for i := range file.Keys {
		key := &file.Keys[i]
		if err := key.check(); err != nil {
			return nil, fmt.Errorf("read API keys from %s: apiKeys[%d]: %w", path, i, err)
		}
		key.Hash = strings.ToLower(key.Hash) // as Find compares it
	}
	return file, nil
}

func (k Key) check() error {
	digits, ok := strings.CutPrefix(k.Hash, "sha256:")
	if sum, err := hex.DecodeString(digits); !ok || err != nil || len(sum) != sha256.Size {
		return errors.New(`hash: must be "sha256:" and 64 hexadecimal digits`)
	}
	for _, scope := range k.Scopes {
		if !slices.Contains(Scopes, scope) {
			return fmt.Errorf("scopes: must be read, append or admin, found %q", scope)
		}
	}
	return nil
}

func writeKeyFile(path string, file *keyFile) (err error) {
	text, err := json.Marshal(file, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("write API keys: %w", err)
	}
	// CreateTemp makes the file readable by its owner alone.
	temp, err := os.CreateTemp(filepath.Dir(path), ".keys-*")
	if err != nil {
		return fmt.Errorf("write API keys: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name())
		}
	}()
	_, err = temp.Write(append(text, '\n'))
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("write API keys: %w", err)
	}
	if err = os.Rename(temp.Name(), path); err != nil {
		return fmt.Errorf("write API keys: %w", err)
	}
	return nil
}
