package reputation

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

// StreamHash is the event stream hash of protocol §7: the SHA-256 of the RFC 8785
// form of the array of events in the order in which they are added. Memory does
// not grow with the events. The zero value has none.
type StreamHash struct {
	sum   hash.Hash
	count int64
}

// Add appends an event to the array, in whatever spelling. A value that has no
// canonical form, which no log holds, counts as it is spelled.
func (h *StreamHash) Add(event []byte) {
	canonical, err := Canonical(event)
	if err != nil {
		canonical = event
	}
	h.open()
	if h.count > 0 {
		h.sum.Write([]byte{','})
	}
	h.sum.Write(canonical)
	h.count++
}

func (h *StreamHash) open() {
	if h.sum == nil {
		h.sum = sha256.New()
		h.sum.Write([]byte{'['})
	}
}

// Count is how many events were added.
func (h *StreamHash) Count() int64 { return h.count }

// Sum ends the array and is its hash, in 64 hexadecimal digits without a prefix.
// It is called once, after the last Add.
func (h *StreamHash) Sum() string {
	h.open()
	h.sum.Write([]byte{']'})
	return hex.EncodeToString(h.sum.Sum(nil))
}
