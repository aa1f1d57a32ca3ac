package main_test

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/golang-jwt/jwt/v5"
	"golang.org/x/crypto/sha3"

	"dixie/auth"
	"dixie/internal/dixiecmd"
	"dixie/internal/logtext"
	"dixie/internal/pgtest"
	"dixie/reputation"
)

const site = "dixie.example"

// account is an Ethereum account that can sign in.
type account struct {
	key     *secp256k1.PrivateKey
	address auth.Address
}

func newAccount(t testing.TB) account {
	t.Helper()
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	a := account{key: key}
	sum := keccak(key.PubKey().SerializeUncompressed()[1:])
	copy(a.address[:], sum[12:])
	return a
}

func keccak(data []byte) []byte {
	h := sha3.NewLegacyKeccak256()
	h.Write(data)
	return h.Sum(nil)
}

// signIn is the body of a sign-in with a nonce.
func (a account) signIn(t testing.TB, nonce string) string {
	t.Helper()
	return a.signInAt(t, "https://"+site, nonce)
}

// signInAt is the body of a sign-in from another site.
func (a account) signInAt(t testing.TB, origin, nonce string) string {
	t.Helper()
	_, domain, _ := strings.Cut(origin, "://")
	message := auth.Message{
		Domain: domain, Address: a.address, URI: origin + "/login", ChainID: 1, Nonce: nonce,
		IssuedAt: reputation.TimestampOf(time.Now().Truncate(time.Second)),
	}.String()
	signed := fmt.Sprintf("\x19Ethereum Signed Message:\n%d%s", len(message), message)
	compact := secpecdsa.SignCompact(a.key, keccak([]byte(signed)), false)
	signature := append(compact[1:], compact[0])
	body, err := json.Marshal(map[string]string{"message": message, "signature": "0x" + hex.EncodeToString(signature)})
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

var servingLine = regexp.MustCompile(`"msg":"serving","url":"([^"]+)"`)

// serveFor starts a server as operators do, without --dev.
func serveFor(t *testing.T, env ...string) *server {
	t.Helper()
	s := &server{t: t, done: make(chan struct{}), log: &logtext.Log{}}
	s.cmd = exec.Command(dixie, "serve", "--host", "127.0.0.1", "--port", "0")
	s.cmd.Env = append(dixiecmd.Environ(), env...)
	s.cmd.Stdout = s.log // nothing is to be seen there
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started := make(chan string, 1)
	go func() {
		defer close(s.done)
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			_, _ = s.log.Write(append(lines.Bytes(), '\n'))
			if match := servingLine.FindStringSubmatch(lines.Text()); match != nil {
				started <- match[1]
			}
		}
		_ = s.cmd.Wait()
	}()
	t.Cleanup(s.kill)
	select {
	case s.url = <-started:
	case <-s.done:
		t.Fatalf("the server did not start:\n%s", s.log)
	}
	return s
}

// answered is the answer to a request with headers.
type answered struct {
	Status int
	Error  string `json:"error"`
	Token  string `json:"token"`
	Wallet string `json:"wallet"`
	Nonce  string `json:"nonce"`
	Role   string `json:"role"`
	Exp    int64  `json:"exp"`
	Keys   []struct{ Kty, Crv, X, Y, Alg, Use, Kid string }
}

func (s *server) call(method, path, body string, header ...string) answered {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	a := answered{Status: response.StatusCode}
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// want checks status and code.
func (a answered) want(t testing.TB, status int, code string) answered {
	t.Helper()
	if a.Status != status || a.Error != code {
		t.Fatalf("%d %q, want %d %q", a.Status, a.Error, status, code)
	}
	return a
}

// gatewayEnv are the settings of a server that wallets sign in to.
func gatewayEnv(t *testing.T, wallets ...account) (env []string, allowlist string) {
	t.Helper()
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "key.pem")
	mustCLI(t, nil, "keygen", "--out", keyFile)
	key, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	var addresses []string
	for _, w := range wallets {
		addresses = append(addresses, `"`+w.address.String()+`"`)
	}
	allowlist = filepath.Join(dir, "allowlist.json")
	text := `{"version":1,"wallets":[` + strings.Join(addresses, ",") + `],"apiKeys":[]}`
	if err := os.WriteFile(allowlist, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{
		"DIXIE_JWT_PRIVATE_KEY=" + strings.ReplaceAll(string(key), "\n", `\n`), // as secret stores deliver it
		"DIXIE_ALLOWLIST_PATH=" + allowlist, "DIXIE_ADMIN_KEY=" + testAdminKey, "DIXIE_SIWE_DOMAINS=" + site,
		"DIXIE_ALLOWLIST_POLL=20ms",
	}, allowlist
}

const testAdminKey = "an-administrators-key-of-the-tests"

// TestSignIn: a wallet signs in, its token verifies against the published keys and
// opens routes, its message signs in once, and on any replica.
func TestSignIn(t *testing.T) {
	t.Parallel()
	member, stranger := newAccount(t), newAccount(t)
	env, _ := gatewayEnv(t, member)
	env = append(env, "DATABASE_URL="+pgtest.URL(t), "DIXIE_SIWE_REQUIRE_SERVER_NONCE=true")
	one, two := serveFor(t, env...), serveFor(t, env...)

	nonce := one.call("GET", "/api/auth/nonce", "").want(t, 200, "").Nonce
	body := member.signIn(t, nonce)
	session := two.call("POST", "/api/auth/siwe", body).want(t, 200, "")
	if session.Wallet != member.address.String() {
		t.Errorf("signed in as %s, want %s", session.Wallet, member.address)
	}
	for _, s := range []*server{one, two} {
		s.call("POST", "/api/auth/siwe", body).want(t, 401, "message_replayed")
	}
	one.call("POST", "/api/auth/siwe", member.signIn(t, "k7Qw2Zt9Lm4Xb8Rc")).want(t, 401, "message_replayed")
	one.call("POST", "/api/auth/siwe", stranger.signIn(t, one.call("GET", "/api/auth/nonce", "").Nonce)).want(t, 403, "forbidden")

	checkToken(t, session.Token, one.call("GET", "/api/auth/.well-known/jwks.json", "").want(t, 200, ""), member)
	bearer := []string{"Authorization", "Bearer " + session.Token}
	said := one.call("GET", "/api/auth/verify", "", bearer...).want(t, 200, "")
	if left := said.Exp - time.Now().Unix(); said.Role != "team" || said.Wallet != session.Wallet || left < 3500 || left > 3600 {
		t.Errorf("the token says %+v", said)
	}
	one.call("GET", "/api/reputation", "", bearer...).want(t, 200, "")
	one.call("GET", "/api/admin/allowlist", "", bearer...).want(t, 403, "insufficient_scope")
}

// checkToken verifies a token as anyone can who has the key set.
func checkToken(t testing.TB, token string, set answered, w account) {
	t.Helper()
	if len(set.Keys) != 1 || set.Keys[0].Alg != "ES256" || set.Keys[0].Use != "sig" || set.Keys[0].Kid != "dixie-es256-v1" {
		t.Fatalf("the key set is %+v", set.Keys)
	}
	point := slices.Concat([]byte{4}, coordinate(t, set.Keys[0].X), coordinate(t, set.Keys[0].Y))
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := jwt.Parse(token, func(*jwt.Token) (any, error) { return public, nil },
		jwt.WithValidMethods([]string{"ES256"}), jwt.WithIssuer("dixie-bff"), jwt.WithExpirationRequired())
	if err != nil {
		t.Fatal(err)
	}
	if subject, _ := parsed.Claims.GetSubject(); subject != w.address.String() || parsed.Header["kid"] != "dixie-es256-v1" {
		t.Errorf("the token is of %s by %v", subject, parsed.Header["kid"])
	}
}

func coordinate(t testing.TB, text string) []byte {
	t.Helper()
	number, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(number) != 32 {
		t.Fatalf("coordinate %q: %v", text, err)
	}
	return number
}

// TestAdministerAllowlist: what administrators change counts at once, for tokens
// that were issued before, and survives a restart.
func TestAdministerAllowlist(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	env, file := gatewayEnv(t)
	s := serveFor(t, env...)
	admin := []string{"X-Admin-Key", testAdminKey}
	s.call("POST", "/api/auth/siwe", w.signIn(t, "k7Qw2Zt9Lm4Xb8Rc")).want(t, 403, "forbidden")
	s.call("POST", "/api/admin/allowlist", `{"type":"wallet","value":"`+strings.ToLower(w.address.String())+`"}`, admin...).want(t, 201, "")
	token := s.call("POST", "/api/auth/siwe", w.signIn(t, "k7Qw2Zt9Lm4Xb8Rc")).want(t, 200, "").Token
	bearer := []string{"Authorization", "Bearer " + token}
	s.call("GET", "/api/reputation", "", bearer...).want(t, 200, "")
	s.call("DELETE", "/api/admin/allowlist/"+w.address.String(), "", admin...).want(t, 200, "")
	s.call("GET", "/api/reputation", "", bearer...).want(t, 403, "forbidden")
	s.call("GET", "/api/auth/verify", "", bearer...).want(t, 403, "forbidden")

	s.call("POST", "/api/admin/allowlist", `{"type":"apiKey","name":"hive","value":"dxk_chosen_for_the_hive","scopes":["read"]}`, admin...).want(t, 201, "")
	s.call("POST", "/api/admin/allowlist", `{"type":"apiKey","name":"hive"}`, admin...).want(t, 409, "conflict")
	s.call("GET", "/api/reputation", "", "Authorization", "Bearer dxk_chosen_for_the_hive").want(t, 200, "")
	s.stop()
	again := serveFor(t, env...)
	again.call("GET", "/api/reputation", "", "Authorization", "Bearer dxk_chosen_for_the_hive").want(t, 200, "")
	again.call("POST", "/api/admin/allowlist/hive/rotate", "", admin...).want(t, 200, "")
	again.call("GET", "/api/reputation", "", "Authorization", "Bearer dxk_chosen_for_the_hive").want(t, 401, "invalid_token")
	// As clients of the service before this one do it.
	const chosen = "dxk_chosen_by_an_older_client"
	again.call("POST", "/api/admin/allowlist", `{"type":"apiKey","value":"`+chosen+`"}`, admin...).want(t, 201, "")
	again.call("GET", "/api/reputation", "", "Authorization", "Bearer "+chosen).want(t, 200, "")
	again.call("DELETE", "/api/admin/allowlist/"+chosen, "", admin...).want(t, 200, "")
	again.call("GET", "/api/reputation", "", "Authorization", "Bearer "+chosen).want(t, 401, "invalid_token")
	if strings.Contains(again.log.String(), chosen) {
		t.Error("the log has the key")
	}
	text, err := os.ReadFile(file)
	if err != nil || bytes.Contains(text, []byte("dxk_")) {
		t.Errorf("the file holds %s, %v", text, err)
	}
}

// TestSecretsAreNotTold: neither the log at its most talkative, nor help, nor the
// complaint about bad settings has any of them.
func TestSecretsAreNotTold(t *testing.T) {
	t.Parallel()
	w := newAccount(t)
	env, _ := gatewayEnv(t, w)
	const password, legacy, wrong = "pass-of-the-tests", "a-legacy-secret-of-the-tests-0123456789", "dxk_not_a_key_of_anyone_1"
	const finnToken, node, number = "a-token-for-finn-of-the-tests", "https://node.example/a-key-of-the-tests", "a-number-of-the-tests"
	env = append(env, "LOG_LEVEL=debug", "DIXIE_JWT_LEGACY_HS256_SECRET="+legacy, "FINN_URL=http://127.0.0.1:1",
		"FINN_AUTH_TOKEN="+finnToken, "DIXIE_SIWE_RPC_URLS=1="+node)
	s := serveFor(t, env...)
	session := s.call("POST", "/api/auth/siwe", w.signIn(t, "k7Qw2Zt9Lm4Xb8Rc"), "X-Forwarded-For", "203.0.113.9")
	s.call("GET", "/api/reputation", "", "Authorization", "Bearer "+session.Token)
	s.call("GET", "/api/reputation", "", "Authorization", "Bearer "+wrong)
	s.call("POST", "/api/chat", `{"prompt":"hello"}`, "Authorization", "Bearer "+session.Token).want(t, 503, "upstream_error")
	s.call("GET", "/api/reputation/"+wrong, "", "Authorization", "Bearer "+wrong)
	s.call("GET", "/api/admin/allowlist", "", "X-Admin-Key", testAdminKey)
	s.call("GET", "/api/admin/allowlist", "", "X-Admin-Key", testAdminKey+"?")
	s.stop()
	help, _, err := cli(t, env, "serve", "--help")
	if err != nil {
		t.Fatal(err)
	}
	_, unreachable, _ := cli(t, append(env, "DATABASE_URL=postgres://me:"+password+"@127.0.0.1:1/none"), "serve")
	_, malformed, _ := cli(t, append(env, "DATABASE_URL=postgres://me:"+password+"@:x:/none"), "serve")
	_, unreadable, _ := cli(t, append(env, "DIXIE_SIWE_RPC_URLS="+number+"="+node, "DIXIE_RATE_LIMIT_RPM=many"), "serve")
	pem := regexp.MustCompile(`[A-Za-z0-9+/=]{32,}`).FindString(env[0])
	for where, text := range map[string]string{"log": s.log.String(), "help": help, "no database": unreachable, "bad URL": malformed, "bad settings": unreadable} {
		for what, secret := range map[string]string{
			"key": pem, "administrators' key": testAdminKey, "legacy secret": legacy, "password": password,
			"token": session.Token, "wrong API key": wrong, "token for finn": finnToken, "node": node, "number": number,
		} {
			if secret == "" {
				t.Fatalf("there is no %s", what)
			}
			if strings.Contains(text, secret) {
				t.Errorf("the %s has the %s", where, what)
			}
		}
	}
	for text, part := range map[string]string{
		s.log.String(): "wrong_admin_key", help: "DIXIE_ADMIN_KEY", unreachable: "connect", malformed: "database-url", unreadable: "DIXIE_SIWE_RPC_URLS",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not told of in\n%s", part, text)
		}
	}
}

// TestUnknownVariables: a misspelt setting is named, with the one that was meant.
func TestUnknownVariables(t *testing.T) {
	t.Parallel()
	env, _ := gatewayEnv(t)
	s := serveFor(t, append(env, "DIXIE_RATE_LIMIT_RMP=5", "DIXIE_SOMETHING_ELSE_ENTIRELY=hidden")...)
	for _, want := range []string{
		`"variable":"DIXIE_RATE_LIMIT_RMP","did_you_mean":"DIXIE_RATE_LIMIT_RPM"`,
		`"variable":"DIXIE_SOMETHING_ELSE_ENTIRELY"}`,
	} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, s.log)
		}
	}
	if n := strings.Count(s.log.String(), "unknown variable"); n != 2 || strings.Contains(s.log.String(), "hidden") {
		t.Errorf("%d variables are unknown:\n%s", n, s.log)
	}
}

// TestAllProblemsAtOnce: a start that fails says all that has to be mended: what
// cannot be read, and what makes no sense.
func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "allowlist.json")
	if err := os.WriteFile(file, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	senseless := map[string]string{ // and the word by which the complaint names it
		"DIXIE_JWT_PRIVATE_KEY=too-short": "DIXIE_JWT_PRIVATE_KEY", "DIXIE_ADMIN_KEY=short": "DIXIE_ADMIN_KEY",
		"DIXIE_CORS_ORIGINS=https://*.example/path": "DIXIE_CORS_ORIGINS", "DIXIE_SIWE_DOMAINS=https://a/b": "DIXIE_SIWE_DOMAINS",
		"DIXIE_SCORING_ALPHA_MIN=2": "alpha_min", "DIXIE_ALLOWLIST_PATH=" + file: file, "DIXIE_RATE_LIMIT_RPM=-1": "DIXIE_RATE_LIMIT_RPM",
		"FINN_URL=ftp://finn": "finn-url", "DATABASE_URL=nonsense": "database-url",
	}
	unreadable := map[string]string{
		"DIXIE_SHUTDOWN_GRACE=soon": "DIXIE_SHUTDOWN_GRACE", "DATABASE_POOL_SIZE=many": "DATABASE_POOL_SIZE",
		"LOG_FORMAT=xml": "LOG_FORMAT", "DIXIE_TRUSTED_PROXIES=here": "DIXIE_TRUSTED_PROXIES", "DIXIE_SIWE_CHAINS=main": "DIXIE_SIWE_CHAINS",
	}
	both := maps.Clone(senseless)
	maps.Copy(both, unreadable)
	for _, problems := range []map[string]string{senseless, unreadable, both} {
		_, stderr, err := cli(t, slices.Collect(maps.Keys(problems)), "serve", "--port", "0")
		if err == nil {
			t.Fatal("the server started")
		}
		for variable, word := range problems {
			if !strings.Contains(stderr, word) {
				t.Errorf("%s is not told of:\n%s", variable, stderr)
			}
		}
	}
}

// variable is an environment variable in the help of a command.
var variable = regexp.MustCompile(`\$([A-Z0-9_]+)`)

// TestVariablesAreDocumented: the table of the operators has every variable, or those
// that begin alike in one line.
func TestVariablesAreDocumented(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile("`([A-Z0-9_]+)(…?)`").FindAllStringSubmatch(string(guide), -1)
	for _, command := range []string{"serve", "migrate up", "import", "export", "rebuild", "publish", "apikey new", "token"} {
		for _, match := range variable.FindAllStringSubmatch(mustCLI(t, nil, append(strings.Fields(command), "--help")...), -1) {
			if !slices.ContainsFunc(documented, func(known []string) bool {
				return known[1] == match[1] || known[2] != "" && strings.HasPrefix(match[1], known[1])
			}) {
				t.Errorf("%s of dixie %s is not in docs/operations.md", match[1], command)
			}
		}
	}
}

// TestEmptyVariables: a variable that is empty is one that is not set.
func TestEmptyVariables(t *testing.T) {
	t.Parallel()
	help := mustCLI(t, nil, "serve", "--help")
	var env []string
	for _, match := range variable.FindAllStringSubmatch(help, -1) {
		env = append(env, match[1]+"=")
	}
	if len(env) < 40 {
		t.Fatalf("help tells of %d variables", len(env))
	}
	s := serveFor(t, env...)
	s.call("GET", "/api/auth/nonce", "").want(t, 503, "signin_unconfigured")
}

// TestWithoutNewSettings: a server without any of the settings that came with
// signing in goes on as before, and says what it cannot do.
func TestWithoutNewSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "allowlist.json")
	key := strings.TrimSpace(mustCLI(t, nil, "apikey", "new", "--name", "old", "--scopes", "read,append", "--allowlist-path", file))
	s := serveFor(t, "DIXIE_ALLOWLIST_PATH="+file)
	bearer := []string{"Authorization", "Bearer " + key}
	for range 200 { // nobody limits it
		s.call("GET", "/api/reputation", "", bearer...).want(t, 200, "")
	}
	s.call("POST", "/api/auth/siwe", newAccount(t).signIn(t, "k7Qw2Zt9Lm4Xb8Rc")).want(t, 503, "signin_unconfigured")
	if set := s.call("GET", "/api/auth/.well-known/jwks.json", "").want(t, 200, ""); len(set.Keys) != 0 {
		t.Errorf("the key set is %+v", set.Keys)
	}
	s.call("GET", "/api/admin/allowlist", "", "X-Admin-Key", "").want(t, 401, "unauthorized")
	s.call("GET", "/api/admin/allowlist", "", "X-Admin-Key", testAdminKey).want(t, 403, "forbidden")
	s.call("GET", "/api/admin/allowlist", "", bearer...).want(t, 403, "insufficient_scope")
}

// TestDevelopment: without any settings every wallet can sign in, until one is
// listed; what is listed lasts for this run only.
func TestDevelopment(t *testing.T) {
	t.Parallel()
	s := serve(t, nil)
	one, other := newAccount(t), newAccount(t)
	token := s.call("POST", "/api/auth/siwe", one.signInAt(t, s.url, "k7Qw2Zt9Lm4Xb8Rc")).want(t, 200, "").Token
	bearer := []string{"Authorization", "Bearer " + token}
	s.call("GET", "/api/reputation", "", bearer...).want(t, 200, "")
	admin := []string{"Authorization", "Bearer " + devKey}
	s.call("POST", "/api/admin/allowlist", `{"type":"wallet","value":"`+other.address.String()+`"}`, admin...).want(t, 201, "")
	s.call("GET", "/api/reputation", "", bearer...).want(t, 403, "forbidden")
	s.call("POST", "/api/auth/siwe", other.signInAt(t, s.url, "k7Qw2Zt9Lm4Xb8Rd")).want(t, 200, "")
	s.stop()
	again := serve(t, nil)
	again.call("POST", "/api/auth/siwe", one.signInAt(t, again.url, "k7Qw2Zt9Lm4Xb8Rc")).want(t, 200, "")
}

// TestForwardedLimit: over HTTP as operators run it, a caller is limited and told
// so, and the scaffold of payment marks the answers.
func TestForwardedLimit(t *testing.T) {
	t.Parallel()
	env, _ := gatewayEnv(t)
	s := serveFor(t, append(env, "DIXIE_RATE_LIMIT_RPM=3", "DIXIE_X402_ENABLED=true")...)
	for range 3 {
		s.call("GET", "/api/reputation", "").want(t, 401, "unauthorized")
	}
	s.call("GET", "/api/reputation", "").want(t, 429, "rate_limited")
	response, err := http.Get(s.url + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.Header.Get("X-Payment-Status") != "scaffold" {
		t.Errorf("the headers are %v", response.Header)
	}
}
