package auth

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"

	koblitz "github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

const (
	// sizeSignature is the size of an account's signature in bytes: r, s and v.
	sizeSignature = 65
	// maxSignature bounds those of contracts, which have any form.
	maxSignature = 4 << 10
)

// hashMessage is the hash that a wallet signs for a text (EIP-191, version 0x45).
// It contains the length in bytes.
func hashMessage(text string) [32]byte {
	return keccak256([]byte("\x19Ethereum Signed Message:\n"+strconv.Itoa(len(text))), []byte(text))
}

// parseSignature reads 0x and bytes in hexadecimal.
func parseSignature(text string) ([]byte, error) {
	digits, ok := strings.CutPrefix(text, "0x")
	if !ok || len(digits) > hex.EncodedLen(maxSignature) {
		return nil, &MessageError{"signature", fmt.Sprintf("must be 0x and at most %d bytes in hexadecimal", maxSignature)}
	}
	signature, err := hex.DecodeString(digits)
	if err != nil {
		return nil, &MessageError{"signature", "must be 0x and an even number of hexadecimal digits"}
	}
	return signature, nil
}

// recoverAddress is the account that signed a hash. The signature is r, s and v,
// where v is 27 or 28, or 0 or 1 as some wallets write it. A high s is refused,
// so that nobody can write a second signature from a given one (EIP-2).
func recoverAddress(hash [32]byte, signature []byte) (Address, error) {
	if len(signature) != sizeSignature {
		return Address{}, fmt.Errorf("a signature of an account has %d bytes, found %d", sizeSignature, len(signature))
	}
	v := signature[64]
	switch v {
	case 0, 1:
		v += 27
	case 27, 28:
	default:
		return Address{}, fmt.Errorf("v must be 27, 28, 0 or 1, found %d", v)
	}
	var s koblitz.ModNScalar
	if overflow := s.SetByteSlice(signature[32:64]); !overflow && s.IsOverHalfOrder() {
		return Address{}, errors.New("s must be in the lower half of its range")
	}
	var compact [sizeSignature]byte // v comes first there
	compact[0] = v
	copy(compact[1:], signature[:64])
	key, _, err := ecdsa.RecoverCompact(compact[:], hash[:]) // refuses r and s that are 0 or too large
	if err != nil {
		return Address{}, err
	}
	return addressOf(key), nil
}

// addressOf is the last 20 bytes of the hash of a public key.
func addressOf(key *koblitz.PublicKey) Address {
	hash := keccak256(key.SerializeUncompressed()[1:])
	return Address(hash[12:])
}
