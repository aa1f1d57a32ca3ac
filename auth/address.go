package auth

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/sha3"
)

// ErrAddress says that a text is not the address of a wallet.
var ErrAddress = errors.New("must be a wallet address: 0x and 40 hexadecimal digits")

// Address is the address of an Ethereum account. Addresses are compared by their
// bytes, however they were spelled.
type Address [20]byte

// ParseAddress reads 0x and 40 hexadecimal digits of any case. Digits of mixed
// case carry a checksum (EIP-55), which has to be right: one that is wrong is a
// slip of whoever typed it. The error matches [ErrAddress].
func ParseAddress(text string) (Address, error) {
	var a Address
	digits, ok := strings.CutPrefix(text, "0x")
	if !ok || len(digits) != hex.EncodedLen(len(a)) {
		return a, ErrAddress
	}
	if _, err := hex.Decode(a[:], []byte(digits)); err != nil {
		return Address{}, ErrAddress
	}
	if digits != strings.ToLower(digits) && digits != strings.ToUpper(digits) && a.String() != text {
		return Address{}, fmt.Errorf("%w, whose mixed case is a wrong checksum (EIP-55)", ErrAddress)
	}
	return a, nil
}

// String is the address with its checksum (EIP-55).
func (a Address) String() string {
	text := []byte("0x" + hex.EncodeToString(a[:]))
	digits := text[2:]
	hash := keccak256(digits)
	for i, c := range digits {
		nibble := hash[i/2] >> 4
		if i%2 == 1 {
			nibble = hash[i/2] & 0xf
		}
		if c >= 'a' && nibble >= 8 {
			digits[i] = c - 'a' + 'A'
		}
	}
	return string(text)
}

// keccak256 is Ethereum's hash, which is older than SHA3-256 and differs from it.
func keccak256(data ...[]byte) [32]byte {
	h := sha3.NewLegacyKeccak256()
	for _, d := range data {
		_, _ = h.Write(d) // never fails
	}
	var sum [32]byte
	h.Sum(sum[:0])
	return sum
}
