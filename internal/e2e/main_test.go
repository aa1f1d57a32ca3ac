package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// temporary is a directory for all that is started, which the user that PostgreSQL
// runs as can enter.
func temporary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "e2e-test-")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
	return dir
}

// TestHold: everything starts, the variables lead to it, and when it is told to
// end nothing of it is left.
func TestHold(t *testing.T) {
	dir := temporary(t)
	t.Setenv("DIXIE_ADMIN_KEY", "not-for-the-replicas")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-hold"}, in, t.Output())
		_ = in.Close()
	}()
	variables := map[string]string{}
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "go test ") {
		name, value, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		variables[name] = strings.Trim(value, `"`)
	}
	url := variables["INTEGRATION_TEST_URL"]
	urls := append(strings.Split(variables["E2E_REPLICA_URLS"], ","), url)
	if len(urls) != replicas+1 {
		t.Fatalf("the variables are %v: %v", variables, <-ended)
	}
	for _, one := range urls {
		if response, text := ask(t, one+"/readyz"); response.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", one, response.StatusCode, text)
		}
	}
	request, err := http.NewRequest(http.MethodGet, url+"/api/admin/allowlist", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Admin-Key", variables["E2E_ADMIN_KEY"])
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the administrators' key: %s", response.Status)
	}

	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, one := range append(urls, variables["E2E_CONTROL_URL"], variables["E2E_FINN_URL"]) {
		if response, err := http.Get(one); err == nil {
			_ = response.Body.Close()
			t.Errorf("%s still answers", one)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestStopsBeforeItHasStarted: who changes his mind while things start leaves
// nothing behind either.
func TestStopsBeforeItHasStarted(t *testing.T) {
	dir := temporary(t)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := run(ctx, []string{"-hold"}, t.Output(), t.Output()); err == nil {
		t.Error("it started")
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestSuspicious: lines that should never be in a log are found, and others are
// not.
func TestSuspicious(t *testing.T) {
	t.Parallel()
	fine := `{"level":"WARN","msg":"request failed","status":503,"error":"unavailable"}
{"level":"WARN","msg":"request failed","status":500,"error":"finn answered 500 PROMPT_FAILED"}
`
	for bad, text := range map[string]string{
		"": fine,
		`{"level":"WARN","msg":"request failed","status":500,"error":"division by zero"}`: fine,
		"WARNING: DATA RACE": fine, "panic: runtime error": fine, "fatal error: all goroutines are asleep": fine,
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(text+bad+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if found := suspicious(path); found != bad {
			t.Errorf("found %q, want %q", found, bad)
		}
	}
}

// TestProductHasNoTestServers: what only the tests start is not in the product.
func TestProductHasNoTestServers(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "dixie/cmd/dixie").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dependency := range strings.Lines(string(out)) {
		for _, unwanted := range []string{"github.com/nats-io/nats-server/", "github.com/ory/dockertest", "dixie/internal/pgtest", "dixie/internal/fakefinn", "testing\n"} {
			if strings.HasPrefix(dependency, unwanted) {
				t.Errorf("the product depends on %s", dependency)
			}
		}
	}
}
