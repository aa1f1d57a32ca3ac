package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"dixie/internal/dixiecmd"
	"dixie/internal/fakefinn"
	"dixie/internal/natstest"
	"dixie/internal/pgtest"
)

// TestSecretsStayInside starts a server with every secret that there is, does all
// that can go well or wrong with it at the most talkative level of the log, and looks
// for the secrets in everything that comes out. What a caller is given (a nonce, a
// token, a new API key) may be in that one answer.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	v := serveVault(t)
	token := v.visitAsWallet()
	v.visitAsAdministrator()
	v.visitWrongly(token)
	v.visitWithFinnFailing(token)
	_, metrics := fetch(t, v.url+"/metrics")
	v.secrets.wantNone(t, "metrics", metrics)

	v.nats.Stop()
	v.append(3, 201)
	eventually(t, "NATS is missed", func() bool {
		return strings.Contains(v.tell("GET", "/api/health", "", nil), "unreachable") && strings.Contains(v.log.String(), "projector interrupted")
	})
	shutDatabase(t, v.database)
	v.append(4, 503)
	v.tell("GET", "/readyz", "", nil)
	v.tell("GET", "/api/health", "", nil)
	v.tell("GET", "/api/reputation/bear-1", "", bearer(v.key))
	v.tell("POST", "/api/auth/siwe", v.signInBody("k7Qw2Zt9Lm4Xb8Rd"), nil)
	_, metrics = fetch(t, v.url+"/metrics")
	v.secrets.wantNone(t, "metrics without a database", metrics)
	v.stop()

	v.secrets.wantNone(t, "output", v.log.String())
	v.secrets.wantNone(t, "spans", v.spans.Text(t))
	for _, line := range []string{
		`"msg":"request"`, `"msg":"request failed"`, "circuit_breaker_transition", "wrong_admin_key", "invalid_token",
		`"msg":"projector interrupted"`, `"msg":"allowlist changed"`, `"reason":"message_replayed"`,
	} {
		if !strings.Contains(v.log.String(), line) {
			t.Errorf("the log has no %s: nothing was seen of what it tests", line)
		}
	}
	for _, span := range []string{"POST /api/auth/siwe", "POST finn", "append", "INSERT"} {
		if len(v.spans.Named(span)) == 0 {
			t.Errorf("no span %q", span)
		}
	}
}

func bearer(token string) map[string]string {
	return map[string]string{"Authorization": "Bearer " + token}
}

// append appends event number n, whose evaluator is nobody's business.
func (v *vault) append(n, status int) {
	v.t.Helper()
	event := fmt.Sprintf(`{"type":"model_performance","event_id":"00000000-0000-4000-8000-%012d","agent_id":"bear-1","collection_id":"honey",
		"timestamp":"2026-02-25T12:00:00Z","model_id":"m","provider":"p","pool_id":"a","task_type":"analysis",
		"quality_observation":{"score":0.5,"evaluated_by":%q}}`, n, v.secrets.mark("evaluator"))
	answer := v.tell("POST", "/api/reputation/bear-1/events", event, bearer(v.key))
	if !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d", status)) {
		v.t.Fatalf("appending is answered with %s, want %d", answer, status)
	}
}

// signInBody is the body of a sign-in, whose signature and nonce are secrets then.
func (v *vault) signInBody(nonce string) string {
	v.t.Helper()
	body := v.member.signIn(v.t, nonce)
	var sent struct{ Signature string }
	if err := json.Unmarshal([]byte(body), &sent); err != nil {
		v.t.Fatal(err)
	}
	v.secrets.add("signature of "+nonce, strings.TrimPrefix(sent.Signature, "0x"))
	v.secrets.add("nonce "+nonce, nonce)
	return body
}

var (
	nonceMember = regexp.MustCompile(`"nonce":"([^"]+)"`)
	tokenMember = regexp.MustCompile(`"token":"([^"]+)"`)
	keyMember   = regexp.MustCompile(`dxk_[\w-]{20,}`)
)

// given takes what a caller was given out of an answer.
func (v *vault) given(what string, pattern *regexp.Regexp, answer string) string {
	v.t.Helper()
	match := pattern.FindStringSubmatch(answer)
	if match == nil {
		v.t.Fatalf("no %s in %s", what, answer)
	}
	return v.secrets.add(what, match[len(match)-1])
}

// visitAsWallet does what a wallet does, and returns its token.
func (v *vault) visitAsWallet() (token string) {
	v.t.Helper()
	nonce := v.given("server nonce", nonceMember, v.tell("GET", "/api/auth/nonce", "", nil))
	body := v.signInBody(nonce)
	token = v.given("session token", tokenMember, v.tell("POST", "/api/auth/siwe", body, nil))
	v.tell("POST", "/api/auth/siwe", body, nil) // again
	v.tell("POST", "/api/auth/siwe", strings.Replace(v.signInBody("k7Qw2Zt9Lm4Xb8Rc"), site, "evil.example", 1), nil)
	v.tell("POST", "/api/auth/siwe", strings.Replace(v.signInBody("k7Qw2Zt9Lm4Xb8Re"), `"0x`, `"0x00`, 1), nil)
	v.tell("POST", "/api/auth/siwe", `{"message":"`+v.secrets.mark("message that is none")+`","signature":"0x12"}`, nil)
	v.tell("GET", "/api/auth/verify", "", bearer(token))
	prompt := v.secrets.mark("prompt")
	v.tell("POST", "/api/chat", `{"prompt":"`+prompt+`"}`, bearer(token), "prompt")
	v.tell("POST", "/api/schedule", `{"nftId":"mibera:42","cron":"0 0 * * *","prompt":"`+prompt+`"}`, bearer(token), "prompt")
	v.tell("GET", "/api/memory/mibera:42", "", bearer(token))
	v.tell("GET", "/api/reputation?cursor="+v.secrets.mark("query string"), "", bearer(token), "query string")
	return token
}

func (v *vault) visitAsAdministrator() {
	v.t.Helper()
	admin := map[string]string{"X-Admin-Key": testAdminKey}
	v.append(1, 201)
	v.append(1, 200)
	v.given("new API key", keyMember, v.tell("POST", "/api/admin/allowlist", `{"type":"apiKey","name":"reports","scopes":["read"]}`, admin))
	v.given("API key after it", keyMember, v.tell("POST", "/api/admin/allowlist/reports/rotate", "", admin))
	v.tell("GET", "/api/admin/allowlist", "", admin)
	v.tell("DELETE", "/api/admin/allowlist/reports", "", admin)
	v.tell("GET", "/api/projections", "", admin)
	v.tell("POST", "/api/admin/projections/all/rebuild", "", admin)
	v.tell("GET", "/api/health", "", nil)
	v.tell("GET", "/api/auth/.well-known/jwks.json", "", nil)
}

// visitWrongly sends secrets where they are wrong, or where they do not belong.
func (v *vault) visitWrongly(token string) {
	v.t.Helper()
	wrongKey := "dxk_" + v.secrets.mark("wrong API key")
	for _, header := range []map[string]string{
		bearer(v.secrets.mark("wrong bearer")), bearer(wrongKey), bearer(token + "x"), bearer(token[:len(token)-5]),
		{"X-Admin-Key": v.secrets.mark("wrong administrators' key")}, {"Authorization": "Basic " + v.secrets.mark("basic credentials")},
		{"Cookie": "session=" + v.secrets.mark("cookie"), "X-Api-Key": v.secrets.mark("key in another header")},
		{"Authorization": "Bearer " + v.key, "X-Admin-Key": testAdminKey + "?"},
	} {
		v.tell("GET", "/api/reputation", "", header)
		v.tell("GET", "/api/auth/verify", "", header)
		v.tell("POST", "/api/admin/allowlist", `{"type":"apiKey","value":"x"}`, header)
	}
	for _, path := range []string{
		"/api/reputation/" + wrongKey, "/api/reputation/" + v.key + "/score", "/api/admin/allowlist/" + v.key, "/" + token, "/api/reputation/" + token,
		"/api/reputation/bear-1?key=" + v.key, "/api/reputation?access_token=" + token, "/nowhere?admin=" + testAdminKey,
	} {
		answer := v.wholeAnswer("GET", path, "", bearer(v.key)) // a caller may be told what it asked for
		if strings.Contains(answer, "HTTP/1.1 5") {
			v.t.Errorf("%s: %s", path, answer)
		}
	}
	v.wholeAnswer("DELETE", "/api/admin/allowlist/"+wrongKey, "", map[string]string{"X-Admin-Key": testAdminKey})
}

// visitWithFinnFailing needs finn, which fails in all ways, and tells what it knows.
func (v *vault) visitWithFinnFailing(token string) {
	v.t.Helper()
	ask := func() {
		v.tell("POST", "/api/chat", `{"prompt":"hello"}`, bearer(token))
		v.tell("GET", "/api/memory/mibera:42", "", bearer(token))
		v.tell("GET", "/api/memory/mibera:42/history", "", bearer(token))
		v.tell("POST", "/api/schedule", `{"nftId":"mibera:42","cron":"0 0 * * *","prompt":"p"}`, bearer(token))
		v.tell("GET", "/api/learning/mibera:42/insights", "", bearer(token))
		v.tell("GET", "/api/health", "", nil)
	}
	v.tellAll(true)
	ask()
	ask()
	v.tellAll(false)
	for _, trouble := range []fakefinn.Trouble{fakefinn.Rubbish, fakefinn.Down, fakefinn.Failing} {
		v.finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = trouble })
		ask()
	}
}

// TestStrangersKeepSecrets starts a server whose neighbours are away, or do not know it,
// and which signs with an HS256 secret.
func TestStrangersKeepSecrets(t *testing.T) {
	t.Parallel()
	known := &secrets{texts: map[string]string{}}
	member := newAccount(t)
	env, _ := gatewayEnv(t, member)
	nats := natstest.Start(t, natstest.WithUser("dixie", known.mark("right password of NATS")))
	wrong := "nats://dixie:" + known.mark("wrong password of NATS") + "@" + strings.TrimPrefix(nats.URL(), "nats://")
	database := "DATABASE_URL=" + pgtest.URL(t)
	env = append(env, database, "LOG_LEVEL=debug", "LOG_FORMAT=json",
		"DIXIE_JWT_PRIVATE_KEY="+known.mark("secret that signs tokens"), "NATS_URL="+wrong, "DIXIE_NATS_PUBLISH=true",
		"FINN_URL=http://127.0.0.1:1", "FINN_AUTH_TOKEN="+known.mark("token for finn"),
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://me:"+known.mark("password of the collector")+"@127.0.0.1:1",
		"OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20"+known.mark("token for the collector"), "OTEL_BSP_SCHEDULE_DELAY=20")
	s := serveFor(t, env...)
	token := known.add("session token", s.call("POST", "/api/auth/siwe", member.signIn(t, "k7Qw2Zt9Lm4Xb8Rc")).want(t, 200, "").Token)
	for _, request := range [][3]string{
		{"GET", "/api/auth/verify"}, {"POST", "/api/chat", `{"prompt":"hello"}`}, {"GET", "/api/memory/mibera:42"},
		{"GET", "/api/health"}, {"GET", "/readyz"}, {"GET", "/metrics"}, {"GET", "/api/auth/.well-known/jwks.json"},
	} {
		known.wantNone(t, request[1], s.wholeAnswer(request[0], request[1], request[2], bearer(token)))
	}
	for _, line := range []string{"traces cannot be exported", "NATS"} {
		eventually(t, "the log has "+line, func() bool { return strings.Contains(s.log.String(), line) })
	}
	s.stop()
	known.wantNone(t, "output", s.log.String())
	if out, err := runAny(t, []string{database}, "import", file(t, "events.ndjson", history(6, 3, 2))); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := runAny(t, []string{database, "NATS_URL=" + wrong}, "publish", "--from", "1")
	if err == nil {
		t.Error("it publishes with a wrong password")
	}
	known.wantNone(t, "publish", out)
}

// TestCommandsKeepSecrets runs commands that cannot do what they are told, as a URL or
// a key is wrong, and looks for the secrets in what they say.
func TestCommandsKeepSecrets(t *testing.T) {
	t.Parallel()
	known := &secrets{texts: map[string]string{}}
	password := known.mark("password")
	strict := strictPostgres(t)
	events := file(t, "events.ndjson", history(5, 3, 2))
	databases := map[string]string{
		"wrong password":    "postgres://me:" + password + "@" + strict + "/dixie?sslmode=disable",
		"in words":          "host=127.0.0.1 port=" + strict[strings.LastIndex(strict, ":")+1:] + " user=me password=" + password + " dbname=dixie sslmode=disable",
		"unreachable":       "postgres://me:" + password + "@127.0.0.1:1/dixie",
		"malformed host":    "postgres://me:" + password + "@:x:/none",
		"malformed escape":  "postgres://me:" + password + "%zz@127.0.0.1/dixie",
		"password with @ /": "postgres://me:" + password + "/a@b@127.0.0.1:1/dixie",
		"unknown setting":   "postgres://me:" + password + "@127.0.0.1/dixie?sslmode=never",
		"unclosed words":    "host=127.0.0.1 user=me password='" + password,
		"another scheme":    "mysql://me:" + password + "@127.0.0.1/dixie",
		"spaces":            "postgres://me:" + password + " @127.0.0.1/dixie",
	}
	nats := "nats://me:" + known.mark("password of NATS") + "@127.0.0.1:1"
	for name, database := range databases {
		for _, command := range [][]string{
			{"status"}, {"verify"}, {"rebuild"}, {"replay"}, {"migrate", "up"}, {"migrate", "status"}, {"failures", "list"},
			{"import", events}, {"export", filepath.Join(t.TempDir(), "log.ndjson")}, {"publish", "--from", "1"}, {"serve", "--port", "0"},
		} {
			if command[0] != "status" && command[0] != "serve" && name != "wrong password" && name != "malformed escape" {
				continue // all commands connect in the same way
			}
			out, err := runAny(t, []string{"DATABASE_URL=" + database, "NATS_URL=" + nats}, command...)
			if err == nil {
				t.Errorf("%s, %s: no error", command[0], name)
			}
			known.wantNone(t, command[0]+" with the database "+name, out)
		}
	}
	key := "dxk_" + known.mark("API key")
	short := known.add("short secret", "short-secret-19")
	for _, tt := range []struct {
		env     []string
		command []string
	}{
		{nil, []string{"import", events, "--url", "http://127.0.0.1:1", "--key", key}},
		{nil, []string{"import", events, "--url", "http://me:" + password + "@127.0.0.1:1", "--key", key}},
		{nil, []string{"export", events + ".out", "--url", "http://me:" + password + "@127.0.0.1:1%zz", "--key", key}},
		{[]string{"DIXIE_API_KEY=" + key}, []string{"export", events + ".out", "--url", "ftp://me:" + password + "@127.0.0.1:1"}},
		{nil, []string{"healthcheck", "--url", "http://me:" + password + "@127.0.0.1:1"}},
		{nil, []string{"healthcheck", "--url", "http://me:" + password + "@127.0.0.1:1%zz"}},
		{[]string{"DIXIE_JWT_PRIVATE_KEY=" + short}, []string{"token", "--wallet", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}},
		{[]string{"DIXIE_JWT_PRIVATE_KEY=-----BEGIN EC PRIVATE KEY-----\n" + short + "\n-----END EC PRIVATE KEY-----"}, []string{"serve", "--port", "0"}},
		{[]string{"DIXIE_JWT_PREVIOUS_PUBLIC_KEYS=" + password, "DIXIE_JWT_LEGACY_HS256_SECRET=" + short}, []string{"serve", "--port", "0"}},
		{[]string{"DIXIE_ADMIN_KEY=" + short[:13], "DIXIE_DEV_API_KEY=" + password}, []string{"serve", "--dev", "--port", "0"}},
		{[]string{"FINN_URL=http://me:" + password + "@127.0.0.1:1%zz", "FINN_AUTH_TOKEN=" + password}, []string{"serve", "--dev", "--port", "0"}},
		{[]string{"FINN_URL=ftp://me:" + password + "@127.0.0.1", "FINN_AUTH_TOKEN=" + password + "\n"}, []string{"serve", "--dev", "--port", "0"}},
		{[]string{"NATS_URL=nats://me:" + password + "@127.0.0.1:1%zz", "DIXIE_NATS_PUBLISH=true"}, []string{"serve", "--dev", "--port", "0"}},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://me:" + password + "@127.0.0.1:1%zz"}, []string{"serve", "--dev", "--port", "0"}},
		{[]string{"DIXIE_SIWE_RPC_URLS=1=http://me:" + password + "@127.0.0.1:1%zz,2=" + password}, []string{"serve", "--dev", "--port", "0"}},
		{[]string{"DIXIE_ALLOWLIST_PATH=" + file(t, "list.json", []byte(`{"version":1,"apiKeys":["`+key+`",{"name":"`+key+`","key":"`+key+`"}],"wallets":["`+key+`"]}`))}, []string{"serve", "--port", "0"}},
	} {
		out, err := runAny(t, tt.env, tt.command...)
		if err == nil {
			t.Errorf("%v %v: no error", tt.env, tt.command)
		}
		known.wantNone(t, fmt.Sprint(tt.command[0], " ", strings.Join(tt.env, " ")[:min(30, len(strings.Join(tt.env, " ")))]), out)
	}
	_ = os.Remove(events + ".out")
}

// runAny runs a command for a few seconds and returns all that it says.
func runAny(t *testing.T, env []string, command ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	stdout, stderr, err := dixiecmd.Run(ctx, dixie, append(append(dixiecmd.Environ(), env...), "LOG_LEVEL=debug"), command...)
	return stdout + stderr, err
}
