package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"sync"
	"time"

	"dixie/reputation"
)

// A NonceStore remembers the nonces that have signed in. It is safe for
// concurrent use.
type NonceStore interface {
	// Use remembers a nonce until a time and reports whether it was free: used
	// never before, or only until a time that is not after now. Of any number of
	// calls with a nonce, also by other processes that share the store, one is
	// told true. The time given to one call must not be before now.
	//
	// With an error the nonce may or may not be remembered. It matches
	// [reputation.ErrUnavailable] when trying again can help.
	Use(ctx context.Context, nonce string, now, until time.Time) (free bool, err error)
}

// maxMemoryNonces bounds a [MemoryNonces] to some tens of MiB.
const maxMemoryNonces = 1 << 18

// minSweep is how many nonces are kept before expired ones are looked for.
const minSweep = 1 << 10

// MemoryNonces remembers nonces in the memory of this process: another process,
// and this one after a restart, knows nothing of them. The zero value is empty.
type MemoryNonces struct {
	mu        sync.Mutex
	used      map[string]time.Time // until when
	sweepAt   int                  // number of nonces at which expired ones are removed
	fullUntil time.Time            // there is no room before this time
}

// Use is that of [NonceStore]. While 262,144 nonces are remembered that have not
// expired, others are refused.
func (m *MemoryNonces) Use(_ context.Context, nonce string, now, until time.Time) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if old, ok := m.used[nonce]; ok && old.After(now) {
		return false, nil
	}
	if !m.makeRoom(now) {
		return false, fmt.Errorf("remember a nonce: %d are remembered, which is the limit: %w", maxMemoryNonces, reputation.ErrUnavailable)
	}
	if m.used == nil {
		m.used = map[string]time.Time{}
	}
	m.used[nonce] = until
	return true, nil
}

// makeRoom reports whether there is room for one more. It removes expired nonces
// each time that their number has doubled, and once in a second while there is no
// room, so that a call costs the same on average, however many there are.
func (m *MemoryNonces) makeRoom(now time.Time) bool {
	if len(m.used) < max(m.sweepAt, minSweep) {
		return true
	}
	if now.Before(m.fullUntil) {
		return false
	}
	maps.DeleteFunc(m.used, func(_ string, until time.Time) bool { return !until.After(now) })
	m.sweepAt = min(2*len(m.used), maxMemoryNonces)
	if len(m.used) < maxMemoryNonces {
		return true
	}
	m.fullUntil = now.Add(time.Second)
	return false
}

// The parts of a server nonce, in bytes.
const (
	sizeRandom      = 12
	sizeTime        = 5 // seconds since 1970
	sizeMAC         = 12
	sizeServerNonce = sizeRandom + sizeTime + sizeMAC
)

// lenServerNonce is the length of a server nonce in base 62: its 232 bits need
// 39 digits.
const lenServerNonce = 39

var (
	errNotOurNonce  = errors.New("the nonce was not issued here")
	errNonceExpired = errors.New("the nonce has expired")
)

// nonceKey signs server nonces, so that nothing has to be remembered about those
// that are outstanding.
type nonceKey []byte

// issue is 96 random bits, the time, and a code that only holders of the key can
// compute for them, in base 62: ERC-4361 allows letters and digits alone.
func (k nonceKey) issue(now time.Time) string {
	var nonce [sizeServerNonce]byte
	_, _ = rand.Read(nonce[:sizeRandom]) // never fails
	var seconds [8]byte
	binary.BigEndian.PutUint64(seconds[:], uint64(now.Unix()))
	copy(nonce[sizeRandom:], seconds[8-sizeTime:])
	copy(nonce[sizeRandom+sizeTime:], k.mac(nonce[:sizeRandom+sizeTime]))
	text := new(big.Int).SetBytes(nonce[:]).Text(62)
	return strings.Repeat("0", lenServerNonce-len(text)) + text
}

// check reports whether a nonce of letters and digits was issued with the key, less
// than age ago and not more than skew ahead.
func (k nonceKey) check(text string, now time.Time, age, skew time.Duration) error {
	number, ok := new(big.Int).SetString(text, 62)
	if !ok || len(text) != lenServerNonce || number.BitLen() > 8*sizeServerNonce {
		return errNotOurNonce
	}
	var nonce [sizeServerNonce]byte
	number.FillBytes(nonce[:])
	signed, mac := nonce[:sizeRandom+sizeTime], nonce[sizeRandom+sizeTime:]
	if !hmac.Equal(mac, k.mac(signed)) {
		return errNotOurNonce
	}
	var seconds [8]byte
	copy(seconds[8-sizeTime:], signed[sizeRandom:])
	issued := time.Unix(int64(binary.BigEndian.Uint64(seconds[:])), 0)
	if now.Sub(issued) >= age || issued.Sub(now) > skew {
		return errNonceExpired
	}
	return nil
}

func (k nonceKey) mac(data []byte) []byte {
	h := hmac.New(sha256.New, k)
	_, _ = h.Write(data) // never fails
	return h.Sum(nil)[:sizeMAC]
}
