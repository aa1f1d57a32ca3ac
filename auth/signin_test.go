package auth_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	koblitz "github.com/decred/dcrd/dcrec/secp256k1/v4"
	koblitzecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"dixie/auth"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

// signInTime is when the tests' wallets sign in.
var signInTime = time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)

// account is a wallet whose key the tests know.
type account struct {
	key *koblitz.PrivateKey
}

// accountOf is the account that internal/jsclients has under a name.
func accountOf(name string) account {
	key := sha256.Sum256([]byte("dixie test wallet " + name))
	return account{koblitz.PrivKeyFromBytes(key[:])}
}

func (a account) address() auth.Address {
	public := a.key.PubKey().SerializeUncompressed()
	return auth.AddressOf(public)
}

// sign signs a text as wallets do: r, s and v, of 27 or 28.
func (a account) sign(text string) []byte {
	hash := auth.HashMessage(text)
	compact := koblitzecdsa.SignCompact(a.key, hash[:], false)
	return append(compact[1:], compact[0])
}

func hexOf(signature []byte) string { return "0x" + hex.EncodeToString(signature) }

// The wallets of these tests.
var (
	alice   = accountOf("alice")
	mallory = accountOf("mallory")
)

// messageOf is a message of a wallet, valid at signInTime, with changes.
func messageOf(a account, edits ...func(*auth.Message)) string {
	m := valid()
	m.Address = a.address()
	m.IssuedAt = reputation.TimestampOf(signInTime)
	for _, edit := range edits {
		edit(&m)
	}
	return m.String()
}

func withNonce(nonce string) func(*auth.Message) { return func(m *auth.Message) { m.Nonce = nonce } }

func signInConfig() auth.SignInConfig {
	return auth.SignInConfig{
		Domains: []string{"dixie.example", "https://dixie.example:8443", "http://localhost:3001"}, Chains: []uint64{1, 8453},
		Nonces: &auth.MemoryNonces{}, Now: func() time.Time { return signInTime },
	}
}

func newSignIn(t testing.TB, edits ...func(*auth.SignInConfig)) *auth.SignIn {
	t.Helper()
	config := signInConfig()
	for _, edit := range edits {
		edit(&config)
	}
	s, err := auth.NewSignIn(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(now time.Time) func(*auth.SignInConfig) {
	return func(c *auth.SignInConfig) { c.Now = func() time.Time { return now } }
}

var signInErrors = []error{
	auth.ErrSignInMalformed, auth.ErrSignInRefused, auth.ErrSignInExpired, auth.ErrSignInSignature, auth.ErrSignInForbidden, auth.ErrSignInReplayed,
}

// wantSignIn checks the outcome: an error matches the one that is wanted and no
// other, and comes without a wallet.
func wantSignIn(t testing.TB, name string, s *auth.SignIn, message, signature string, want error) {
	t.Helper()
	wallet, err := s.Verify(t.Context(), message, signature)
	if want == nil {
		m, _ := auth.ParseMessage(message)
		if err != nil || wallet != m.Address {
			t.Errorf("%s: %s, %v", name, wallet, err)
		}
		return
	}
	if wallet != (auth.Address{}) {
		t.Errorf("%s: %s signs in with the error %v", name, wallet, err)
	}
	for _, kind := range signInErrors {
		if errors.Is(err, kind) != (kind == want) {
			t.Errorf("%s: error %v, want: %v", name, err, want)
			return
		}
	}
}

// TestSignInWithClients: the messages of clients sign in, with v as they write it
// and as other wallets do.
func TestSignInWithClients(t *testing.T) {
	t.Parallel()
	// All have one nonce, so each gets a store of its own.
	fresh := func() *auth.SignIn {
		return newSignIn(t, at(time.Date(2026, 2, 25, 0, 1, 0, 0, time.UTC)), func(c *auth.SignInConfig) {
			c.Domains = append(c.Domains, "127.0.0.1:3001")
		})
	}
	n := 0
	for _, c := range fromJSON[[]signedMessage](t, signedJSON) {
		name := c.Client + ", " + c.Name
		if accountOf(c.Client).address() != mustAddress(c.Address) {
			t.Fatalf("%s: the wallet is another", name)
		}
		if strings.Contains(c.Fields.Domain, "@") {
			wantSignIn(t, name, fresh(), c.Message, c.Signature, auth.ErrSignInRefused)
			continue
		}
		wantSignIn(t, name, fresh(), c.Message, c.Signature, nil)
		wantSignIn(t, name+", with v from 0", fresh(), c.Message, otherV(t, c.Signature), nil)
		n++
	}
	if n < 40 {
		t.Errorf("%d messages sign in", n)
	}
}

// otherV writes v as 0 or 1.
func otherV(t testing.TB, signature string) string {
	t.Helper()
	raw, err := hex.DecodeString(signature[2:])
	if err != nil {
		t.Fatal(err)
	}
	raw[64] -= 27
	return hexOf(raw)
}

// TestHashMessage: hashes that viem computes (hashMessage). The length is that in bytes.
func TestHashMessage(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"hello world": "d9eba16ed0ecae432b71fe008c98cc872bb4cc214d3220a36f365326cf807d68",
		"héllo":       "42fd95dd8ed22d7d934d6ffff71ed0b730835b0de4bb3532a271568c8760c8d2",
		"":            "5f35dce98ba4fba25530a026ed80b2cecdaa31091ba4958b99b52ea1d068adad",
	} {
		if got := auth.HashMessage(text); hex.EncodeToString(got[:]) != want {
			t.Errorf("%q: %x", text, got)
		}
	}
}

// TestKnownSignIn: a message, its hash and its signature as viem computes them.
func TestKnownSignIn(t *testing.T) {
	t.Parallel()
	const message = "dixie.example wants you to sign in with your Ethereum account:\n0x70997970C51812dc3A010C7d01b50e0d17dc79C8\n\nSign in to Dixie.\n\n" +
		"URI: https://dixie.example/login\nVersion: 1\nChain ID: 1\nNonce: k7Qw2Zt9Lm4Xb8Rc\nIssued At: 2026-02-25T00:00:00.000Z\nExpiration Time: 2026-02-25T00:05:00.000Z"
	if hash := auth.HashMessage(message); len(message) != 283 || hex.EncodeToString(hash[:]) != "5278a5ca77fca5c62d1c0f9bf68459081ea0ca444866d7ed0cfe5787a0069c37" {
		t.Errorf("%d bytes, hash %x", len(message), hash)
	}
	s := newSignIn(t, at(time.Date(2026, 2, 25, 0, 4, 59, 0, time.UTC)))
	wantSignIn(t, "known", s, message, "0x96d6a97ba54150334cc865c522e553c65f5a0123b3e4bbd1ff81bcbb2acf1b2f3b25fa8e9d6b305cf3ebaf7f3971b8c435938f98463a0d69ab82875c95045a771b", nil)
}

// TestAttackOnMessage: a wallet signs each of these, and is not let in.
func TestAttackOnMessage(t *testing.T) {
	t.Parallel()
	edit := func(edit func(*auth.Message)) string { return messageOf(alice, edit) }
	plain := messageOf(alice)
	domain := func(text string) string { return edit(func(m *auth.Message) { m.Domain = text }) }
	uri := func(text string) string { return edit(func(m *auth.Message) { m.URI = text }) }
	issued := func(text string) string {
		return edit(func(m *auth.Message) { m.IssuedAt = timestamp(t, text) })
	}
	replaced := func(old, with string) string { return strings.Replace(plain, old, with, 1) }
	s := newSignIn(t)
	tests := map[string]struct {
		message string
		want    error
	}{
		"of another site": {edit(func(m *auth.Message) { m.Domain, m.URI = "evil.example", "https://evil.example/login" }), auth.ErrSignInRefused},

		"domain of another site":   {domain("evil.example"), auth.ErrSignInRefused},
		"domain that begins alike": {domain("dixie.example.evil.example"), auth.ErrSignInRefused},
		"domain that ends alike":   {domain("evildixie.example"), auth.ErrSignInRefused},
		"subdomain":                {domain("www.dixie.example"), auth.ErrSignInRefused},
		"domain with a dot":        {domain("dixie.example."), auth.ErrSignInRefused},
		"domain with a user":       {domain("bear@dixie.example"), auth.ErrSignInRefused},
		"domain as a user":         {domain("dixie.example@evil.example"), auth.ErrSignInRefused},
		"domain with a port":       {domain("dixie.example:443"), auth.ErrSignInRefused},
		"domain with another port": {domain("dixie.example:8444"), auth.ErrSignInRefused},
		"domain without its port":  {domain("localhost"), auth.ErrSignInRefused},
		"domain in capitals":       {domain("DIXIE.example"), auth.ErrSignInRefused},
		"domain percent-encoded":   {domain("dixi%65.example"), auth.ErrSignInRefused},
		"domain in Cyrillic":       {replaced("dixie.example wants", "dixі"+"e.example wants"), auth.ErrSignInMalformed},
		"domain in full width":     {replaced("dixie.example wants", "ｄixie.example wants"), auth.ErrSignInMalformed},
		"domain in Punycode":       {domain("xn--dixe-xyd.example"), auth.ErrSignInRefused},
		"no domain":                {domain(""), auth.ErrSignInMalformed},

		"scheme of another kind": {edit(func(m *auth.Message) { m.Scheme = "http" }), auth.ErrSignInRefused},
		"scheme in capitals":     {edit(func(m *auth.Message) { m.Scheme = "HTTPS" }), auth.ErrSignInRefused},
		"scheme of localhost":    {edit(func(m *auth.Message) { m.Scheme, m.Domain = "https", "localhost:3001" }), auth.ErrSignInRefused},

		"URI of another site":     {uri("https://evil.example/login"), auth.ErrSignInRefused},
		"URI without encryption":  {uri("http://dixie.example/login"), auth.ErrSignInRefused},
		"URI of another protocol": {uri("ftp://dixie.example/login"), auth.ErrSignInRefused},
		"URI with a user":         {uri("https://dixie.example@evil.example/"), auth.ErrSignInRefused},
		"URI with a password":     {uri("https://bear:bear@dixie.example/"), auth.ErrSignInRefused},
		"URI with another port":   {uri("https://dixie.example:444/"), auth.ErrSignInRefused},
		"URI with a backslash":    {uri(`https://evil.example\@dixie.example/`), auth.ErrSignInMalformed},
		"URI ends alike":          {uri("https://evildixie.example/"), auth.ErrSignInRefused},
		"URI begins alike":        {uri("https://dixie.example.evil.example/"), auth.ErrSignInRefused},
		"URI without authority":   {uri("https:dixie.example/login"), auth.ErrSignInRefused},
		"URI with empty one":      {uri("https:///dixie.example"), auth.ErrSignInRefused},
		"URI in a fragment":       {uri("https://evil.example#https://dixie.example/"), auth.ErrSignInRefused},
		"URI in a query":          {uri("https://evil.example?https://dixie.example/"), auth.ErrSignInRefused},
		"URI is a DID":            {uri("did:key:z6Mk"), auth.ErrSignInRefused},
		"URI is no URI":           {uri("dixie.example/login"), auth.ErrSignInMalformed},

		"chain 999":               {edit(func(m *auth.Message) { m.ChainID = 999 }), auth.ErrSignInRefused},
		"chain 0":                 {edit(func(m *auth.Message) { m.ChainID = 0 }), auth.ErrSignInRefused},
		"chain of two spellings":  {replaced("Chain ID: 1", "Chain ID: 01"), auth.ErrSignInMalformed},
		"chain beyond 64 bits":    {replaced("Chain ID: 1", "Chain ID: 18446744073709551617"), auth.ErrSignInMalformed},
		"address in small":        {replaced(alice.address().String(), strings.ToLower(alice.address().String())), auth.ErrSignInMalformed},
		"address in capitals":     {replaced(alice.address().String(), "0x"+strings.ToUpper(alice.address().String()[2:])), auth.ErrSignInMalformed},
		"address of mixed case":   {replaced(alice.address().String(), swapCase(alice.address().String())), auth.ErrSignInMalformed},
		"issued in 2020":          {issued("2020-02-25T12:00:00Z"), auth.ErrSignInExpired},
		"issued in 2099":          {issued("2099-02-25T12:00:00Z"), auth.ErrSignInExpired},
		"issued in year 0":        {issued("0000-01-01T00:00:00Z"), auth.ErrSignInExpired},
		"issued in year 9999":     {issued("9999-12-31T23:59:59Z"), auth.ErrSignInExpired},
		"issued on 31 February":   {replaced("2026-02-25", "2026-02-31"), auth.ErrSignInMalformed},
		"expires before it began": {edit(func(m *auth.Message) { m.ExpirationTime = timestamp(t, "2020-02-25T12:00:00Z") }), auth.ErrSignInExpired},
		"valid in 2099":           {edit(func(m *auth.Message) { m.NotBefore = timestamp(t, "2099-02-25T12:00:00Z") }), auth.ErrSignInExpired},

		"carriage returns":          {strings.ReplaceAll(plain, "\n", "\r\n"), auth.ErrSignInMalformed},
		"trailing line feed":        {plain + "\n", auth.ErrSignInMalformed},
		"trailing space":            {plain + " ", auth.ErrSignInMalformed},
		"leading space":             {" " + plain, auth.ErrSignInMalformed},
		"a second message":          {plain + "\n" + plain, auth.ErrSignInMalformed},
		"a field twice":             {replaced("Nonce: ", "Chain ID: 1\nNonce: "), auth.ErrSignInMalformed},
		"another version":           {replaced("Version: 1", "Version: 2"), auth.ErrSignInMalformed},
		"a label in other letters":  {replaced("Nonce: ", "nonce: "), auth.ErrSignInMalformed},
		"an invisible character":    {replaced("Nonce: ", "Nonce: \u200b"), auth.ErrSignInMalformed},
		"not UTF-8":                 {replaced("Nonce: ", "Nonce: \xff"), auth.ErrSignInMalformed},
		"a short nonce":             {edit(withNonce("1234567")), auth.ErrSignInMalformed},
		"a nonce with punctuation":  {edit(withNonce("12345678'--")), auth.ErrSignInMalformed},
		"a megabyte":                {plain + strings.Repeat("\nResources:", 100_000), auth.ErrSignInMalformed},
		"a megabyte without a line": {strings.Repeat("a", 1<<20), auth.ErrSignInMalformed},
		"empty":                     {"", auth.ErrSignInMalformed},
		"JSON":                      {`{"domain":"dixie.example"}`, auth.ErrSignInMalformed},
	}
	for name, test := range tests {
		wantSignIn(t, name, s, test.message, hexOf(alice.sign(test.message)), test.want)
	}
	wantSignIn(t, "none of these", s, plain, hexOf(alice.sign(plain)), nil)
}

// swapCase turns the first letter around, so that the checksum is wrong.
func swapCase(address string) string {
	i := strings.IndexAny(address[2:], "abcdefABCDEF") + 2
	c := address[i] ^ ('a' - 'A')
	return address[:i] + string(c) + address[i+1:]
}

// curveOrder is n of secp256k1.
var curveOrder, _ = new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)

func word(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }

// TestAttackOnSignature: the message is right, and its signature is not.
func TestAttackOnSignature(t *testing.T) {
	t.Parallel()
	message := messageOf(alice)
	good := alice.sign(message)
	r, s, v := good[:32], good[32:64], good[64]
	signature := func(r, s []byte, v byte) string { return hexOf(append(append(append([]byte{}, r...), s...), v)) }
	highS := word(new(big.Int).Sub(curveOrder, new(big.Int).SetBytes(s)))
	zero, one, n := make([]byte, 32), word(big.NewInt(1)), word(curveOrder)
	max := []byte(strings.Repeat("\xff", 32))
	malformed, wrong := auth.ErrSignInMalformed, auth.ErrSignInSignature
	tests := map[string]struct {
		signature string
		want      error
	}{
		"of another wallet":          {hexOf(mallory.sign(message)), wrong},
		"of another message":         {hexOf(alice.sign(messageOf(alice, withNonce("another0nonce")))), wrong},
		"of the message with a line": {hexOf(alice.sign(message + "\n")), wrong},
		"high s":                     {signature(r, highS, 27+28-v), wrong}, // a right signature, as it were
		"high s with the same v":     {signature(r, highS, v), wrong},
		"r and s swapped":            {signature(s, r, v), wrong},
		"r of 0":                     {signature(zero, s, v), wrong},
		"s of 0":                     {signature(r, zero, v), wrong},
		"r and s of 0":               {signature(zero, zero, v), wrong},
		"r of n":                     {signature(n, s, v), wrong},
		"s of n":                     {signature(r, n, v), wrong},
		"r beyond n":                 {signature(max, s, v), wrong},
		"s beyond n":                 {signature(r, max, v), wrong},
		"r of 1":                     {signature(one, s, v), wrong},
		"s of 1":                     {signature(r, one, v), wrong},
		"the other v":                {signature(r, s, 27+28-v), wrong},
		"the other v, from 0":        {signature(r, s, 28-v), wrong},
		"v of 2":                     {signature(r, s, 2), wrong},
		"v of 26":                    {signature(r, s, 26), wrong},
		"v of 29":                    {signature(r, s, 29), wrong},
		"v of 30":                    {signature(r, s, 30), wrong},
		"v of 31":                    {signature(r, s, v+4), wrong}, // compressed, for Bitcoin
		"v of 35":                    {signature(r, s, v+8), wrong}, // EIP-155 of chain 0
		"v of 37":                    {signature(r, s, v+10), wrong},
		"v of 255":                   {signature(r, s, 255), wrong},
		"64 bytes":                   {hexOf(good[:64]), wrong}, // EIP-2098 has the parity in s
		"66 bytes":                   {hexOf(append(append([]byte{}, good...), 0)), wrong},
		"1 byte":                     {"0x1b", wrong},
		"no bytes":                   {"0x", wrong},
		"v first":                    {hexOf(append([]byte{v}, good[:64]...)), wrong},
		"4096 bytes":                 {hexOf(make([]byte, 4096)), wrong},
		"4097 bytes":                 {hexOf(make([]byte, 4097)), malformed},
		"a megabyte":                 {"0x" + strings.Repeat("ab", 1<<20), malformed},
		"nothing":                    {"", malformed},
		"an odd digit":               {hexOf(good)[:131], malformed},
		"an odd digit more":          {hexOf(good) + "0", malformed},
		"no prefix":                  {hexOf(good)[2:], malformed},
		"another prefix":             {"0X" + hexOf(good)[2:], malformed},
		"two prefixes":               {"0x0x" + hexOf(good)[2:], malformed},
		"not hexadecimal":            {hexOf(good)[:130] + "zz", malformed},
		"trailing space":             {hexOf(good) + " ", malformed},
		"trailing line feed":         {hexOf(good) + "\n", malformed},
		"leading space":              {" " + hexOf(good), malformed},
		"digits of full width":       {"0x" + strings.Repeat("１", 130), malformed},
	}
	signIn := newSignIn(t)
	for name, test := range tests {
		wantSignIn(t, name, signIn, message, test.signature, test.want)
	}
	wantSignIn(t, "capitals, and none of these", signIn, message, "0x"+strings.ToUpper(hexOf(good)[2:]), nil)
}

// TestSignInTimes: to the nanosecond.
func TestSignInTimes(t *testing.T) {
	t.Parallel()
	after := func(d time.Duration) reputation.Timestamp { return reputation.TimestampOf(signInTime.Add(d)) }
	tests := map[string]struct {
		edit  func(*auth.Message)
		valid bool
	}{
		"issued 5 minutes ago":          {func(m *auth.Message) { m.IssuedAt = after(-5 * time.Minute) }, true},
		"issued a little earlier":       {func(m *auth.Message) { m.IssuedAt = after(-5*time.Minute - 1) }, false},
		"issued in 60 seconds":          {func(m *auth.Message) { m.IssuedAt = after(time.Minute) }, true},
		"issued a little later":         {func(m *auth.Message) { m.IssuedAt = after(time.Minute + 1) }, false},
		"expires next":                  {func(m *auth.Message) { m.ExpirationTime = after(1) }, true},
		"expires now":                   {func(m *auth.Message) { m.ExpirationTime = after(0) }, false},
		"has just expired":              {func(m *auth.Message) { m.ExpirationTime = after(-1) }, false},
		"begins now":                    {func(m *auth.Message) { m.NotBefore = after(0) }, true},
		"begins next":                   {func(m *auth.Message) { m.NotBefore = after(1) }, false},
		"expires in a hundred years":    {func(m *auth.Message) { m.ExpirationTime = after(876000 * time.Hour) }, true},
		"the same instant, other zone":  {func(m *auth.Message) { m.IssuedAt = timestamp(t, "2026-02-25T17:30:00+05:30") }, true},
		"another instant, same reading": {func(m *auth.Message) { m.IssuedAt = timestamp(t, "2026-02-25T12:00:00+05:30") }, false},
	}
	for name, test := range tests {
		want := auth.ErrSignInExpired
		if test.valid {
			want = nil
		}
		message := messageOf(alice, test.edit)
		wantSignIn(t, name, newSignIn(t), message, hexOf(alice.sign(message)), want)
	}
}

// TestSites: entries stand for the origins that they say and for no others.
func TestSites(t *testing.T) {
	t.Parallel()
	tests := []struct {
		entry, scheme, domain, uri string
		accepted                   bool
	}{
		{"dixie.example", "", "dixie.example", "https://dixie.example", true},
		{"dixie.example", "https", "dixie.example", "https://dixie.example/a?b#c", true},
		{"dixie.example", "", "dixie.example", "https://dixie.example?a/b", true},
		{"dixie.example", "", "dixie.example", "https://dixie.example#a/b", true},
		{"dixie.example", "", "dixie.example", "http://dixie.example", false},
		{"dixie.example", "http", "dixie.example", "https://dixie.example", false},
		{" DIXIE.example ", "", "dixie.example", "https://dixie.example", true},
		{"https://dixie.example", "", "dixie.example", "https://dixie.example/", true},
		{"http://dixie.example", "http", "dixie.example", "http://dixie.example/", true},
		{"http://dixie.example", "", "dixie.example", "https://dixie.example/", false},
		{"dixie.example:8443", "", "dixie.example:8443", "https://dixie.example:8443/", true},
		{"dixie.example:8443", "", "dixie.example", "https://dixie.example:8443/", false},
		{"dixie.example:8443", "", "dixie.example:8443", "https://dixie.example/", false},
		{"localhost:3001", "", "localhost:3001", "http://localhost:3001", true},
		{"localhost:3001", "", "localhost:3001", "https://localhost:3001", true},
		{"localhost:3001", "", "localhost:3002", "http://localhost:3002", false},
		{"https://localhost:3001", "", "localhost:3001", "http://localhost:3001", false},
		{"127.0.0.1", "", "127.0.0.1", "http://127.0.0.1/", true},
		{"127.0.0.1:80", "http", "127.0.0.1:80", "http://127.0.0.1:80/", true},
		{"[::1]:3001", "", "[::1]:3001", "http://[::1]:3001/", true},
		{"[::1]", "", "[::1]", "http://[::1]", true},
		{"10.0.0.1", "", "10.0.0.1", "http://10.0.0.1", false},
		{"localhost.evil.example", "", "localhost.evil.example", "http://localhost.evil.example", false},
	}
	for _, test := range tests {
		s := newSignIn(t, func(c *auth.SignInConfig) { c.Domains = []string{test.entry} })
		message := messageOf(alice, func(m *auth.Message) { m.Scheme, m.Domain, m.URI = test.scheme, test.domain, test.uri })
		want := auth.ErrSignInRefused
		if test.accepted {
			want = nil
		}
		wantSignIn(t, fmt.Sprint(test), s, message, hexOf(alice.sign(message)), want)
	}
}

// TestSignInConfig: all that is wrong is named at once.
func TestSignInConfig(t *testing.T) {
	t.Parallel()
	_, err := auth.NewSignIn(auth.SignInConfig{NonceKey: make([]byte, 31)})
	for _, part := range []string{"domains", "chains", "nonces", "nonce key"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not name %s", err, part)
		}
	}
	for _, entry := range []string{"", "*", "*.example", "dixie.example/", "https://dixie.example/login", "ftp://dixie.example", "://x", "https://", "bear@dixie.example", "dixie example", "[::1", "dixie.example:x", "döxie.example"} {
		config := signInConfig()
		config.Domains = []string{"dixie.example", entry}
		if _, err := auth.NewSignIn(config); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", entry)) {
			t.Errorf("entry %q: error %v", entry, err)
		}
	}
	config := signInConfig()
	chains, key := []uint64{1}, []byte(strings.Repeat("k", 32))
	config.Chains, config.NonceKey = chains, key
	if _, err := auth.NewSignIn(config); err != nil {
		t.Error(err)
	}
}

// TestReplay: a message signs in once, as long as it is valid anywhere.
func TestReplay(t *testing.T) {
	t.Parallel()
	nonces := &auth.MemoryNonces{}
	on := func(now time.Time) *auth.SignIn {
		return newSignIn(t, at(now), func(c *auth.SignInConfig) { c.Nonces = nonces })
	}
	// Issued by a wallet whose clock is ahead: the longest that a message is valid.
	message := messageOf(alice, func(m *auth.Message) { m.IssuedAt = reputation.TimestampOf(signInTime.Add(time.Minute)) })
	signature := hexOf(alice.sign(message))
	wantSignIn(t, "first", on(signInTime), message, signature, nil)
	for _, later := range []time.Duration{0, 1, time.Minute, 5 * time.Minute, 6 * time.Minute} {
		wantSignIn(t, later.String(), on(signInTime.Add(later)), message, signature, auth.ErrSignInReplayed)
	}
	wantSignIn(t, "with v from 0", on(signInTime), message, otherV(t, signature), auth.ErrSignInReplayed)
	wantSignIn(t, "too late", on(signInTime.Add(6*time.Minute+1)), message, signature, auth.ErrSignInExpired)
	// A replica whose clock is five minutes behind ours still takes it for valid.
	use, err := nonces.Use(t.Context(), valid().Nonce, signInTime.Add(11*time.Minute-1), signInTime.Add(time.Hour))
	if err != nil || use {
		t.Errorf("the nonce is free early: %t, %v", use, err)
	}
}

// TestNonceOfAnotherMessage: it is the nonce that is used, whoever used it.
func TestNonceOfAnotherMessage(t *testing.T) {
	t.Parallel()
	s := newSignIn(t)
	first := messageOf(alice)
	wantSignIn(t, "first", s, first, hexOf(alice.sign(first)), nil)
	second := messageOf(alice, func(m *auth.Message) { m.ChainID = 8453 })
	wantSignIn(t, "another message", s, second, hexOf(alice.sign(second)), auth.ErrSignInReplayed)
	third := messageOf(mallory)
	wantSignIn(t, "another wallet", s, third, hexOf(mallory.sign(third)), auth.ErrSignInReplayed)
	fourth := messageOf(alice, withNonce("k7Qw2Zt9Lm4Xb8RC"))
	wantSignIn(t, "a nonce that differs in case", s, fourth, hexOf(alice.sign(fourth)), nil)
}

// TestNobodyUsesUpTheNonceOfAnother: whoever has seen a message, but is not its
// wallet, cannot keep the wallet out.
func TestNobodyUsesUpTheNonceOfAnother(t *testing.T) {
	t.Parallel()
	s := newSignIn(t, func(c *auth.SignInConfig) {
		c.Admits = func(a auth.Address) bool { return a == alice.address() }
	})
	seen := messageOf(alice)
	own := messageOf(mallory)
	wantSignIn(t, "the message of alice, signed by mallory", s, seen, hexOf(mallory.sign(seen)), auth.ErrSignInSignature)
	wantSignIn(t, "the message of alice with rubbish", s, seen, hexOf(make([]byte, 65)), auth.ErrSignInSignature)
	wantSignIn(t, "a message of mallory with that nonce", s, own, hexOf(mallory.sign(own)), auth.ErrSignInForbidden)
	wantSignIn(t, "alice", s, seen, hexOf(alice.sign(seen)), nil)
}

// countingNonces counts, and fails when it has an error.
type countingNonces struct {
	auth.MemoryNonces
	calls atomic.Int64
	err   error
}

func (c *countingNonces) Use(ctx context.Context, nonce string, now, until time.Time) (bool, error) {
	c.calls.Add(1)
	if c.err != nil {
		return true, c.err
	}
	return c.MemoryNonces.Use(ctx, nonce, now, until)
}

// TestOnlySignInsAreRemembered: nothing that anyone can send fills the store.
func TestOnlySignInsAreRemembered(t *testing.T) {
	t.Parallel()
	nonces := &countingNonces{}
	s := newSignIn(t, func(c *auth.SignInConfig) {
		c.Nonces, c.Admits = nonces, func(a auth.Address) bool { return a == alice.address() }
	})
	for i := range 100 {
		stranger := accountOf(fmt.Sprint("stranger ", i))
		message := messageOf(stranger, withNonce(fmt.Sprint("stranger", i)))
		wantSignIn(t, "a stranger", s, message, hexOf(stranger.sign(message)), auth.ErrSignInForbidden)
		message = messageOf(alice, withNonce(fmt.Sprint("stranger", i)))
		wantSignIn(t, "a forger", s, message, hexOf(stranger.sign(message)), auth.ErrSignInSignature)
		if _, err := s.NewNonce(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := nonces.calls.Load(); n != 0 {
		t.Errorf("%d nonces were remembered", n)
	}
}

// TestNonceStoreFails: without knowing whether the nonce is free, nobody signs in.
func TestNonceStoreFails(t *testing.T) {
	t.Parallel()
	s := newSignIn(t, func(c *auth.SignInConfig) {
		c.Nonces = &countingNonces{err: fmt.Errorf("no connection: %w", reputation.ErrUnavailable)}
	})
	message := messageOf(alice)
	wallet, err := s.Verify(t.Context(), message, hexOf(alice.sign(message)))
	if !errors.Is(err, reputation.ErrUnavailable) || wallet != (auth.Address{}) {
		t.Errorf("%s, %v", wallet, err)
	}
	for _, kind := range signInErrors {
		if errors.Is(err, kind) {
			t.Errorf("error %v", err)
		}
	}
}

// TestConcurrentSignIn: of those who present a message at the same time, to any
// replica, one signs in.
func TestConcurrentSignIn(t *testing.T) {
	t.Parallel()
	database := pgtest.Pool(t)
	for name, stores := range map[string][2]auth.NonceStore{
		"memory":   func() [2]auth.NonceStore { m := &auth.MemoryNonces{}; return [2]auth.NonceStore{m, m} }(),
		"postgres": {auth.NewPostgresNonces(database), auth.NewPostgresNonces(database)},
	} {
		replicas := make([]*auth.SignIn, 2)
		for i := range replicas {
			replicas[i] = newSignIn(t, func(c *auth.SignInConfig) { c.Nonces = stores[i] })
		}
		message := messageOf(alice)
		signature := hexOf(alice.sign(message))
		var in, replayed atomic.Int64
		var group sync.WaitGroup
		for i := range 32 {
			group.Go(func() {
				switch wallet, err := replicas[i%2].Verify(t.Context(), message, signature); {
				case err == nil && wallet == alice.address():
					in.Add(1)
				case errors.Is(err, auth.ErrSignInReplayed):
					replayed.Add(1)
				default:
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		group.Wait()
		if in.Load() != 1 || replayed.Load() != 31 {
			t.Errorf("%s: %d signed in, %d replays", name, in.Load(), replayed.Load())
		}
	}
}

// TestSignInErrorsForTheLog: the log learns why, and the kind of error, which is
// all that a client is told, does not say.
func TestSignInErrorsForTheLog(t *testing.T) {
	t.Parallel()
	s := newSignIn(t)
	message := messageOf(alice)
	_, err := s.Verify(t.Context(), message, hexOf(mallory.sign(message)))
	if !errors.Is(err, auth.ErrSignInSignature) || !strings.Contains(err.Error(), mallory.address().String()) || !strings.Contains(err.Error(), alice.address().String()) {
		t.Errorf("error %v", err)
	}
	other := messageOf(alice, func(m *auth.Message) { m.Domain = "evil.example" })
	_, err = s.Verify(t.Context(), other, hexOf(alice.sign(other)))
	if !errors.Is(err, auth.ErrSignInRefused) || !strings.Contains(err.Error(), "evil.example") {
		t.Errorf("error %v", err)
	}
	for _, kind := range signInErrors {
		for _, secret := range []string{"dixie", "evil", "recover", "0x"} {
			if strings.Contains(kind.Error(), secret) {
				t.Errorf("%q says %q", kind, secret)
			}
		}
	}
}

// contracts stands for a chain with a contract wallet.
type contracts struct {
	answer bool
	err    error
	asked  []string
}

func (c *contracts) ValidSignature(_ context.Context, chain uint64, wallet auth.Address, hash [32]byte, signature []byte) (bool, error) {
	c.asked = append(c.asked, fmt.Sprintf("%d %s %x %x", chain, wallet, hash[:4], signature))
	return c.answer, c.err
}

// TestContractWallet: a contract is asked on the message's chain when no account
// has signed, and never without being configured.
func TestContractWallet(t *testing.T) {
	t.Parallel()
	with := func(c *contracts) *auth.SignIn {
		return newSignIn(t, func(config *auth.SignInConfig) { config.Contracts = c })
	}
	message := messageOf(alice, func(m *auth.Message) { m.ChainID = 8453 })
	hash := auth.HashMessage(message)
	signature := hexOf([]byte("any form"))

	yes := &contracts{answer: true}
	wantSignIn(t, "accepted", with(yes), message, signature, nil)
	want := fmt.Sprintf("8453 %s %x %x", alice.address(), hash[:4], "any form")
	if len(yes.asked) != 1 || yes.asked[0] != want {
		t.Errorf("asked %q, want %q", yes.asked, want)
	}
	wantSignIn(t, "refused", with(&contracts{}), message, signature, auth.ErrSignInSignature)
	wantSignIn(t, "not configured", newSignIn(t), message, signature, auth.ErrSignInSignature)

	account := &contracts{}
	wantSignIn(t, "an account", with(account), message, hexOf(alice.sign(message)), nil)
	elsewhere := messageOf(alice, func(m *auth.Message) { m.Domain = "evil.example" })
	wantSignIn(t, "for another site", with(account), elsewhere, signature, auth.ErrSignInRefused)
	if len(account.asked) != 0 {
		t.Errorf("asked %q", account.asked)
	}

	s := with(&contracts{err: errors.New("no answer")})
	if wallet, err := s.Verify(t.Context(), message, signature); !errors.Is(err, reputation.ErrUnavailable) || wallet != (auth.Address{}) {
		t.Errorf("%s, %v", wallet, err)
	}
	once := with(yes)
	wantSignIn(t, "once", once, message, signature, nil)
	wantSignIn(t, "twice", once, message, signature, auth.ErrSignInReplayed)
}

// BenchmarkSignIn is one sign-in, and BenchmarkRecover what of it is unavoidable.
func BenchmarkSignIn(b *testing.B) {
	s := newSignIn(b, func(c *auth.SignInConfig) { c.Nonces = anyNonce{} })
	message := messageOf(alice)
	signature := hexOf(alice.sign(message))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Verify(b.Context(), message, signature); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecover(b *testing.B) {
	message := messageOf(alice)
	hash := auth.HashMessage(message)
	signature := alice.sign(message)
	compact := append([]byte{signature[64]}, signature[:64]...)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := koblitzecdsa.RecoverCompact(compact, hash[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSignInRatio tells how much a sign-in costs compared to the recovery of
// its signer alone. The two take turns, so that what else the machine does slows
// both.
func BenchmarkSignInRatio(b *testing.B) {
	s := newSignIn(b, func(c *auth.SignInConfig) { c.Nonces = anyNonce{} })
	message := messageOf(alice)
	signature := alice.sign(message)
	text, hash := hexOf(signature), auth.HashMessage(message)
	compact := append([]byte{signature[64]}, signature[:64]...)
	var whole, bare time.Duration
	for b.Loop() {
		start := time.Now()
		_, err := s.Verify(b.Context(), message, text)
		middle := time.Now()
		_, _, bareErr := koblitzecdsa.RecoverCompact(compact, hash[:])
		whole, bare = whole+middle.Sub(start), bare+time.Since(middle)
		if err != nil || bareErr != nil {
			b.Fatal(err, bareErr)
		}
	}
	b.ReportMetric(float64(whole)/float64(bare), "x-of-recovery")
}

// anyNonce lets every nonce pass.
type anyNonce struct{}

func (anyNonce) Use(context.Context, string, time.Time, time.Time) (bool, error) { return true, nil }
