package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"dixie/internal/dixiecmd"
	"dixie/internal/logtext"
)

// dixie is the path of the real binary, built once for all tests: what is tested
// here is what operators run.
var dixie string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "dixie-cmd-")
	if err != nil {
		panic(err)
	}
	dixie = filepath.Join(dir, "dixie")
	build := exec.Command("go", "build", "-o", dixie, ".")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the command: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

const devKey = "dxk_key_of_the_tests_1"

// cli runs a command with variables and returns what it wrote.
func cli(t *testing.T, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	return dixiecmd.Run(ctx, dixie, append(dixiecmd.Environ(), env...), args...)
}

// mustCLI fails the test when the command fails.
func mustCLI(t *testing.T, env []string, args ...string) string {
	t.Helper()
	stdout, stderr, err := cli(t, env, args...)
	if err != nil {
		t.Fatalf("dixie %s: %v\n%s", strings.Join(args, " "), err, stderr)
	}
	return stdout
}

// server is a running dixie serve.
type server struct {
	t    *testing.T
	url  string
	cmd  *exec.Cmd
	done chan struct{}
	log  *logtext.Log
}

var readyLine = regexp.MustCompile(`Dixie is ready at (http://\S+)`)

// serve starts a server for development on a free port and waits until it is
// ready.
func serve(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	s := &server{t: t, done: make(chan struct{}), log: &logtext.Log{}}
	s.cmd = exec.Command(dixie, append([]string{"serve", "--dev", "--port", "0"}, args...)...)
	s.cmd.Env = append(append(dixiecmd.Environ(), "DIXIE_DEV_API_KEY="+devKey), env...)
	s.cmd.Stderr = s.log
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if match := readyLine.FindStringSubmatch(lines.Text()); match != nil {
			s.url = match[1]
			break
		}
	}
	go func() {
		defer close(s.done)
		_, _ = io.Copy(io.Discard, stdout)
		_ = s.cmd.Wait()
	}()
	t.Cleanup(s.kill)
	if s.url == "" {
		t.Fatalf("the server did not start:\n%s", s.log)
	}
	return s
}

// kill ends the server without notice.
func (s *server) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
}

// stop asks the server to end and returns its exit code.
func (s *server) stop() int {
	s.t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the server did not stop:\n%s", s.log)
	}
	return s.cmd.ProcessState.ExitCode()
}

// do sends a request with the key of the tests.
func (s *server) do(method, path, contentType string, body io.Reader) (*http.Response, []byte, error) {
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, body)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+devKey)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response, text, err
}

// get decodes an answer that must have the status.
func (s *server) get(path string, status int, v any) {
	s.t.Helper()
	response, text, err := s.do(http.MethodGet, path, "", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	s.check(response, text, status, v)
}

// post sends a body whose answer must have the status.
func (s *server) post(path, contentType string, body io.Reader, status int, v any) {
	s.t.Helper()
	response, text, err := s.do(http.MethodPost, path, contentType, body)
	if err != nil {
		s.t.Fatal(err)
	}
	s.check(response, text, status, v)
}

func (s *server) check(response *http.Response, text []byte, status int, v any) {
	s.t.Helper()
	if response.StatusCode != status {
		s.t.Fatalf("%s: status %d, want %d: %s", response.Request.URL, response.StatusCode, status, text)
	}
	if v == nil {
		return
	}
	if err := json.Unmarshal(text, v); err != nil {
		s.t.Fatalf("%s: %v: %s", response.Request.URL, err, text)
	}
}

const ndjson = "application/x-ndjson"

// importReport is the answer of a bulk import.
type importReport struct {
	Lines, Appended, Duplicates, Rejected, Position int64
}

// history makes lines of valid events of all kinds, the same for the same seed.
func history(seed uint64, events, agents int) []byte {
	random := rand.New(rand.NewPCG(seed, 0))
	tasks := []string{"analysis", "code_review", "unspecified", "legal-guild:contract_review"}
	var out bytes.Buffer
	for i := range events {
		agent := random.IntN(agents)
		fmt.Fprintf(&out, `{"nft_id":"agent:%d","event":{"event_id":"%08x-0000-4000-8000-%012x","agent_id":"agent-%d","collection_id":"c%d","timestamp":"2026-02-%02dT%02d:%02d:%02dZ",`,
			agent, seed, i, agent, agent%3, 1+i*28/events, i%24, i%60, random.IntN(60))
		task := tasks[random.IntN(len(tasks))]
		switch random.IntN(5) {
		case 0:
			fmt.Fprintf(&out, `"type":"quality_signal","score":%.3f,"task_type":%q,"dimensions":{"accuracy":%.2f}`, random.Float64(), task, random.Float64())
		case 1:
			fmt.Fprintf(&out, `"type":"model_performance","model_id":"m%d","provider":"p","pool_id":"alpha","task_type":%q,"quality_observation":{"score":%.3f,"evaluated_by":"judge-%d"}`,
				random.IntN(3), task, random.Float64(), random.IntN(9))
		case 2:
			fmt.Fprintf(&out, `"type":"task_completed","task_type":%q,"success":%t,"duration_ms":%d`, task, random.IntN(4) > 0, random.IntN(9999))
		case 3:
			fmt.Fprintf(&out, `"type":"credential_update","credential_id":"00000000-0000-4000-8000-00000000000%d","action":"issued"`, random.IntN(3))
		default:
			fmt.Fprintf(&out, `"type":"quality_signal","score":%.3f`, random.Float64())
		}
		out.WriteString("}}\n")
	}
	return out.Bytes()
}

// file writes a file of the test.
func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
