package auth_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"dixie/auth"
)

// BenchmarkVerify is one token of either kind.
func BenchmarkVerify(b *testing.B) {
	for name, config := range map[string]auth.TokenConfig{
		"ES256": {PrivateKey: sec1}, "HS256": {PrivateKey: hmacSecret},
	} {
		b.Run(name, func(b *testing.B) {
			made := tokens(b, config)
			token := issue(b, made)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := made.Verify(token, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerifyRatio tells how much a token costs compared to its signature alone. The
// two take turns, so that what else the machine does slows both.
func BenchmarkVerifyRatio(b *testing.B) {
	made := tokens(b, auth.TokenConfig{PrivateKey: sec1})
	token := issue(b, made)
	key := privateKey(b, pkcs8)
	digest := sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
	signature, err := ecdsa.SignASN1(nil, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	var whole, bare time.Duration
	for b.Loop() {
		start := time.Now()
		_, err := made.Verify(token, now)
		middle := time.Now()
		ok := ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature)
		whole, bare = whole+middle.Sub(start), bare+time.Since(middle)
		if err != nil || !ok {
			b.Fatal(err, ok)
		}
	}
	b.ReportMetric(float64(whole)/float64(bare), "x-of-ECDSA")
}

func BenchmarkIssue(b *testing.B) {
	made := tokens(b, auth.TokenConfig{PrivateKey: sec1})
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := made.Issue(wallet, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	var keys auth.Keys
	var secret string
	for range 1000 {
		var key auth.Key
		secret, key = auth.NewKey("a", auth.Scopes, now)
		keys.Add(key)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := keys.Find(secret); err != nil {
			b.Fatal(err)
		}
	}
}
