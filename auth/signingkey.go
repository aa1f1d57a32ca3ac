package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	pemBegin = "-----BEGIN"

	// maxKeyText is the greatest size of a setting that holds keys, in bytes.
	maxKeyText = 64 << 10

	// minHMACSecret is the least length of an HS256 secret, in characters: as many
	// as the hash has bytes (RFC 7518 §3.2).
	minHMACSecret = 32
)

// isPEM reports whether a setting holds keys in PEM form, and not a secret.
func isPEM(text string) bool { return strings.HasPrefix(strings.TrimSpace(text), pemBegin) }

// unescape gives PEM text its lines back. Stores of secrets deliver a line feed as
// the two characters \n.
func unescape(text string) string {
	return strings.NewReplacer(`\r\n`, "\n", `\n`, "\n", `\r`, "").Replace(text)
}

// nextBlock reads the first PEM block of a text. before is what stands in front of it.
// A block that cannot be decoded is an error, and not passed over.
func nextBlock(text string) (before string, block *pem.Block, rest string, err error) {
	before, _, _ = strings.Cut(text, pemBegin)
	block, after := pem.Decode([]byte(text[len(before):]))
	if block == nil || strings.Count(text[len(before):len(text)-len(after)], pemBegin) != 1 {
		return "", nil, "", errors.New("is not complete PEM; its line feeds must be kept, or written as \\n")
	}
	return strings.TrimSpace(before), block, strings.TrimSpace(string(after)), nil
}

// parsePrivateKey reads one P-256 key, PEM-encoded in the form of SEC 1 or PKCS #8.
// Curve parameters before it, as openssl writes them, are passed over. No error
// quotes the key.
func parsePrivateKey(text string) (*ecdsa.PrivateKey, error) {
	if len(text) > maxKeyText {
		return nil, errKeyTextTooLong
	}
	_, block, rest, err := nextBlock(unescape(text))
	if err == nil && block.Type == "EC PARAMETERS" {
		_, block, rest, err = nextBlock(rest)
	}
	if err != nil {
		return nil, err
	}
	if rest != "" {
		return nil, errors.New("must hold one private key, found more text after it")
	}
	key, err := decodePrivateKey(block)
	if err != nil {
		return nil, err
	}
	if err := checkCurve(key.Curve); err != nil {
		return nil, err
	}
	return key, nil
}

var errKeyTextTooLong = fmt.Errorf("must not be longer than %d bytes", maxKeyText)

func decodePrivateKey(block *pem.Block) (*ecdsa.PrivateKey, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["Proc-Type"] != "" {
		return nil, errors.New("must be a private key without a passphrase, found an encrypted one")
	}
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err := x509.ParseECPrivateKey(block.Bytes)
		if err != nil {
			return nil, notP256(block, err)
		}
		return key, nil
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, notP256(block, err)
		}
		if key, ok := key.(*ecdsa.PrivateKey); ok {
			return key, nil
		}
		return nil, fmt.Errorf("%w, found %s", errNotP256, kindOf(key))
	default:
		return nil, fmt.Errorf("%w, found a PEM block %q", errNotP256, block.Type)
	}
}

func checkCurve(curve elliptic.Curve) error {
	if curve != elliptic.P256() {
		return fmt.Errorf("%w, found one on %s", errNotP256, curve.Params().Name)
	}
	return nil
}

var errNotP256 = errors.New("must be an EC key on P-256 (prime256v1)")

// secp256k1 is the object identifier of Ethereum's curve (SEC 2 §A.2.1), which is easily
// taken for P-256 and not known to the standard library.
var secp256k1 = []byte{0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a}

// notP256 explains why a key cannot be decoded.
func notP256(block *pem.Block, err error) error {
	if bytes.Contains(block.Bytes, secp256k1) {
		return fmt.Errorf("%w, found one on secp256k1", errNotP256)
	}
	return fmt.Errorf("%w: %w", errNotP256, err)
}

// kindOf names a key's kind for messages.
func kindOf(key any) string {
	switch key.(type) {
	case *rsa.PrivateKey, *rsa.PublicKey:
		return "an RSA key"
	case ed25519.PrivateKey, ed25519.PublicKey:
		return "an Ed25519 key"
	default:
		return fmt.Sprintf("a %T", key)
	}
}

// checkHMACSecret reports what is wrong with an HS256 secret. The text of a key pair
// is never one: whoever knows the public half could guess at it.
func checkHMACSecret(secret string, allowShort bool) error {
	switch {
	case secret == "":
		return errors.New("is empty: set an EC private key in PEM form, which dixie keygen makes, or an HS256 secret")
	case strings.Contains(secret, pemBegin) || strings.Contains(secret, "LS0tLS1CRUdJTi"): // its base64
		return errors.New("holds PEM where an HS256 secret was expected: a key must begin with -----BEGIN, without quotes and not in base64")
	case len(secret) > maxKeyText:
		return errKeyTextTooLong
	case utf8.RuneCountInString(secret) < minHMACSecret && !allowShort:
		return fmt.Errorf("an HS256 secret must have at least %d characters, found %d characters", minHMACSecret, utf8.RuneCountInString(secret))
	}
	return nil
}

// publicKey is a public key with the name that tokens call it by.
type publicKey struct {
	kid   string
	named bool // the kid was given, and is not the key's thumbprint
	key   *ecdsa.PublicKey
}

// parsePublicKeys reads any number of P-256 public keys, PEM-encoded as PKIX. A line
// "kid: name" before a block gives its key a name; else it is the thumbprint.
func parsePublicKeys(text string) ([]publicKey, error) {
	if len(text) > maxKeyText {
		return nil, errKeyTextTooLong
	}
	var keys []publicKey
	for rest := strings.TrimSpace(unescape(text)); rest != ""; {
		before, block, after, err := nextBlock(rest)
		if err != nil {
			return nil, fmt.Errorf("key %d %w", len(keys)+1, err)
		}
		key, err := parsePublicKey(before, block)
		if err != nil {
			return nil, fmt.Errorf("key %d %w", len(keys)+1, err)
		}
		keys, rest = append(keys, key), after
	}
	return keys, nil
}

func parsePublicKey(before string, block *pem.Block) (publicKey, error) {
	if strings.Contains(block.Type, "PRIVATE") {
		return publicKey{}, errors.New(`is a private key: list its public half, which "openssl ec -pubout" writes`)
	}
	if block.Type != "PUBLIC KEY" {
		return publicKey{}, fmt.Errorf("must be a PEM block \"PUBLIC KEY\", found %q", block.Type)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return publicKey{}, notP256(block, err)
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok {
		return publicKey{}, fmt.Errorf("%w, found %s", errNotP256, kindOf(parsed))
	}
	if err := checkCurve(key.Curve); err != nil {
		return publicKey{}, err
	}
	if before == "" {
		return publicKey{kid: thumbprint(key), key: key}, nil
	}
	kid, ok := strings.CutPrefix(before, "kid:")
	if kid = strings.TrimSpace(kid); !ok || checkKeyID(kid) != nil {
		return publicKey{}, errors.New(`may have one line before it, "kid: " and its name, found other text`)
	}
	return publicKey{kid: kid, named: true, key: key}, nil
}

// checkKeyID reports what is wrong with a kid.
func checkKeyID(kid string) error {
	printable := !strings.ContainsFunc(kid, func(r rune) bool { return r <= ' ' || r > '~' })
	if kid == "" || len(kid) > 128 || !printable {
		return errors.New("must have 1 to 128 printable ASCII characters without spaces")
	}
	return nil
}

// SigningKey is an ES256 key pair, as text.
type SigningKey struct {
	Private string // PKCS #8, PEM
	Public  string // PKIX, PEM
	KeyID   string // RFC 7638 thumbprint
}

// NewSigningKey makes an ES256 key pair.
func NewSigningKey() (SigningKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return SigningKey{}, fmt.Errorf("make a signing key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return SigningKey{}, fmt.Errorf("make a signing key: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return SigningKey{}, fmt.Errorf("make a signing key: %w", err)
	}
	return SigningKey{
		Private: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		Public:  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		KeyID:   thumbprint(&key.PublicKey),
	}, nil
}
