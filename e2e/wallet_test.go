package e2e

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/sha3"
)

// wallet is an Ethereum account. What it signs is made here, and not by the
// service's own code.
type wallet struct {
	key     *secp256k1.PrivateKey
	address string // by EIP-55
}

func newWallet(t *testing.T) wallet {
	t.Helper()
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	sum := keccak(key.PubKey().SerializeUncompressed()[1:])
	return wallet{key: key, address: checksummed(sum[12:])}
}

func keccak(data []byte) []byte {
	h := sha3.NewLegacyKeccak256()
	h.Write(data)
	return h.Sum(nil)
}

// checksummed is an address with the checksum of EIP-55: a letter is a capital
// where the hash of the address has a digit of 8 or more.
func checksummed(address []byte) string {
	digits := []byte(hex.EncodeToString(address))
	sum := hex.EncodeToString(keccak(digits))
	for i, digit := range digits {
		if digit >= 'a' && sum[i] >= '8' {
			digits[i] = digit - 'a' + 'A'
		}
	}
	return "0x" + string(digits)
}

// signedMessage is the body of a sign-in.
type signedMessage struct {
	Message   string `json:"message"`
	Signature string `json:"signature"`
}

// message is what a site asks a wallet to sign (ERC-4361).
func (w wallet) message(origin, nonce string) string {
	_, domain, _ := strings.Cut(origin, "://")
	return fmt.Sprintf("%s wants you to sign in with your Ethereum account:\n%s\n\nSign in to Dixie.\n\n"+
		"URI: %s/login\nVersion: 1\nChain ID: 1\nNonce: %s\nIssued At: %s",
		domain, w.address, origin, nonce, time.Now().UTC().Format(time.RFC3339))
}

// sign signs a message as wallets do (EIP-191).
func (w wallet) sign(message string) signedMessage {
	sum := keccak(fmt.Appendf(nil, "\x19Ethereum Signed Message:\n%d%s", len(message), message))
	compact := ecdsa.SignCompact(w.key, sum, false) // v, r, s
	return signedMessage{Message: message, Signature: "0x" + hex.EncodeToString(append(compact[1:], compact[0]))}
}

// signIn signs in and returns the token.
func (w wallet) signIn(t *testing.T, c *client) string {
	t.Helper()
	var nonce struct{ Nonce string }
	c.get("/api/auth/nonce").want(http.StatusOK).into(&nonce)
	var session struct{ Token, Wallet, ExpiresIn string }
	c.post("/api/auth/siwe", w.sign(w.message(site(t), nonce.Nonce))).want(http.StatusOK).into(&session)
	if session.Wallet != w.address || session.ExpiresIn != "1h" {
		t.Errorf("signed in as %s for %s, want %s for 1h", session.Wallet, session.ExpiresIn, w.address)
	}
	return session.Token
}

// member is a wallet that is on the allowlist of every replica, and off it after
// the test.
func member(t *testing.T) wallet {
	t.Helper()
	w := newWallet(t)
	admit(t, map[string]any{"type": "wallet", "value": w.address}, w.address)
	// A nonce of our own may be refused, but only after the wallet was let in.
	known(t, func(c *client) bool {
		a := c.post("/api/auth/siwe", w.sign(w.message(site(t), rand.Text())))
		return a.Status == http.StatusOK || a.Status == http.StatusUnauthorized
	})
	return w
}

// keyed is a client with an API key that every replica knows, and none after the
// test.
func keyed(t *testing.T, scopes ...string) *client {
	t.Helper()
	name := unique("key")
	var added struct{ Data struct{ Value string } }
	admit(t, map[string]any{"type": "apiKey", "name": name, "scopes": scopes}, name).into(&added)
	key := added.Data.Value
	known(t, func(c *client) bool {
		a := c.bearer(key).get("/api/reputation/" + unique("nft"))
		return a.Status == http.StatusNotFound || a.Status == http.StatusForbidden
	})
	return anyone(t, deployed(t)).bearer(key)
}

// admin is a client with the administrators' key.
func admin(t *testing.T) *client {
	t.Helper()
	return anyone(t, deployed(t)).with("X-Admin-Key", variable(t, adminVariable))
}

// admit adds an entry to the allowlist, which goes with the test.
func admit(t *testing.T, entry map[string]any, name string) *answer {
	t.Helper()
	c := admin(t)
	added := c.post("/api/admin/allowlist", entry).want(http.StatusCreated)
	t.Cleanup(func() {
		ctx, cancel := cleaning()
		defer cancel()
		if a, err := c.try(ctx, http.MethodDelete, "/api/admin/allowlist/"+name, nil); err != nil || a.Status != http.StatusOK {
			t.Errorf("take %s off the allowlist: %+v, %v", name, a, err)
		}
	})
	return added
}

// knowing is how often in a row a deployment must know what was added. Where its
// replicas have no addresses that we know, each should be asked once at least.
const knowing = 4

// known waits until every replica knows what was added to the allowlist, which
// takes two seconds at most.
func known(t *testing.T, knows func(*client) bool) {
	t.Helper()
	for _, url := range doors(t) {
		c, row := anyone(t, url), 0
		eventually(t, "what was added to the allowlist is known at "+url, func() bool {
			if row++; !knows(c) {
				row = 0
			}
			return row >= knowing
		})
	}
}
