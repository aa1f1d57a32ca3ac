package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	koblitz "github.com/decred/dcrd/dcrec/secp256k1/v4"
	koblitzecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/sha3"

	"dixie/auth"
	"dixie/reputation"
)

const (
	verifications = 3000 // in a round
	tokenTarget   = 1.5  // times of the limit
)

// benchTokens measures the verification of tokens and of wallets, in this process,
// against that of the signatures alone.
func benchTokens(ctx context.Context, r *run) error {
	token, signature, err := tokenVerifiers(time.Now())
	if err != nil {
		return err
	}
	if err := r.compareVerifiers(ctx, "verification of an ES256 token", "crypto/ecdsa", token, signature); err != nil {
		return err
	}
	signIn, recovery, err := signInVerifiers(ctx)
	if err != nil {
		return err
	}
	return r.compareVerifiers(ctx, "verification of a sign-in message", "recovery of the signer", signIn, recovery)
}

// compareVerifiers compares the times of one call.
func (r *run) compareVerifiers(ctx context.Context, what, limit string, whole, bare func() error) error {
	calls := min(r.events/10, verifications)
	each := func(verify func() error) func(context.Context) (float64, error) {
		return func(context.Context) (float64, error) {
			start := time.Now()
			for range calls {
				if err := verify(); err != nil {
					return 0, err
				}
			}
			return time.Since(start).Seconds() / float64(calls), nil
		}
	}
	c, err := r.inTurns(ctx, each(whole), each(bare))
	if err != nil {
		return err
	}
	c.by = "the signature; the rest is reading what was signed"
	r.report.add(c.times(what, limit, tokenTarget))
	return nil
}

// tokenVerifiers verify a token, and its signature alone.
func tokenVerifiers(now time.Time) (whole, bare func() error, err error) {
	made, err := auth.NewSigningKey()
	if err != nil {
		return nil, nil, err
	}
	tokens, err := auth.NewTokens(auth.TokenConfig{PrivateKey: made.Private, KeyID: made.KeyID})
	if err != nil {
		return nil, nil, err
	}
	token, _, err := tokens.Issue(auth.Address{1}, now)
	if err != nil {
		return nil, nil, err
	}
	block, _ := pem.Decode([]byte(made.Private))
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("a signing key is a %T", parsed)
	}
	digest := sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
	signature, err := ecdsa.SignASN1(nil, key, digest[:])
	if err != nil {
		return nil, nil, err
	}
	whole = func() error { _, err := tokens.Verify(token, now); return err }
	bare = func() error {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
			return errors.New("a signature is not valid")
		}
		return nil
	}
	return whole, bare, nil
}

// signInVerifiers verify that a wallet signs in, and recover the signer alone. The
// nonce may be used again: remembering it is a commit of the database.
func signInVerifiers(ctx context.Context) (whole, bare func() error, err error) {
	now := time.Unix(1_770_000_000, 0).UTC()
	signIn, err := auth.NewSignIn(auth.SignInConfig{
		Domains: []string{"dixie.example"}, Chains: []uint64{1}, Nonces: anyNonce{}, Now: func() time.Time { return now },
	})
	if err != nil {
		return nil, nil, err
	}
	secret := sha256.Sum256([]byte("wallet of the benchmark"))
	key := koblitz.PrivKeyFromBytes(secret[:])
	wallet := keccak(key.PubKey().SerializeUncompressed()[1:])
	message := auth.Message{
		Domain: "dixie.example", Address: auth.Address(wallet[12:]), URI: "https://dixie.example/login", ChainID: 1,
		Nonce: "k7Qw2Zt9Lm4Xb8Rc", IssuedAt: reputation.TimestampOf(now),
	}.String()
	hash := keccak(fmt.Appendf(nil, "\x19Ethereum Signed Message:\n%d%s", len(message), message))
	compact := koblitzecdsa.SignCompact(key, hash, false)
	signature := "0x" + hex.EncodeToString(append(compact[1:len(compact):len(compact)], compact[0]))
	whole = func() error { _, err := signIn.Verify(ctx, message, signature); return err }
	bare = func() error { _, _, err := koblitzecdsa.RecoverCompact(compact, hash); return err }
	return whole, bare, nil
}

func keccak(data []byte) []byte {
	h := sha3.NewLegacyKeccak256()
	h.Write(data)
	return h.Sum(nil)
}

// anyNonce lets every nonce pass.
type anyNonce struct{}

func (anyNonce) Use(context.Context, string, time.Time, time.Time) (bool, error) { return true, nil }
