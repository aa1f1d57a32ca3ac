package pgtest

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	dc "github.com/ory/dockertest/v3/docker"
)

// entrypoint is what this package uses of the image's docker-entrypoint.sh.
const entrypoint = `#!/bin/sh
set -e
[ "$1" = postgres ]
shift
[ -n "$POSTGRES_PASSWORD" ]
if [ ! -e "$PGDATA/PG_VERSION" ]; then
	echo "$POSTGRES_PASSWORD" >"$PGDATA.password"
	initdb -D "$PGDATA" -U postgres -A scram-sha-256 --pwfile="$PGDATA.password" $POSTGRES_INITDB_ARGS
fi
exec postgres -D "$PGDATA" -k "" -p "$STANDIN_PORT" -c dynamic_shared_memory_type=mmap "$@"
`

// endScript ends the server so that it leaves no shared memory.
const endScript = `
lock=$PGDATA/postmaster.pid
[ -e "$lock" ] || exit 0
pid=$(head -n 1 "$lock")
kill -QUIT "$pid"
while kill -0 "$pid"; do sleep 0.05; done
`

// A standIn answers as a Docker engine with at most one container, whose
// processes run on this machine.
type standIn struct {
	socket, dir string
	bin         string // PostgreSQL's binaries
	port        string
	owner       *syscall.Credential

	mu     sync.Mutex
	pulled bool
	config dc.Config
	host   dc.HostConfig
	input  net.Conn
	main   *exec.Cmd
	execs  map[string]*standInExec
	over   bool // the container has ended, and so is removed
}

type standInExec struct {
	cmd      []string
	exitCode int
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	bin, err := machine().binaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	owner, err := clusterOwner()
	if err != nil {
		t.Fatal(err)
	}
	s := &standIn{dir: publicTempDir(t), bin: bin, owner: owner, port: anyPort(t), execs: map[string]*standInExec{}}
	s.socket = filepath.Join(s.dir, "docker.sock")
	home := filepath.Join(s.dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	if owner != nil {
		if err := os.Chown(home, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, "docker-entrypoint.sh"), []byte(entrypoint), 0o755); err != nil {
		t.Fatal(err)
	}
	s.serve(t)
	return s
}

func anyPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (s *standIn) serve(t *testing.T) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_ping", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]string{"ApiVersion": "1.50"})
	})
	mux.HandleFunc("GET /images/{name}/json", s.inspectImage)
	mux.HandleFunc("POST /images/create", s.pullImage)
	mux.HandleFunc("POST /containers/create", s.create)
	mux.HandleFunc("POST /containers/{id}/attach", s.attach)
	mux.HandleFunc("POST /containers/{id}/start", s.start)
	mux.HandleFunc("GET /containers/{id}/json", s.inspect)
	mux.HandleFunc("DELETE /containers/{id}", s.remove)
	mux.HandleFunc("POST /containers/{id}/exec", s.createExec)
	mux.HandleFunc("POST /exec/{id}/start", s.startExec)
	mux.HandleFunc("GET /exec/{id}/json", s.inspectExec)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("unexpected request %s %s", r.Method, r.URL)
		http.NotFound(w, r)
	})
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

// check checks what was asked for.
func (s *standIn) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pulled || !s.over {
		t.Errorf("pulled = %t, ended = %t", s.pulled, s.over)
	}
	if !s.config.OpenStdin || !s.config.StdinOnce || !s.host.AutoRemove {
		t.Errorf("the container would outlive this process: %+v, %+v", s.config, s.host)
	}
	if b := s.host.PortBindings[containerPort]; len(b) != 1 || b[0].HostIP != "127.0.0.1" {
		t.Errorf("port bindings %v, want one that only this machine reaches", b)
	}
}

func (s *standIn) ended() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *standIn) inspectImage(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.pulled || r.PathValue("name") != "postgres:16-alpine" {
		reply(w, http.StatusNotFound, map[string]string{"message": "no such image"})
		return
	}
	reply(w, http.StatusOK, map[string]string{"Id": "image"})
}

func (s *standIn) pullImage(_ http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulled = r.FormValue("fromImage") == "postgres" && r.FormValue("tag") == "16-alpine"
}

func (s *standIn) create(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body := struct {
		*dc.Config
		HostConfig *dc.HostConfig
	}{&s.config, &s.host}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || !s.pulled {
		reply(w, http.StatusBadRequest, map[string]string{"message": fmt.Sprint("cannot create: ", err)})
		return
	}
	reply(w, http.StatusCreated, map[string]string{"Id": "box"})
}

// takeOver answers as Docker does and returns the raw connection.
func takeOver(w http.ResponseWriter) (net.Conn, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	_, _ = buffered.WriteString("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	return conn, buffered.Flush()
}

func (s *standIn) attach(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("stdin") != "1" || r.FormValue("stream") != "1" {
		reply(w, http.StatusBadRequest, map[string]string{"message": "not a stream of the input"})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if conn, err := takeOver(w); err == nil {
		s.input = conn
	}
}

// command is a process of the container.
func (s *standIn) command(args []string) *exec.Cmd {
	name := args[0]
	switch name {
	case "docker-entrypoint.sh":
		name = filepath.Join(s.dir, name)
	case "sh": // whose read, as that of Alpine, knows a time limit
		if bash, err := exec.LookPath("bash"); err == nil {
			name = bash
		}
	}
	cmd := exec.Command(name, args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(serverEnv(os.Environ()), s.config.Env...)
	cmd.Env = append(cmd.Env, "PATH="+s.bin+":"+os.Getenv("PATH"),
		"PGDATA="+filepath.Join(s.dir, "home", "data"), "STANDIN_PORT="+s.port)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: s.owner}
	return cmd
}

func (s *standIn) start(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input == nil {
		reply(w, http.StatusInternalServerError, map[string]string{"message": "the input was not attached"})
		return
	}
	s.main = s.command(s.config.Entrypoint)
	in, err := s.main.StdinPipe()
	if err == nil {
		err = s.main.Start()
	}
	if err != nil {
		reply(w, http.StatusInternalServerError, map[string]string{"message": err.Error()})
		return
	}
	go func() { // StdinOnce
		_, _ = io.Copy(in, s.input)
		_ = in.Close()
	}()
	go s.awaitEnd()
	w.WriteHeader(http.StatusNoContent)
}

// awaitEnd ends with the container's first process all others.
func (s *standIn) awaitEnd() {
	_ = s.main.Wait()
	_ = s.command([]string{"sh", "-c", endScript}).Run()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

func (s *standIn) inspect(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, map[string]any{
		"Id": "box",
		"NetworkSettings": map[string]any{
			"Ports": map[string]any{containerPort: []any{map[string]string{"HostIp": "127.0.0.1", "HostPort": s.port}}},
		},
	})
}

func (s *standIn) remove(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over:
		reply(w, http.StatusNotFound, map[string]string{"message": "no such container"})
	case r.FormValue("force") != "1":
		reply(w, http.StatusConflict, map[string]string{"message": "it runs"})
	case s.main == nil:
		s.over = true
		w.WriteHeader(http.StatusNoContent)
	default:
		_ = s.main.Process.Kill()
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *standIn) createExec(w http.ResponseWriter, r *http.Request) {
	var body struct{ Cmd []string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		reply(w, http.StatusBadRequest, map[string]string{"message": err.Error()})
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		reply(w, http.StatusNotFound, map[string]string{"message": "no such container"})
		return
	}
	id := fmt.Sprint("exec", len(s.execs))
	s.execs[id] = &standInExec{cmd: body.Cmd}
	reply(w, http.StatusCreated, map[string]string{"Id": id})
}

func (s *standIn) startExec(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	e := s.execs[r.PathValue("id")]
	s.mu.Unlock()
	_, _ = io.Copy(io.Discard, r.Body)
	conn, err := takeOver(w)
	if err != nil {
		return
	}
	defer conn.Close()
	cmd := s.command(e.cmd)
	cmd.Stdout = frames{conn}
	cmd.Stderr = cmd.Stdout
	err = cmd.Run()
	var failed *exec.ExitError
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.As(err, &failed):
		e.exitCode = failed.ExitCode()
	case err != nil:
		e.exitCode = 126
	}
}

func (s *standIn) inspectExec(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.execs[strings.TrimSpace(r.PathValue("id"))]
	reply(w, http.StatusOK, map[string]any{"ID": r.PathValue("id"), "ExitCode": e.exitCode, "Running": false})
}

// frames writes in Docker's format for two streams in one.
type frames struct{ w io.Writer }

func (f frames) Write(b []byte) (int, error) {
	head := binary.BigEndian.AppendUint32([]byte{1, 0, 0, 0}, uint32(len(b)))
	if _, err := f.w.Write(append(head, b...)); err != nil {
		return 0, err
	}
	return len(b), nil
}
