package fakefinn_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dixie/internal/fakefinn"
)

const wallet = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"

// open serves a finn and its control routes, as cmd/fakefinn does.
func open(t *testing.T) string {
	t.Helper()
	finn := fakefinn.New()
	mux := http.NewServeMux()
	mux.Handle("/", finn)
	mux.Handle("/control", finn.Control())
	mux.Handle("/control/", finn.Control())
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func ask(t *testing.T, method, url, body string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true // the client repeats what fails on a connection that it has used before
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(read)
}

// TestTroubleOnDemand: each trouble is switched on and off from outside, and the
// control routes are never in trouble themselves.
func TestTroubleOnDemand(t *testing.T) {
	t.Parallel()
	url := open(t)
	for trouble, want := range map[string]int{"well": 200, "slow": 200, "down": 0, "broken": 500, "rubbish": 200, "flapping": 0} {
		if status, text := ask(t, "PATCH", url+"/control", `{"trouble":"`+trouble+`","delay":"1ms"}`); status != 200 || !strings.Contains(text, `"trouble":"`+trouble+`"`) {
			t.Fatalf("%s: %d %s", trouble, status, text)
		}
		if status, text := ask(t, "GET", url+"/health", ""); status != want || (trouble == "rubbish") != strings.Contains(text, "<html>") {
			t.Errorf("%s: %d %s, want status %d", trouble, status, text, want)
		}
	}
	ask(t, "PATCH", url+"/control", `{"trouble":"broken","only":"/identity"}`)
	if status, text := ask(t, "GET", url+"/health", ""); status != 200 {
		t.Errorf("beside the trouble: %d %s", status, text)
	}
}

func TestControlRefusesNonsense(t *testing.T) {
	t.Parallel()
	url := open(t)
	for _, tt := range []struct{ method, path, body string }{
		{"PATCH", "/control", `{"trouble":"sad"}`},
		{"PATCH", "/control", `{"troubles":"slow"}`},
		{"PATCH", "/control", `{"shape":"round"}`},
		{"PATCH", "/control", `{"delay":2}`},
		{"PUT", "/control/nfts/alice", `[]`},
		{"PUT", "/control/nfts/" + wallet, `{}`},
		{"PUT", "/control/memory/mibera:42", `{`},
	} {
		if status, text := ask(t, tt.method, url+tt.path, tt.body); status != http.StatusBadRequest {
			t.Errorf("%s %s %s: %d %s", tt.method, tt.path, tt.body, status, text)
		}
	}
}

func TestControlOfWhatFinnKnows(t *testing.T) {
	t.Parallel()
	url := open(t)
	for path, body := range map[string]string{
		"/control/nfts/" + wallet: `[{"collection":"mibera","token":"42"}]`, "/control/memory/mibera:42": `{"summary":"likes honey"}`,
	} {
		if status, text := ask(t, "PUT", url+path, body); status != http.StatusNoContent {
			t.Fatalf("%s: %d %s", path, status, text)
		}
	}
	ask(t, "PATCH", url+"/control", `{"reply":{"task_type":"analysis"}}`)
	ask(t, "PATCH", url+"/control", `{"pause":"1ms"}`) // leaves the reply
	ask(t, "POST", url+"/api/sessions", `{}`)
	for _, tt := range []struct{ method, path, body, want string }{
		{"GET", "/api/identity/wallet/" + wallet + "/nfts", "", `"nftId":"mibera:42"`},
		{"GET", "/api/memory/mibera:42/projection", "", `likes honey`},
		{"POST", "/api/sessions/session-1/message", `{"text":"hello"}`, `"task_type":"analysis"`},
		{"GET", "/control/requests?path=memory", "", `"path":"/api/memory/mibera:42/projection"`},
	} {
		if _, text := ask(t, tt.method, url+tt.path, tt.body); !strings.Contains(text, tt.want) {
			t.Errorf("%s: %s, want %s", tt.path, text, tt.want)
		}
	}
}
