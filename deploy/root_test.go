package deploy_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"dixie/internal/fakefinn"
	"dixie/internal/logtext"
)

// enterVariable names the root that the test binary enters, instead of testing.
const enterVariable = "DEPLOY_TEST_ENTER"

// imageRoot makes the root of the image: what the Dockerfile copies, and nothing
// else. Trusted are certificates in place of the builder's.
func imageRoot(t *testing.T, trusted []byte) string {
	t.Helper()
	root := t.TempDir()
	for place, source := range stageNamed(t, "dixie").copied() {
		at := filepath.Join(root, place)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case strings.HasPrefix(source, "/out/"):
			err = os.Link(dixie(t), at)
		case strings.HasPrefix(source, "/etc/ssl/"):
			err = os.WriteFile(at, trusted, 0o644)
		case source == "/data":
			err = os.Mkdir(at, 0o700)
		default:
			t.Fatalf("the image has %s from %s, which this test does not know", place, source)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// contained is a program in an empty root.
type contained struct {
	cmd  *exec.Cmd
	log  *logtext.Log
	done chan error
}

// start runs a program in a root that it cannot write to, except for /data.
func start(t *testing.T, root string, env []string, args ...string) *contained {
	t.Helper()
	if namespaces() == nil {
		t.Skip("left out, as only Linux has namespaces")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &contained{cmd: exec.Command(self, args...), log: &logtext.Log{}, done: make(chan error, 1)}
	c.cmd.Env = append(env, enterVariable+"="+root)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.SysProcAttr = namespaces()
	if err := c.run(t); err != nil {
		t.Skipf("left out, as this machine allows no namespaces, neither as root nor to users: %v", err)
	}
	return c
}

// run starts the program, which ends with the test at the latest.
func (c *contained) run(t *testing.T) error {
	t.Helper()
	if err := c.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.done <- c.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-ended
	})
	return nil
}

var servingLine = regexp.MustCompile(`"msg":"serving","url":"http://localhost:(\d+)"`)

// port waits until the server serves.
func (c *contained) port(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if match := servingLine.FindStringSubmatch(c.log.String()); match != nil {
			return match[1]
		}
		select {
		case err := <-c.done:
			t.Fatalf("it ended: %v\n%s", err, c.log)
		case <-ctx.Done():
			t.Fatalf("it does not serve:\n%s", c.log)
		case <-tick.C:
		}
	}
}

// checkUser compares the user of the process with that of the image.
func (c *contained) checkUser(t *testing.T, user string) {
	t.Helper()
	if os.Getuid() != 0 {
		return // then it is that of the tests
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	uid, gid, _ := strings.Cut(user, ":")
	if err != nil || !strings.Contains(string(status), "\nUid:\t"+uid+"\t"+uid) || !strings.Contains(string(status), "\nGid:\t"+gid+"\t"+gid) {
		t.Errorf("it does not run as %s (%v): %s", user, err, status)
	}
}

// TestEmptyRoot: the image has all that the service needs. As its user, in a root
// that has only what the Dockerfile copies and cannot be written to, it serves, is
// healthy by its own account, keeps an allowlist, tells the time of a zone, asks
// who is behind TLS by the image's certificates, and stops when it is told to.
func TestEmptyRoot(t *testing.T) {
	t.Parallel()
	finn := httptest.NewTLSServer(fakefinn.New())
	defer finn.Close()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: finn.Certificate().Raw})
	image := stageNamed(t, "dixie")
	command := append(image.exec(t, "ENTRYPOINT"), image.exec(t, "CMD")...)
	env := []string{"DIXIE_PORT=0", "TZ=Asia/Kolkata", "DIXIE_ADMIN_KEY=key-of-the-tests", "FINN_URL=" + finn.URL}

	root := imageRoot(t, certificate)
	c := start(t, root, env, command...)
	port := c.port(t)
	url := "http://127.0.0.1:" + port
	c.checkUser(t, image.one(t, "USER"))
	if got := finnStatus(t, url); got != "healthy" {
		t.Errorf("finn behind TLS is %s", got)
	}
	if !strings.Contains(c.log.String(), `+05:30","level"`) {
		t.Errorf("the log does not tell the time of Kolkata: %s", c.log)
	}
	addWallet(t, url)
	check := start(t, root, []string{"DIXIE_PORT=" + port}, image.exec(t, "HEALTHCHECK")...)
	if err := <-check.done; err != nil {
		t.Errorf("healthcheck: %v\n%s", err, check.log)
	}
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	if err := <-c.done; err != nil {
		t.Errorf("stopping: %v\n%s", err, c.log)
	}
	check = start(t, root, []string{"DIXIE_PORT=" + port}, image.exec(t, "HEALTHCHECK")...)
	if err := <-check.done; err == nil {
		t.Errorf("healthy without a server: %s", check.log)
	}
}

// TestEmptyRootTrust: it is the image's certificates that are trusted, and no
// others.
func TestEmptyRootTrust(t *testing.T) {
	t.Parallel()
	finn := httptest.NewTLSServer(fakefinn.New())
	defer finn.Close()
	c := start(t, imageRoot(t, nil), []string{"DIXIE_PORT=0", "FINN_URL=" + finn.URL}, "/dixie", "serve")
	if got := finnStatus(t, "http://127.0.0.1:"+c.port(t)); got != "unreachable" {
		t.Errorf("finn with a certificate that nobody knows is %s", got)
	}
}

func finnStatus(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url + "/api/health")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var health struct {
		Services map[string]struct{ Status string }
	}
	if err := json.NewDecoder(response.Body).Decode(&health); err != nil {
		t.Fatal(err)
	}
	return health.Services["loa_finn"].Status
}

func addWallet(t *testing.T, url string) {
	t.Helper()
	body := strings.NewReader(`{"type":"wallet","value":"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/api/admin/allowlist", body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Admin-Key", "key-of-the-tests")
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Errorf("the allowlist in /data cannot be changed: %s", response.Status)
	}
}
