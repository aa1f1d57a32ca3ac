// Package auth knows who is asking and what they may do: API keys, tokens, and
// the allowlist of wallets and keys.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// ErrUnknownKey says that a key was never issued, or has been removed.
var ErrUnknownKey = errors.New("unknown API key")

// KeyPrefix begins every API key, so that a leaked one can be recognised.
const KeyPrefix = "dxk_"

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

// hashPrefix begins the text of a hash, and says what kind it is.
const hashPrefix = "sha256:"

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// parseHash reads what [hash] writes, also with digits in capitals; false for anything
// else.
func parseHash(text string) (sum [sha256.Size]byte, ok bool) {
	digits, ok := strings.CutPrefix(text, hashPrefix)
	if !ok || len(digits) != hex.EncodedLen(len(sum)) {
		return sum, false
	}
	_, err := hex.Decode(sum[:], []byte(digits))
	return sum, err == nil
}

// SameSecret reports whether a secret that was given is the one that is wanted. How
// long it takes depends on neither. No secret is the same as an empty one: what is
// not configured opens nothing.
func SameSecret(given, want string) bool {
	g, w := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(g[:], w[:]) == 1 && want != ""
}

// check reports what is wrong with a key that a file holds.
func (k Key) check() error {
	if _, ok := parseHash(k.Hash); !ok {
		return errors.New(`hash: must be "sha256:" and 64 hexadecimal digits`)
	}
	for _, scope := range k.Scopes {
		if !slices.Contains(Scopes, scope) {
			return fmt.Errorf("scopes: must be read, append or admin, found %q", scope)
		}
	}
	return nil
}

// maxName is the greatest length of a key's name, in bytes.
const maxName = 100

// CheckKeyName reports what is wrong with the name of a new key. It stands in logs,
// and is what the key is removed by.
func CheckKeyName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || strings.TrimSpace(name) != name {
		return fmt.Errorf("a key's name must have 1 to %d bytes and no space around it, found %q", maxName, name[:min(len(name), maxName)])
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("a key's name must be printable, found %q", name)
	}
	return nil
}

// Keys recognises API keys. It is safe for concurrent use; the zero value knows
// none.
type Keys struct {
	mu   sync.RWMutex
	keys map[[sha256.Size]byte]Key // by hash
}

// NewKeys returns a set of keys.
func NewKeys(keys ...Key) *Keys {
	k := &Keys{}
	for _, key := range keys {
		k.Add(key)
	}
	return k
}

// Find returns the key that a secret belongs to, or [ErrUnknownKey]. How long it
// takes does not depend on how much of a secret is right: only hashes are looked
// up, and nobody can choose the hash of a secret to be close to another.
func (k *Keys) Find(secret string) (Key, error) {
	key, ok := k.find(sha256.Sum256([]byte(secret)))
	if !ok {
		return Key{}, ErrUnknownKey
	}
	return key, nil
}

// find returns the key whose secret has a hash.
func (k *Keys) find(sum [sha256.Size]byte) (Key, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	key, ok := k.keys[sum]
	return key, ok
}

// Add makes a key known, in place of one with the same secret. A key whose hash is none
// is passed over: no secret could be found to be its own.
func (k *Keys) Add(key Key) {
	sum, ok := parseHash(key.Hash)
	if !ok {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		k.keys = map[[sha256.Size]byte]Key{}
	}
	k.keys[sum] = key
}

// Len is the number of keys.
func (k *Keys) Len() int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return len(k.keys)
}
