package auth

import "io"

// What tests measure and check alone.
var HashMessage = hashMessage

// MaxMemoryNonces is how many nonces a MemoryNonces holds.
const MaxMemoryNonces = maxMemoryNonces

// ContractAnswer is what a node's answer says that a contract returned.
func ContractAnswer(body io.Reader) ([]byte, error) { return readAnswer(body) }

// AddressOf is the address of an uncompressed public key.
func AddressOf(public []byte) Address {
	hash := keccak256(public[1:])
	return Address(hash[12:])
}
