package pgtest

import (
	"context"
	"os"
	"strings"
	"testing"
)

// TestDocker needs an engine and an image, unlike TestDockerStandIn. It fails where
// both are there and the tests' database does not come of them.
func TestDocker(t *testing.T) {
	t.Parallel()
	docker, err := findDocker(t.Context())
	if err != nil {
		t.Skipf("left out, as there is no Docker engine that answers: %v", err)
	}
	if err := docker.pull(t.Context()); err != nil {
		t.Skipf("left out, as the engine neither has the image nor can fetch it: %v", err)
	}
	checkContainer(t, docker)
}

// TestDockerImage: tests run on the PostgreSQL that the service is tried with as a
// whole.
func TestDockerImage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/docker-compose.integration.yml")
	if err != nil {
		t.Fatal(err)
	}
	if image := "image: " + imageName + ":" + imageTag + "\n"; !strings.Contains(string(text), image) {
		t.Errorf("docker-compose.integration.yml does not have %q", image)
	}
}

// TestDockerStandIn has what this package asks of Docker done by a stand-in, on
// this machine's PostgreSQL.
func TestDockerStandIn(t *testing.T) {
	t.Parallel()
	if !needBinaries(t) {
		return
	}
	stand := newStandIn(t)
	docker, err := connectDocker(t.Context(), "unix://"+stand.socket)
	if err != nil {
		t.Fatal(err)
	}
	checkContainer(t, docker)
	stand.check(t)
}

func checkContainer(t *testing.T, docker *dockerEngine) {
	t.Helper()
	f := bareMachine()
	f.docker = func(context.Context) (*dockerEngine, error) { return docker, nil }
	s, err := start(t.Context(), Options{Settings: map[string]string{"work_mem": "7MB"}}, f)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(t.Context()); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Errorf("second Stop: %v", err)
		}
	}()
	if got := query[string](t, connectTo(t, s), `SHOW work_mem`); got != "7MB" {
		t.Errorf("work_mem = %s", got)
	}
	if got := query[string](t, connectTo(t, s), `SHOW fsync`); got != "off" {
		t.Errorf("fsync = %s", got)
	}
	before := s.URL("postgres")
	checkKillAndRestart(t, s)
	if err := s.Restart(t.Context()); err != nil {
		t.Fatalf("Restart of a running server: %v", err)
	}
	if after := s.URL("postgres"); after != before {
		t.Errorf("the URL changed from %s to %s", before, after)
	}
	query[int](t, connectTo(t, s), `SELECT count(*) FROM rows`)
}

func TestContainerEndsWithItsInput(t *testing.T) {
	t.Parallel()
	if !needBinaries(t) {
		return
	}
	stand := newStandIn(t)
	docker, err := connectDocker(t.Context(), "unix://"+stand.socket)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newContainer(t.Context(), docker, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.alive.Close(); err != nil { // as the end of this process does
		t.Fatal(err)
	}
	eventually(t, "the container has ended", stand.ended)
	if err := c.remove(); err != nil {
		t.Errorf("remove: %v", err)
	}
}

func TestDockerHost(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"unix:///var/run/docker.sock": "127.0.0.1",
		"http://localhost:2375":       "127.0.0.1",
		"tcp://10.1.2.3:2376":         "10.1.2.3",
		"https://builder:2376":        "builder",
	} {
		if got := dockerHost(endpoint); got != want {
			t.Errorf("dockerHost(%q) = %q, want %q", endpoint, got, want)
		}
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	t.Parallel()
	var out tail
	for range 3 {
		_, _ = out.Write(make([]byte, logTail))
	}
	_, _ = out.Write([]byte("end"))
	if s := out.String(); len(s) != logTail || s[logTail-3:] != "end" {
		t.Errorf("%d bytes that end with %q", len(s), s[len(s)-3:])
	}
}
