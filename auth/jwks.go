package auth

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// jwk is a public key as RFC 7517 and RFC 7518 §6.2 write it.
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	Y         string `json:"y"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
}

// coordinateSize is the size of a coordinate on P-256, in bytes. Leading zeros
// belong to it (RFC 7518 §6.2.1.2).
const coordinateSize = 32

// coordinates are a P-256 key's, base64url-encoded.
func coordinates(key *ecdsa.PublicKey) (x, y string) {
	point, err := key.Bytes() // 4, x, y (SEC 1 §2.3.3)
	if err != nil {
		panic(fmt.Sprintf("a public key is not on its curve: %v", err)) // it was checked when it was read
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode(point[1 : 1+coordinateSize]), encode(point[1+coordinateSize:])
}

// thumbprint is a key's RFC 7638 SHA-256 thumbprint.
func thumbprint(key *ecdsa.PublicKey) string {
	x, y := coordinates(key)
	sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// keySet is the JWK set (RFC 7517 §5) of public keys, which may be none.
func keySet(keys []publicKey) []byte {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, k := range keys {
		x, y := coordinates(k.key)
		set.Keys = append(set.Keys, jwk{KeyType: "EC", Curve: "P-256", X: x, Y: y, Use: "sig", Algorithm: "ES256", KeyID: k.kid})
	}
	text, err := json.Marshal(set)
	if err != nil {
		panic(fmt.Sprintf("encode a JWK set: %v", err)) // it holds only strings
	}
	return text
}
