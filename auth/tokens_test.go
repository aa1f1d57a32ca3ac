package auth_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dixie/auth"
)

// One key in the forms that openssl writes.
const (
	// openssl ecparam -genkey -name prime256v1 -noout
	sec1 = `-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIHlWe8jItZb87Y25HgArPLaJZdKbKRRGkR2JAL3miVMdoAoGCCqGSM49
AwEHoUQDQgAEepP+dHWD3ltEPwHZwM5G0FasxSZvnsW+AXTQkmvwYWadoAqczusZ
hDvEz+MG6e6IPgH6N3R1HQlTd6IHC6oXgg==
-----END EC PRIVATE KEY-----
`
	// openssl pkcs8 -topk8 -nocrypt
	pkcs8 = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgeVZ7yMi1lvztjbke
ACs8toll0pspFEaRHYkAveaJUx2hRANCAAR6k/50dYPeW0Q/AdnAzkbQVqzFJm+e
xb4BdNCSa/BhZp2gCpzO6xmEO8TP4wbp7og+Afo3dHUdCVN3ogcLqheC
-----END PRIVATE KEY-----
`
	// openssl ec -pubout
	public = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEepP+dHWD3ltEPwHZwM5G0FasxSZv
nsW+AXTQkmvwYWadoAqczusZhDvEz+MG6e6IPgH6N3R1HQlTd6IHC6oXgg==
-----END PUBLIC KEY-----
`
	// openssl writes this before a key without -noout.
	ecParameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"

	keySet = `{"keys":[{"kty":"EC","crv":"P-256","x":"epP-dHWD3ltEPwHZwM5G0FasxSZvnsW-AXTQkmvwYWY","y":"naAKnM7rGYQ7xM_jBunuiD4B-jd0dR0JU3eiBwuqF4I","use":"sig","alg":"ES256","kid":"dixie-es256-v1"}]}`

	// issued is a token that the key signed once, valid at now.
	issued = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImRpeGllLWVzMjU2LXYxIiwidHlwIjoiYXQrand0In0.eyJhdWQiOiJkaXhpZS1iZmYiLCJleHAiOjE3NzIwMjA4MDAsImlhdCI6MTc3MjAxNzIwMCwiaXNzIjoiZGl4aWUtYmZmIiwianRpIjoiUWRKV0htLUxWM3FFck5vSklWRllYQSIsInJvbGUiOiJ0ZWFtIiwic3ViIjoiMHg1YUFlYjYwNTNGM0U5NEM5YjlBMDlmMzM2Njk0MzVFN0VmMUJlQWVkIn0.ueA6D_SPvRx9gUECAMotX-W4DBrnNXj8q9tg4GNKb4tQYn7xeuCagnvtqG1y5fXJiZaA7p4pyqGNm1DM-xhEIA"

	hmacSecret = "a secret that has 32 characters."
)

var wallet = mustAddress("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")

func mustAddress(text string) auth.Address {
	a, err := auth.ParseAddress(text)
	if err != nil {
		panic(err)
	}
	return a
}

// tokens are those of a configuration.
func tokens(t testing.TB, config auth.TokenConfig) *auth.Tokens {
	t.Helper()
	made, err := auth.NewTokens(config)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// issue issues a token for wallet at now.
func issue(t testing.TB, from *auth.Tokens) string {
	t.Helper()
	token, _, err := from.Issue(wallet, now)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// wantValid checks that a token is wallet's, and valid now.
func wantValid(t testing.TB, by *auth.Tokens, token string) {
	t.Helper()
	claims, err := by.Verify(token, now)
	if err != nil || claims.Wallet != wallet || claims.Role != auth.RoleTeam {
		t.Errorf("claims %+v, %v", claims, err)
	}
}

// wantInvalid checks that a token is not valid now, and says nothing.
func wantInvalid(t testing.TB, by *auth.Tokens, token string) {
	t.Helper()
	claims, err := by.Verify(token, now)
	if !errors.Is(err, auth.ErrInvalidToken) || claims != (auth.Claims{}) {
		t.Errorf("claims %+v, %v; want ErrInvalidToken", claims, err)
	}
}

// privateKey is the key of a PEM text in PKCS #8.
func privateKey(t testing.TB, text string) *ecdsa.PrivateKey {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*ecdsa.PrivateKey)
}

func encodePrivate(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func encodePublic(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func segment(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// signer signs the first two segments of a token.
type signer func(input string) []byte

// mint makes a token of a header and claims, whatever they are.
func mint(header, claims string, sign signer) string {
	input := segment(header) + "." + segment(claims)
	return input + "." + segment(string(sign(input)))
}

func byHS256(secret string) signer {
	return func(input string) []byte {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
}

func byES256(key *ecdsa.PrivateKey) signer {
	return func(input string) []byte {
		digest := sha256.Sum256([]byte(input))
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			panic(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
}

func unsigned(string) []byte { return nil }

// claimsWith are good claims, changed: a nil value removes one.
func claimsWith(changes map[string]any) string {
	claims := map[string]any{
		"sub": wallet.String(), "role": "team", "iss": "dixie-bff", "aud": "dixie-bff",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "jti": "x",
	}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return string(text)
}

const es256Header = `{"alg":"ES256","typ":"at+jwt","kid":"dixie-es256-v1"}`

func TestKeyForms(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"SEC 1":              sec1,
		"PKCS #8":            pkcs8,
		"with parameters":    ecParameters + sec1,
		`with \n`:            strings.ReplaceAll(sec1, "\n", `\n`),
		`PKCS #8 with \n`:    strings.ReplaceAll(pkcs8, "\n", `\n`),
		`with \r\n`:          strings.ReplaceAll(sec1, "\n", `\r\n`),
		"with CR LF":         strings.ReplaceAll(sec1, "\n", "\r\n"),
		"without last line":  strings.TrimSpace(sec1),
		"with space around":  " \n" + pkcs8 + "\n\n",
		`with \n and spaces`: strings.ReplaceAll(ecParameters+sec1, "\n", `\n`) + ` \n `,
	} {
		made := tokens(t, auth.TokenConfig{PrivateKey: text})
		if got := string(made.JWKS()); made.Algorithm() != "ES256" || got != keySet {
			t.Errorf("%s: %s, %s", name, made.Algorithm(), got)
		}
		wantValid(t, made, issue(t, made))
	}
}

// TestOpenSSLKey: what the documentation says to type works.
func TestOpenSSLKey(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Log("no openssl here; TestKeyForms has what it wrote elsewhere")
		return
	}
	path := filepath.Join(t.TempDir(), "private.pem")
	out, err := exec.CommandContext(t.Context(), "openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	made := tokens(t, auth.TokenConfig{PrivateKey: read(t, path)})
	if made.Algorithm() != "ES256" {
		t.Error(made.Algorithm())
	}
	wantValid(t, made, issue(t, made))
}

func TestNewSigningKey(t *testing.T) {
	t.Parallel()
	key, err := auth.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	made := tokens(t, auth.TokenConfig{PrivateKey: key.Private, KeyID: key.KeyID})
	other := tokens(t, auth.TokenConfig{PrivateKey: pkcs8, PreviousKeys: key.Public})
	wantValid(t, made, issue(t, made))
	wantValid(t, other, issue(t, made))
	again, err := auth.NewSigningKey()
	if err != nil || again.Private == key.Private {
		t.Errorf("the same key twice, %v", err)
	}
}

// TestSecretForms: any text that does not begin like PEM is a secret, to the byte.
func TestSecretForms(t *testing.T) {
	t.Parallel()
	for _, secret := range []string{
		hmacSecret, strings.Repeat("é", 32), " " + hmacSecret + "\n", hmacSecret + `\n`, strings.Repeat("\xff", 32),
	} {
		made := tokens(t, auth.TokenConfig{PrivateKey: secret})
		if got := string(made.JWKS()); made.Algorithm() != "HS256" || got != `{"keys":[]}` {
			t.Errorf("%q: %s, %s", secret, made.Algorithm(), got)
		}
		wantValid(t, made, issue(t, made))
		wantValid(t, made, mint(`{"alg":"HS256"}`, claimsWith(nil), byHS256(secret)))
	}
	tokens(t, auth.TokenConfig{PrivateKey: "short", AllowShortSecret: true})
}

// secp256k1 is what Ethereum's curve looks like, from openssl.
const secp256k1 = `-----BEGIN EC PRIVATE KEY-----
MHQCAQEEIPVPpSjYvlVKbQX+FmCowMGY4376dv+8ObS4B95aYvzWoAcGBSuBBAAK
oUQDQgAEGRVlsiYGY/PWtytZ38oetoQ0x3BN6ndjnOecS/p+rIju7fHpOu3oA8yC
P7XR6xkos7TmbSdqv6SmYkr0iDu+Qw==
-----END EC PRIVATE KEY-----
`

// refusedKeys are texts that are no key for signing, with what the error says of them.
func refusedKeys(t testing.TB) map[string][2]string {
	t.Helper()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1Of384, err := x509.MarshalECPrivateKey(p384)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return map[string][2]string{
		"empty":                {"", "is empty"},
		"short secret":         {hmacSecret[:31], "found 31 characters"},
		"short with umlauts":   {strings.Repeat("ü", 31), "found 31 characters"},
		"P-384 in SEC 1":       {block("EC PRIVATE KEY", sec1Of384), "P-384"},
		"P-384 in PKCS #8":     {encodePrivate(t, p384), "P-384"},
		"secp256k1":            {secp256k1, "secp256k1"},
		"RSA":                  {encodePrivate(t, rsaKey), "an RSA key"},
		"RSA in PKCS #1":       {string(pkcs1), "RSA PRIVATE KEY"},
		"Ed25519":              {encodePrivate(t, ed), "an Ed25519 key"},
		"encrypted":            {block("ENCRYPTED PRIVATE KEY", []byte("x")), "passphrase"},
		"encrypted, old form":  {"-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n", "passphrase"},
		"public key":           {public, "PUBLIC KEY"},
		"public Ed25519 key":   {encodePublic(t, edPublic), "PUBLIC KEY"},
		"certificate":          {block("CERTIFICATE", []byte("x")), "CERTIFICATE"},
		"two keys":             {sec1 + pkcs8, "one private key"},
		"key and certificate":  {sec1 + block("CERTIFICATE", []byte("x")), "one private key"},
		"text after it":        {sec1 + "secret words", "one private key"},
		"parameters alone":     {ecParameters, "not complete"},
		"truncated":            {sec1[:len(sec1)-20], "not complete"},
		"truncated, then more": {sec1[:len(sec1)-20] + "\n" + pkcs8, "not complete"},
		"first line alone":     {"-----BEGIN EC PRIVATE KEY-----", "not complete"},
		"lines lost":           {strings.ReplaceAll(sec1, "\n", " "), "not complete"},
		"not DER":              {block("EC PRIVATE KEY", []byte("secret words")), "P-256"},
		"not DER in PKCS #8":   {block("PRIVATE KEY", []byte("secret words")), "P-256"},
		"quoted":               {`"` + sec1 + `"`, "without quotes"},
		"in base64":            {base64.StdEncoding.EncodeToString([]byte(sec1)), "base64"},
		"public key in base64": {base64.StdEncoding.EncodeToString([]byte(public)), "base64"},
		"very long":            {sec1 + strings.Repeat("\n", 1<<17), "longer"},
		"very long secret":     {strings.Repeat("x", 1<<17), "longer"},
	}
}

func TestKeysRefused(t *testing.T) {
	t.Parallel()
	for name, c := range refusedKeys(t) {
		_, err := auth.NewTokens(auth.TokenConfig{PrivateKey: c[0]})
		if err == nil || !strings.Contains(err.Error(), "DIXIE_JWT_PRIVATE_KEY: ") || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: error %v; want one with %q", name, err, c[1])
			continue
		}
		wantNotQuoted(t, err, c[0])
	}
}

var longWord = regexp.MustCompile(`[A-Za-z0-9+/=]{12,}|secret words`)

// wantNotQuoted checks that an error shows nothing of a key.
func wantNotQuoted(t testing.TB, err error, text string) {
	t.Helper()
	for _, word := range longWord.FindAllString(text, -1) {
		if strings.Contains(err.Error(), word) {
			t.Errorf("the error quotes the key: %v", err)
		}
	}
}

var settingName = regexp.MustCompile(`(?m)^DIXIE_\w+: `)

// TestSettingsRefused: the error names every setting that is wrong.
func TestSettingsRefused(t *testing.T) {
	t.Parallel()
	const key, kid, legacy, previous = "DIXIE_JWT_PRIVATE_KEY: ", "DIXIE_JWT_KID: ", "DIXIE_JWT_LEGACY_HS256_SECRET: ", "DIXIE_JWT_PREVIOUS_PUBLIC_KEYS: "
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config auth.TokenConfig
		want   []string
	}{
		"all":                    {auth.TokenConfig{PrivateKey: secp256k1, KeyID: "a b", LegacySecret: "short", PreviousKeys: "x"}, []string{key, kid, legacy, previous}},
		"secret and legacy":      {auth.TokenConfig{PrivateKey: "short", LegacySecret: "other", PreviousKeys: sec1}, []string{key, legacy, previous}},
		"kid too long":           {auth.TokenConfig{PrivateKey: sec1, KeyID: strings.Repeat("k", 129)}, []string{kid}},
		"kid not printable":      {auth.TokenConfig{PrivateKey: sec1, KeyID: "a\nb"}, []string{kid}},
		"legacy is PEM":          {auth.TokenConfig{PrivateKey: sec1, LegacySecret: sec1}, []string{legacy, "PEM"}},
		"legacy is a public key": {auth.TokenConfig{PrivateKey: sec1, LegacySecret: public}, []string{legacy, "PEM"}},
		"legacy is escaped PEM":  {auth.TokenConfig{PrivateKey: sec1, LegacySecret: `'` + strings.ReplaceAll(public, "\n", `\n`)}, []string{legacy, "PEM"}},
		"another secret":         {auth.TokenConfig{PrivateKey: hmacSecret, LegacySecret: hmacSecret + "!"}, []string{legacy, "only one"}},
		"no key":                 {auth.TokenConfig{LegacySecret: hmacSecret, PreviousKeys: public}, []string{key, "empty"}},
		"no key in tests":        {auth.TokenConfig{AllowShortSecret: true}, []string{key, "empty"}},
		"previous is private":    {auth.TokenConfig{PrivateKey: hmacSecret, PreviousKeys: sec1}, []string{previous, "key 1 is a private key"}},
		"previous on P-384":      {auth.TokenConfig{PrivateKey: sec1, PreviousKeys: public + encodePublic(t, &p384.PublicKey)}, []string{previous, "key 2 ", "P-384"}},
		"previous is a secret":   {auth.TokenConfig{PrivateKey: sec1, PreviousKeys: hmacSecret}, []string{previous, "key 1 "}},
		"previous cut off":       {auth.TokenConfig{PrivateKey: sec1, PreviousKeys: public + public[:90]}, []string{previous, "key 2 "}},
		"first previous cut off": {auth.TokenConfig{PrivateKey: sec1, PreviousKeys: public[:90] + "\n" + public}, []string{previous, "key 1 "}},
		"text between":           {auth.TokenConfig{PrivateKey: sec1, PreviousKeys: public + "id: x\n" + public}, []string{previous, "key 2 ", "kid: "}},
		"text after":             {auth.TokenConfig{PrivateKey: sec1, PreviousKeys: public + "kid: x"}, []string{previous, "key 2 "}},
		"kid without name":       {auth.TokenConfig{PrivateKey: sec1, PreviousKeys: "kid:\n" + public}, []string{previous, "key 1 "}},
		"two kids":               {auth.TokenConfig{PrivateKey: sec1, PreviousKeys: "kid: a\nkid: b\n" + public}, []string{previous, "key 1 "}},
		"kid taken":              {auth.TokenConfig{PrivateKey: sec1, PreviousKeys: "kid: dixie-es256-v1\n" + public}, []string{previous, `"dixie-es256-v1"`}},
		"the same key twice":     {auth.TokenConfig{PrivateKey: sec1, PreviousKeys: public + public}, []string{previous, "two keys"}},
		"too long":               {auth.TokenConfig{PrivateKey: sec1, PreviousKeys: public + strings.Repeat(" ", 1<<17)}, []string{previous, "longer"}},
	} {
		made, err := auth.NewTokens(c.config)
		if err == nil || made != nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q is missing from: %v", name, want, err)
			}
		}
		if blamed := len(settingName.FindAllString(err.Error(), -1)); blamed != strings.Count(strings.Join(c.want, ""), "DIXIE_") {
			t.Errorf("%s: other settings are blamed as well: %v", name, err)
		}
		wantNotQuoted(t, err, c.config.PrivateKey+" "+c.config.LegacySecret+" "+c.config.PreviousKeys)
	}
}

// TestIssue holds what tokens say.
func TestIssue(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config auth.TokenConfig
		header map[string]any
	}{
		"ES256":          {auth.TokenConfig{PrivateKey: sec1}, map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": "dixie-es256-v1"}},
		"ES256 with kid": {auth.TokenConfig{PrivateKey: sec1, KeyID: "k-2"}, map[string]any{"alg": "ES256", "typ": "at+jwt", "kid": "k-2"}},
		"HS256":          {auth.TokenConfig{PrivateKey: hmacSecret, KeyID: "k-2"}, map[string]any{"alg": "HS256", "typ": "at+jwt"}},
	} {
		made := tokens(t, c.config)
		token, expires, err := made.Issue(wallet, now)
		if err != nil {
			t.Fatal(err)
		}
		if want := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC); !expires.Equal(want) || expires.Location() != time.UTC {
			t.Errorf("%s: expires %s, want %s", name, expires, want)
		}
		header, claims := decode(t, token)
		if diff := cmp.Diff(c.header, header); diff != "" {
			t.Errorf("%s: header (-want +got):\n%s", name, diff)
		}
		id, _ := claims["jti"].(string)
		want := map[string]any{
			"sub": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "role": "team", "iss": "dixie-bff", "aud": "dixie-bff",
			"iat": 1772017200.0, "exp": 1772020800.0, "jti": id,
		}
		if diff := cmp.Diff(want, claims); diff != "" || len(id) != 22 {
			t.Errorf("%s: claims (-want +got):\n%s", name, diff)
		}
		got, err := made.Verify(token, now)
		if want := (auth.Claims{Wallet: wallet, Role: "team", ExpiresAt: expires, ID: id}); err != nil || got != want {
			t.Errorf("%s: verified %+v, %v; want %+v", name, got, err, want)
		}
		if _, again := decode(t, issue(t, made)); again["jti"] == id {
			t.Errorf("%s: two tokens have one jti", name)
		}
	}
}

// decode is what a token says, whoever signed it.
func decode(t testing.TB, token string) (header, claims map[string]any) {
	t.Helper()
	segments := strings.Split(token, ".")
	if len(segments) != 3 {
		t.Fatalf("token %q", token)
	}
	for i, into := range []*map[string]any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(segments[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// TestTimes: a token is valid from when it was issued until it expires, give or take
// 30 seconds.
func TestTimes(t *testing.T) {
	t.Parallel()
	made := tokens(t, auth.TokenConfig{PrivateKey: pkcs8})
	token, expires, err := made.Issue(wallet, now)
	if err != nil {
		t.Fatal(err)
	}
	issued := expires.Add(-auth.TokenLifetime)
	for _, c := range []struct {
		at    time.Time
		valid bool
	}{
		{issued.Add(-31 * time.Second), false},
		{issued.Add(-30 * time.Second), true},
		{issued, true},
		{expires.Add(-time.Second), true},
		{expires.Add(29 * time.Second), true},
		{expires.Add(30 * time.Second), false},
		{expires.Add(24 * time.Hour), false},
	} {
		if _, err := made.Verify(token, c.at); (err == nil) != c.valid {
			t.Errorf("at %s: %v", c.at.Sub(issued), err)
		}
	}
	sign := byES256(privateKey(t, pkcs8))
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for name, c := range map[string]struct {
		claims map[string]any
		valid  bool
	}{
		"nbf now":                 {map[string]any{"nbf": at(0)}, true},
		"nbf in 30 s":             {map[string]any{"nbf": at(30 * time.Second)}, true},
		"nbf in 31 s":             {map[string]any{"nbf": at(31 * time.Second)}, false},
		"lifetime of a day":       {map[string]any{"iat": at(-time.Hour), "exp": at(23 * time.Hour)}, true},
		"lifetime of a day + 1 s": {map[string]any{"iat": at(-time.Hour), "exp": at(23*time.Hour + time.Second)}, false},
		"old and eternal":         {map[string]any{"iat": 0, "exp": at(time.Hour)}, false},
		"fractions":               {map[string]any{"iat": float64(now.Unix()) - 0.5, "exp": float64(now.Unix()) + 0.5}, true},
	} {
		if _, err := made.Verify(mint(es256Header, claimsWith(c.claims), sign), now); (err == nil) != c.valid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForgeries: none of these gets through, whatever keys are configured.
func TestForgeries(t *testing.T) {
	t.Parallel()
	other, err := auth.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	configs := map[string]auth.TokenConfig{
		"ES256":             {PrivateKey: sec1},
		"ES256 with legacy": {PrivateKey: sec1, LegacySecret: hmacSecret},
		"ES256 with others": {PrivateKey: sec1, LegacySecret: hmacSecret, PreviousKeys: "kid: other\n" + other.Public},
		"HS256":             {PrivateKey: hmacSecret},
		"HS256 with others": {PrivateKey: hmacSecret, PreviousKeys: "kid: other\n" + other.Public + "kid: dixie-es256-v1\n" + public},
	}
	for kind, config := range configs {
		verifier := tokens(t, config)
		good := issue(t, verifier)
		wantValid(t, verifier, good)
		for name, token := range forgeries(t, good, other) {
			claims, err := verifier.Verify(token, now)
			if !errors.Is(err, auth.ErrInvalidToken) || claims != (auth.Claims{}) {
				t.Errorf("%s: %s: %+v, %v", kind, name, claims, err)
			}
		}
	}
}

// forgeries are tokens that nobody may accept, of whoever knows all but our private
// keys, or signed by our key with what it never signs. good is a valid token.
func forgeries(t testing.TB, good string, other auth.SigningKey) map[string]string {
	t.Helper()
	ours, theirs := byES256(privateKey(t, pkcs8)), byES256(privateKey(t, other.Private))
	claims := claimsWith(nil)
	found := map[string]string{}
	addSecretForgeries(t, found, claims)
	addHeaderForgeries(found, claims, ours, theirs)
	addClaimForgeries(found, ours)
	addSpellings(t, found, good)

	der := func(input string) []byte {
		digest := sha256.Sum256([]byte(input))
		signature, err := privateKey(t, pkcs8).Sign(rand.Reader, digest[:], nil)
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	found["signature in DER"] = mint(es256Header, claims, der)
	found["signature of zeros"] = mint(es256Header, claims, func(string) []byte { return make([]byte, 64) })
	found["signature of n"] = mint(es256Header, claims, func(string) []byte {
		n := elliptic.P256().Params().N.Bytes()
		return append(n, n...)
	})
	found["signature by no key"] = mint(es256Header, claims, unsigned)
	found["signature by another key"] = mint(es256Header, claims, theirs)
	return found
}

// addSecretForgeries are signed with what is public, or was never meant to be a secret,
// as if it were the HS256 secret.
func addSecretForgeries(t testing.TB, found map[string]string, claims string) {
	t.Helper()
	key := privateKey(t, pkcs8)
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(public))
	secrets := map[string]string{
		"public key, PEM": public, "public key, PEM trimmed": strings.TrimSpace(public),
		"public key, PEM escaped": strings.ReplaceAll(public, "\n", `\n`),
		"public key, DER":         string(block.Bytes), "public key, base64": base64.StdEncoding.EncodeToString(block.Bytes),
		"public key, point": string(point), "public key, coordinates": string(point[1:]),
		"key set": keySet, "key of the set": keySet[9 : len(keySet)-2],
		"kid": "dixie-es256-v1", "nothing": "",
		"private key, PEM": sec1, "private key, PEM trimmed": strings.TrimSpace(sec1), "private key, PKCS #8": pkcs8,
		"private key, PEM escaped": strings.ReplaceAll(sec1, "\n", `\n`),
	}
	for name, secret := range secrets {
		for _, header := range []string{
			`{"alg":"HS256"}`, `{"alg":"HS256","typ":"at+jwt"}`, `{"alg":"HS256","typ":"at+jwt","kid":"dixie-es256-v1"}`, es256Header,
		} {
			found[name+" as secret, "+header] = mint(header, claims, byHS256(secret))
		}
	}
}

// addHeaderForgeries have a header that we never write.
func addHeaderForgeries(found map[string]string, claims string, ours, theirs signer) {
	for _, header := range []string{
		`{"alg":"none"}`, `{"alg":"None","typ":"at+jwt"}`, `{"alg":"nOnE","typ":"at+jwt","kid":"dixie-es256-v1"}`,
		`{"alg":"","kid":"dixie-es256-v1","typ":"at+jwt"}`, `{"kid":"dixie-es256-v1","typ":"at+jwt"}`,
	} {
		found["unsigned, "+header] = mint(header, claims, unsigned)
		found["signed, "+header] = mint(header, claims, ours)
	}
	for _, header := range []string{
		`{"alg":"ES384","typ":"at+jwt","kid":"dixie-es256-v1"}`,
		`{"alg":"es256","typ":"at+jwt","kid":"dixie-es256-v1"}`,
		`{"alg":"ES256","typ":"at+jwt"}`,
		`{"alg":"ES256","typ":"at+jwt","kid":""}`,
		`{"alg":"ES256","typ":"at+jwt","kid":null}`,
		`{"alg":"ES256","typ":"at+jwt","kid":["dixie-es256-v1"]}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"foreign"}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"../../dev/null"}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"DIXIE-ES256-V1"}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"other"}`, // of another key
		`{"alg":"ES256","typ":"at+jwt","KID":"dixie-es256-v1"}`,
		`{"alg":"ES256","kid":"dixie-es256-v1"}`,
		`{"alg":"ES256","typ":null,"kid":"dixie-es256-v1"}`,
		`{"alg":"ES256","typ":"JWT","kid":"dixie-es256-v1"}`,
		`{"alg":"ES256","typ":"logout+jwt","kid":"dixie-es256-v1"}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"dixie-es256-v1","crit":["exp"]}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"dixie-es256-v1","crit":["b64"],"b64":true}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"dixie-es256-v1","crit":null}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"dixie-es256-v1","jku":"https://evil.example/jwks.json"}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"dixie-es256-v1","x5u":"https://evil.example/cert.pem"}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"dixie-es256-v1","x5c":["AAAA"]}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"dixie-es256-v1","jwk":` + keySet[9:len(keySet)-2] + `}`,
		`{"alg":"none","alg":"ES256","typ":"at+jwt","kid":"dixie-es256-v1"}`,
		`{"alg":"ES256","typ":"at+jwt","kid":"dixie-es256-v1","kid":"dixie-es256-v1"}`,
		`null`, `[]`, `"ES256"`, ``, `{`, `{"alg":"ES256"`, es256Header + es256Header,
	} {
		found["by our key, "+header] = mint(header, claims, ours)
	}
	for _, header := range []string{
		`{"alg":"HS256","kid":"dixie-es256-v1"}`, `{"alg":"HS256","kid":"other"}`, `{"alg":"HS256","kid":"foreign"}`, `{"alg":"HS256","kid":""}`,
		`{"alg":"HS512"}`, `{"alg":"none"}`, `{"alg":"ES256"}`, `{"alg":"HS256","typ":"logout+jwt"}`, `{"alg":"HS256","crit":["exp"]}`,
		`{"alg":"HS256","alg":"HS256"}`, `{"alg":"HS256","jku":"https://evil.example/"}`,
	} {
		found["by the secret, "+header] = mint(header, claims, byHS256(hmacSecret))
	}
	found["their key with ours as jwk"] = mint(`{"alg":"ES256","typ":"at+jwt","jwk":`+keySet[9:len(keySet)-2]+`}`, claims, theirs)
}

// addClaimForgeries say what we never say.
func addClaimForgeries(found map[string]string, ours signer) {
	in := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for name, changes := range map[string]map[string]any{
		"wrong iss":         {"iss": "evil"},
		"iss in other case": {"iss": "Dixie-bff"},
		"no iss":            {"iss": nil},
		"empty iss":         {"iss": ""},
		"iss in a list":     {"iss": []string{"dixie-bff"}},
		"wrong aud":         {"aud": "loa-finn"},
		"wrong auds":        {"aud": []string{"loa-finn", "x"}},
		"aud of numbers":    {"aud": []any{"dixie-bff", 1}},
		"aud is a number":   {"aud": 1},
		"no exp":            {"exp": nil},
		"exp is text":       {"exp": fmt.Sprint(in(time.Hour))},
		"exp in a list":     {"exp": []int64{in(time.Hour)}},
		"exp past":          {"exp": in(-time.Minute)},
		"exp zero":          {"exp": 0},
		"exp negative":      {"exp": -1},
		"exp in ten years":  {"exp": in(10 * 365 * 24 * time.Hour)},
		"exp at the end":    {"exp": json.Number("1e300"), "iat": json.Number("1e300")},
		"exp overflowing":   {"exp": json.Number("1e19")},
		"exp beyond float":  {"exp": json.Number("1e999")},
		"all in the future": {"iat": in(9 * time.Hour), "exp": in(10 * time.Hour)},
		"iat in the future": {"iat": in(time.Minute)},
		"no iat":            {"iat": nil},
		"iat is text":       {"iat": "now"},
		"nbf in the future": {"nbf": in(time.Minute)},
		"nbf is text":       {"nbf": "tomorrow"},
		"no sub":            {"sub": nil},
		"sub too short":     {"sub": "0xabc"},
		"sub with checksum": {"sub": "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"},
		"sub with path":     {"sub": "../" + wallet.String()},
		"sub with space":    {"sub": wallet.String() + " "},
		"sub is a number":   {"sub": 1},
		"role is a list":    {"role": []string{"team"}},
	} {
		claims := claimsWith(changes)
		found[name] = mint(es256Header, claims, ours)
		found[name+", HS256"] = mint(`{"alg":"HS256"}`, claims, byHS256(hmacSecret))
	}
	found["no aud"] = mint(es256Header, claimsWith(map[string]any{"aud": nil}), ours)
	found["null aud"] = mint(es256Header, strings.Replace(claimsWith(nil), `"aud":"dixie-bff"`, `"aud":null`, 1), ours)
	good := claimsWith(nil)
	for name, claims := range map[string]string{
		"exp twice":          strings.Replace(good, `{`, `{"exp":1,`, 1),
		"sub twice":          strings.Replace(good, `{`, `{"sub":"`+wallet.String()+`",`, 1),
		"a member twice":     strings.Replace(good, `{`, `{"x":1,"x":2,`, 1),
		"twice, escaped":     strings.Replace(good, `{`, `{"su\u0062":"`+wallet.String()+`",`, 1),
		"EXP in place":       strings.Replace(good, `"exp"`, `"EXP"`, 1),
		"not UTF-8":          strings.Replace(good, `"x"`, "\"\xff\"", 1),
		"null":               `null`,
		"a list":             `[` + good + `]`,
		"a text":             `"` + wallet.String() + `"`,
		"nothing":            ``,
		"two objects":        good + good,
		"cut off":            good[:len(good)-1],
		"nested very deeply": strings.Replace(good, `"x"`, strings.Repeat("[", 1000)+strings.Repeat("]", 1000), 1),
	} {
		found["claims: "+name] = mint(es256Header, claims, ours)
		found["claims: "+name+", HS256"] = mint(`{"alg":"HS256"}`, claims, byHS256(hmacSecret))
	}
}

// addSpellings are a good token, spelled otherwise.
func addSpellings(t testing.TB, found map[string]string, good string) {
	t.Helper()
	segments := strings.Split(good, ".")
	header, claims, signature := segments[0], segments[1], segments[2]
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"empty": "", "dots": "..", "one segment": header, "two segments": header + "." + claims,
		"no signature": header + "." + claims + ".", "no claims": header + ".." + signature, "no header": "." + claims + "." + signature,
		"four segments": good + "." + signature, "five segments": good + ".x.x", "segment twice": header + "." + header + "." + claims + "." + signature,
		"dot after": good + ".", "dot before": "." + good, "swapped": claims + "." + header + "." + signature,
		"cut by one": good[:len(good)-1], "cut by a byte": header + "." + claims + "." + segment(string(raw[:len(raw)-1])),
		"longer by a byte": header + "." + claims + "." + segment(string(raw)+"\x00"),
		"padded":           good + "==", "padded header": header + "==." + claims + "." + signature,
		"space before": " " + good, "space after": good + " ", "line feed after": good + "\n", "line feed within": good[:20] + "\n" + good[20:],
		"CR within the signature": good[:len(good)-4] + "\r" + good[len(good)-4:], "zero byte": good + "\x00",
		"bearer": "Bearer " + good, "standard base64": header + "." + claims + "." + base64.RawStdEncoding.EncodeToString(append([]byte{0xff, 0xff}, raw[2:]...)),
		"last bits set":            good[:len(good)-1] + string(nextInAlphabet(good[len(good)-1])),
		"signed claims of another": header + "." + segment(claimsWith(map[string]any{"sub": "0x0000000000000000000000000000000000000001"})) + "." + signature,
		"1 MB header":              mint(strings.Replace(es256Header, "{", `{"x":"`+strings.Repeat("x", 1<<20)+`",`, 1), claimsWith(nil), byES256(privateKey(t, pkcs8))),
		"1 MB claims":              mint(es256Header, claimsWith(map[string]any{"x": strings.Repeat("x", 1<<20)}), byES256(privateKey(t, pkcs8))),
		"1 MB of dots":             strings.Repeat(".", 1<<20), "1 MB after": good + strings.Repeat("x", 1<<20),
	} {
		found["spelling: "+name] = token
	}
}

// nextInAlphabet is the character of base64url that differs from c in the last bit,
// which a whole number of bytes leaves unused.
func nextInAlphabet(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

// TestLegacyTokens: those of the service before this one are valid while their secret
// is set, and then no more.
func TestLegacyTokens(t *testing.T) {
	t.Parallel()
	before := tokens(t, auth.TokenConfig{PrivateKey: hmacSecret})
	during := tokens(t, auth.TokenConfig{PrivateKey: sec1, LegacySecret: hmacSecret})
	after := tokens(t, auth.TokenConfig{PrivateKey: sec1})
	otherSecret := tokens(t, auth.TokenConfig{PrivateKey: sec1, LegacySecret: hmacSecret + "!"})
	for name, token := range map[string]string{
		"first design":      mint(`{"alg":"HS256"}`, claimsWith(map[string]any{"aud": nil, "jti": nil}), byHS256(hmacSecret)),
		"with typ":          mint(`{"typ":"JWT","alg":"HS256"}`, claimsWith(map[string]any{"jti": nil}), byHS256(hmacSecret)),
		"with a list":       mint(`{"alg":"HS256"}`, claimsWith(map[string]any{"aud": []string{"x", "dixie-bff"}}), byHS256(hmacSecret)),
		"of this service":   issue(t, before),
		"with members more": mint(`{"alg":"HS256","x":1}`, claimsWith(map[string]any{"x": map[string]int{"y": 1}}), byHS256(hmacSecret)),
	} {
		t.Run(name, func(t *testing.T) {
			wantValid(t, before, token)
			wantValid(t, during, token)
			wantInvalid(t, after, token)
			wantInvalid(t, otherSecret, token)
		})
	}
	wantValid(t, during, issue(t, during))
	if _, err := auth.NewTokens(auth.TokenConfig{PrivateKey: hmacSecret, LegacySecret: hmacSecret}); err != nil {
		t.Errorf("the switch cannot be prepared: %v", err)
	}
}

// TestRotation goes from one key to the next and the one after it.
func TestRotation(t *testing.T) {
	t.Parallel()
	var keys []auth.SigningKey
	for range 3 {
		key, err := auth.NewSigningKey()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	first := tokens(t, auth.TokenConfig{PrivateKey: keys[0].Private})
	announced := tokens(t, auth.TokenConfig{PrivateKey: keys[0].Private, PreviousKeys: keys[1].Public})
	second := tokens(t, auth.TokenConfig{PrivateKey: keys[1].Private, KeyID: keys[1].KeyID, PreviousKeys: keys[0].Public})
	third := tokens(t, auth.TokenConfig{PrivateKey: keys[2].Private, KeyID: "third", PreviousKeys: "kid: " + auth.DefaultKeyID + "\n" + keys[0].Public + keys[1].Public})
	after := tokens(t, auth.TokenConfig{PrivateKey: keys[2].Private, KeyID: "third"})

	wantValid(t, announced, issue(t, first))
	wantValid(t, announced, issue(t, second)) // of a replica that has switched already
	wantValid(t, second, issue(t, first))
	wantValid(t, third, issue(t, first))
	wantValid(t, third, issue(t, second))
	wantInvalid(t, first, issue(t, second))
	wantInvalid(t, after, issue(t, first))
	wantInvalid(t, after, issue(t, second))
	for name, c := range map[string]struct {
		tokens *auth.Tokens
		kids   []string
	}{
		"first":     {first, []string{"dixie-es256-v1"}},
		"announced": {announced, []string{"dixie-es256-v1", keys[1].KeyID}},
		"second":    {second, []string{keys[1].KeyID, keys[0].KeyID, "dixie-es256-v1"}},
		"third":     {third, []string{"third", "dixie-es256-v1", keys[1].KeyID}},
		"after":     {after, []string{"third"}},
	} {
		if diff := cmp.Diff(c.kids, keyIDs(t, c.tokens)); diff != "" {
			t.Errorf("%s: published (-want +got):\n%s", name, diff)
		}
	}
}

// keyIDs are those of the published set.
func keyIDs(t testing.TB, from *auth.Tokens) (kids []string) {
	t.Helper()
	var set struct {
		Keys []struct {
			KeyID string `json:"kid"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(from.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	for _, key := range set.Keys {
		kids = append(kids, key.KeyID)
	}
	return kids
}

// TestThumbprint is the EC key of RFC 7517 A.1, with the thumbprint that the jose
// package of node computes.
func TestThumbprint(t *testing.T) {
	t.Parallel()
	const x, y = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"
	point := []byte{4}
	for _, text := range []string{x, y} {
		coordinate, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		point = append(point, coordinate...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	made := tokens(t, auth.TokenConfig{PrivateKey: hmacSecret, PreviousKeys: "kid: z\n" + public + strings.ReplaceAll(encodePublic(t, key), "\n", `\n`)})
	const want = `,{"kty":"EC","crv":"P-256","x":"` + x + `","y":"` + y + `","use":"sig","alg":"ES256","kid":"cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"}]}`
	if got := string(made.JWKS()); !strings.HasSuffix(got, want) {
		t.Errorf("published %s, want %s at the end", got, want)
	}
}

// TestLeadingZeros: coordinates have 32 bytes also when the first are zero. Such are the
// public keys of these private ones.
func TestLeadingZeros(t *testing.T) {
	t.Parallel()
	for d, want := range map[int64]string{379: `"x":"A`, 43: `"y":"A`} {
		key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), big.NewInt(d).FillBytes(make([]byte, 32)))
		if err != nil {
			t.Fatal(err)
		}
		made := tokens(t, auth.TokenConfig{PrivateKey: encodePrivate(t, key)})
		set := string(made.JWKS())
		if !regexp.MustCompile(`"x":"[\w-]{43}","y":"[\w-]{43}"`).MatchString(set) || !strings.Contains(set, want) {
			t.Errorf("published %s", set)
		}
		wantValid(t, made, issue(t, made))
	}
}

// TestKeySetIsCopied: whoever gets the set cannot change it for others.
func TestKeySetIsCopied(t *testing.T) {
	t.Parallel()
	made := tokens(t, auth.TokenConfig{PrivateKey: sec1})
	clear(made.JWKS())
	if got := string(made.JWKS()); got != keySet {
		t.Errorf("published %s", got)
	}
}

func TestSameSecret(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		given, want string
		same        bool
	}{
		{"abc", "abc", true},
		{"abc", "abd", false},
		{"abc", "abcd", false},
		{"", "abc", false},
		{"abc", "", false},
		{"", "", false},
	} {
		if got := auth.SameSecret(c.given, c.want); got != c.same {
			t.Errorf("SameSecret(%q, %q) = %v", c.given, c.want, got)
		}
	}
}

func TestScopesOf(t *testing.T) {
	t.Parallel()
	for role, want := range map[string][]auth.Scope{
		"team":  {"read", "append"},
		"":      nil,
		"Team":  nil,
		"admin": nil,
	} {
		if got := auth.ScopesOf(role); !cmp.Equal(got, want) {
			t.Errorf("%q: %v, want %v", role, got, want)
		}
	}
	auth.ScopesOf("team")[1] = auth.ScopeAdmin
	if got := auth.ScopesOf("team"); got[1] != auth.ScopeAppend {
		t.Errorf("the table can be changed: %v", got)
	}
}

// FuzzKeys: any text is a key that signs what it verifies, or is refused without being
// shown.
func FuzzKeys(f *testing.F) {
	for _, c := range refusedKeys(f) {
		if len(c[0]) < 1<<12 {
			f.Add(c[0], "", "", "")
		}
	}
	f.Add(sec1, "k", hmacSecret, public)
	f.Add(ecParameters+sec1, "", "", "kid: a\n"+public+"kid: b\n"+public)
	f.Add(strings.ReplaceAll(pkcs8, "\n", `\n`), "", hmacSecret, strings.ReplaceAll("kid: c\n"+public, "\n", `\n`))
	f.Add(hmacSecret, "", hmacSecret, public)
	f.Fuzz(func(t *testing.T, key, kid, legacy, previous string) {
		made, err := auth.NewTokens(auth.TokenConfig{PrivateKey: key, KeyID: kid, LegacySecret: legacy, PreviousKeys: previous})
		if err != nil {
			return
		}
		isPEM := strings.HasPrefix(strings.TrimSpace(key), "-----BEGIN")
		if isPEM != (made.Algorithm() == "ES256") || strings.Contains(key, "-----BEGIN") != isPEM {
			t.Fatalf("a key of %q signs with %s", key, made.Algorithm())
		}
		wantValid(t, made, issue(t, made))
		wantInvalid(t, made, mint(`{"alg":"HS256","kid":"dixie-es256-v1"}`, claimsWith(nil), byHS256(key)))
		if isPEM {
			wantInvalid(t, made, mint(`{"alg":"HS256"}`, claimsWith(nil), byHS256(key)))
		}
		kids := keyIDs(t, made)
		seen := map[string]bool{}
		for _, kid := range kids {
			if seen[kid] {
				t.Errorf("kid %q twice", kid)
			}
			seen[kid] = true
		}
	})
}

// FuzzVerify: a text that was not issued is not valid. The seeds are tokens whose header
// or claims are wrong in one way; header and claims are signed as they come.
func FuzzVerify(f *testing.F) {
	other, err := auth.NewSigningKey()
	if err != nil {
		f.Fatal(err)
	}
	verifier := tokens(f, auth.TokenConfig{PrivateKey: sec1, LegacySecret: hmacSecret, PreviousKeys: other.Public})
	for _, token := range forgeries(f, issued, other) {
		if len(token) < 1<<12 {
			f.Add(token)
		}
	}
	f.Add(issued)
	f.Fuzz(func(t *testing.T, token string) {
		if token == issued {
			wantValid(t, verifier, token)
			return
		}
		wantInvalid(t, verifier, token)
	})
}

// FuzzClaims: what is signed by our key is valid only if it says what we say.
func FuzzClaims(f *testing.F) {
	verifier := tokens(f, auth.TokenConfig{PrivateKey: sec1, LegacySecret: hmacSecret})
	ours := byES256(privateKey(f, pkcs8))
	f.Add(es256Header, claimsWith(nil))
	f.Add(`{"alg":"ES256","typ":"application/AT+JWT","kid":"dixie-es256-v1"}`, claimsWith(map[string]any{"aud": []string{"a", "dixie-bff"}, "nbf": 0}))
	f.Add(`{"alg":"HS256"}`, claimsWith(nil))
	f.Add(es256Header, claimsWith(map[string]any{"exp": json.Number("1e300")}))
	f.Fuzz(func(t *testing.T, header, claims string) {
		got, err := verifier.Verify(mint(header, claims, ours), now)
		if err != nil {
			if !errors.Is(err, auth.ErrInvalidToken) || got != (auth.Claims{}) {
				t.Errorf("%+v, %v", got, err)
			}
			return
		}
		var said struct {
			Issuer   string  `json:"iss"`
			Subject  string  `json:"sub"`
			IssuedAt float64 `json:"iat"`
			Expires  float64 `json:"exp"`
		}
		if err := json.Unmarshal([]byte(claims), &said); err != nil {
			t.Fatalf("accepted: %q, %v", claims, err)
		}
		at := float64(now.Unix())
		if said.Issuer != auth.Issuer || !strings.EqualFold(said.Subject, got.Wallet.String()) ||
			said.Expires-said.IssuedAt > 86400 || said.Expires <= at-30 || said.IssuedAt > at+31 || !strings.Contains(claims, "dixie-bff") {
			t.Errorf("accepted: %s", claims)
		}
	})
}

// ExampleTokens signs a wallet in and recognises it later.
func ExampleTokens() {
	tokens, err := auth.NewTokens(auth.TokenConfig{PrivateKey: "an HS256 secret, or a key in PEM form"})
	if err != nil {
		fmt.Println(err)
		return
	}
	wallet, err := auth.ParseAddress("0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")
	if err != nil {
		fmt.Println(err)
		return
	}
	at := time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)
	token, expires, err := tokens.Issue(wallet, at)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("expires", expires.Format(time.TimeOnly))
	claims, err := tokens.Verify(token, at.Add(time.Minute))
	fmt.Println(claims.Wallet, auth.ScopesOf(claims.Role), err)
	_, err = tokens.Verify(token, at.Add(2*time.Hour))
	fmt.Println(errors.Is(err, auth.ErrInvalidToken))
	// Output:
	// expires 13:00:00
	// 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed [read append] <nil>
	// true
}
