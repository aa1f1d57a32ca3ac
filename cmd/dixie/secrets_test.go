package main_test

import (
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"dixie/internal/fakefinn"
	"dixie/internal/natstest"
	"dixie/internal/otlptest"
	"dixie/internal/pgtest"
)

// secrets are texts that nobody may see, by what they are.
type secrets struct {
	mu    sync.Mutex
	texts map[string]string
}

// leastSecret is how long a text has to be to be recognized, in bytes.
const leastSecret = 12

// add makes a text a secret and returns it.
func (s *secrets) add(what, text string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(text) < leastSecret {
		panic(what + " is too short to be recognized")
	}
	s.texts[what] = text
	return text
}

// mark makes up a secret that nothing else can contain.
func (s *secrets) mark(what string) string {
	return s.add(what, "zQ7x-"+strings.ReplaceAll(what, " ", "-")+"-kW93")
}

// wantNone fails if a text has a secret, but for those that it may have.
func (s *secrets) wantNone(t testing.TB, where, text string, may ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(s.texts)) {
		if at := strings.Index(text, s.texts[what]); at >= 0 && !slices.Contains(may, what) {
			t.Errorf("%s: there is the %s in …%s…", where, what, text[max(0, at-150):min(len(text), at+150)])
		}
	}
}

// wholeAnswer asks a server and returns all of the answer: headers and body.
func (s *server) wholeAnswer(method, path, body string, header map[string]string) string {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error() // a connection that was broken off is an answer too
	}
	defer response.Body.Close()
	whole, _ := httputil.DumpResponse(response, true)
	return string(whole)
}

// strictPostgres is a PostgreSQL whose users have other passwords.
func strictPostgres(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { refusePassword(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return listener.Addr().String()
}

// refusePassword asks for a password and does not like it.
func refusePassword(conn net.Conn) {
	defer conn.Close()
	backend := pgproto3.NewBackend(conn, conn)
	first, err := backend.ReceiveStartupMessage()
	if _, ok := first.(*pgproto3.SSLRequest); ok && err == nil {
		_, _ = conn.Write([]byte("N"))
		_, err = backend.ReceiveStartupMessage()
	}
	if err != nil {
		return
	}
	backend.Send(&pgproto3.AuthenticationCleartextPassword{})
	_ = backend.Flush()
	_ = backend.SetAuthType(pgproto3.AuthTypeCleartextPassword)
	_, _ = backend.Receive()
	backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "28P01", Message: "password authentication failed for user \"me\""})
	_ = backend.Flush()
}

// indiscreetFinn is a finn that, when it is told to, answers with all that it was sent.
func indiscreetFinn(t *testing.T) (*fakefinn.Server, string, func(bool)) {
	t.Helper()
	finn := fakefinn.New()
	var mu sync.Mutex
	telling := false
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		tells := telling
		mu.Unlock()
		if !tells {
			finn.ServeHTTP(w, r)
			return
		}
		all, _ := httputil.DumpRequest(r, true)
		message, _ := json.Marshal(map[string]string{"error": string(all), "code": string(all), "message": string(all)})
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Location", "/"+url.PathEscape(string(all)))
		w.WriteHeader([]int{401, 403, 302, 500, 409}[len(r.URL.Path)%5])
		_, _ = w.Write(message)
	}))
	t.Cleanup(web.Close)
	return finn, web.URL, func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		telling = on
	}
}

// shutDatabase breaks off all connections to a database, and lets nobody in again.
func shutDatabase(t *testing.T, database string) {
	t.Helper()
	config, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	name := config.Database
	config.Database = "postgres"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	_, err = conn.Exec(t.Context(), "ALTER DATABASE "+pgx.Identifier{name}.Sanitize()+" ALLOW_CONNECTIONS false")
	if err == nil {
		_, err = conn.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// withPassword is a database that has a password, which is a secret then: one that the
// server does not ask for, if it asks for none.
func (s *secrets) withPassword(t *testing.T, database string) string {
	t.Helper()
	config, err := pgx.ParseConfig(database)
	if err != nil {
		t.Fatal(err)
	}
	const what = "password of the database"
	if config.Password != "" {
		if len(config.Password) >= leastSecret {
			s.add(what, config.Password)
		}
		return database
	}
	parsed, err := url.Parse(database)
	if err != nil || parsed.Scheme == "" {
		return database + " password=" + s.mark(what)
	}
	parsed.User = url.UserPassword(config.User, s.mark(what))
	return parsed.String()
}

// pemLine is a line out of the middle of a key.
var pemLine = regexp.MustCompile(`[A-Za-z0-9+/=]{32,}`)

// vault is a server of which everything that is secret is known.
type vault struct {
	*server
	secrets  *secrets
	env      []string
	member   account
	finn     *fakefinn.Server
	tellAll  func(bool)
	nats     *natstest.Server
	spans    *otlptest.Collector
	database string
	key      string // an API key with all scopes
}

// serveVault starts a server with every secret that there is.
func serveVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{secrets: &secrets{texts: map[string]string{}}, member: newAccount(t)}
	mark := v.secrets.mark
	var allowlist, finnURL string
	v.env, allowlist = gatewayEnv(t, v.member)
	v.secrets.add("private key", pemLine.FindString(v.env[0]))
	v.secrets.add("administrators' key", testAdminKey)
	created := mustCLI(t, nil, "apikey", "new", "--name", "vault", "--scopes", "read,append,admin", "--allowlist-path", allowlist)
	v.key = v.secrets.add("API key", regexp.MustCompile(`dxk_[\w-]+`).FindString(created))
	plain := "dxk_" + mark("plain API key of the service before")
	v.addPlainKey(t, allowlist, plain)
	v.finn, finnURL, v.tellAll = indiscreetFinn(t)
	finnToken := mark("token for finn")
	v.finn.Change(func(b *fakefinn.Behaviour) { b.Token = finnToken })
	v.finn.Give(v.member.address.String(), fakefinn.NFT{Collection: "mibera", Token: "42", Owner: v.member.address.String()})
	password := mark("password of NATS")
	v.nats = natstest.Start(t, natstest.WithUser("dixie", password))
	v.spans = otlptest.Start(t)
	v.database = pgtest.URL(t)
	v.env = append(v.env, "LOG_LEVEL=debug",
		"DATABASE_URL="+v.secrets.withPassword(t, v.database),
		"DIXIE_JWT_LEGACY_HS256_SECRET="+mark("legacy secret of tokens"),
		"FINN_URL="+finnURL, "FINN_AUTH_TOKEN="+finnToken, "FINN_TIMEOUT=2s",
		"NATS_URL=nats://dixie:"+password+"@"+strings.TrimPrefix(v.nats.URL(), "nats://"), "DIXIE_NATS_PUBLISH=true",
		"REDIS_URL=redis://:"+mark("password of Redis")+"@127.0.0.1:1",
		"DIXIE_SIWE_RPC_URLS=1=http://127.0.0.1:1/"+mark("key of the Ethereum node"),
		"OTEL_EXPORTER_OTLP_ENDPOINT="+v.spans.URL, "OTEL_EXPORTER_OTLP_HEADERS=authorization=Bearer%20"+mark("token for the collector"),
		"OTEL_BSP_SCHEDULE_DELAY=50",
	)
	v.server = serveFor(t, v.env...)
	return v
}

// addPlainKey writes a key into the allowlist as the service before this one did.
func (v *vault) addPlainKey(t *testing.T, path, key string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list map[string]any
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	keys, _ := list["apiKeys"].([]any)
	list["apiKeys"] = append(keys, key)
	if text, err = json.Marshal(list); err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// tell sends a request and looks through the answer, which may have some secrets.
func (v *vault) tell(method, path, body string, header map[string]string, may ...string) string {
	v.t.Helper()
	answer := v.wholeAnswer(method, path, body, header)
	v.secrets.wantNone(v.t, method+" "+path, answer, may...)
	return answer
}
