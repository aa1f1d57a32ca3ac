package pgtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const urlVariable = "TEST_DATABASE_URL"

const minVersion = 14 // of PostgreSQL, for Dixie's schema

// Where packages put PostgreSQL's binaries without linking them into the PATH.
var binaryDirs = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
}

// An UnavailableError says that there is no PostgreSQL to test with, and why
// each way to one is closed.
type UnavailableError struct {
	// URL is why TEST_DATABASE_URL was not used. Nil if it was not considered,
	// as by Start.
	URL error
	// Binaries is why no PostgreSQL of this machine was used.
	Binaries error
	// Docker is why no container was used.
	Docker error
}

func (e *UnavailableError) Error() string {
	var b strings.Builder
	b.WriteString("these tests need a PostgreSQL and there is none; provide one in any of these ways:")
	if e.URL != nil {
		fmt.Fprintf(&b, "\n  - set %s to the URL of a server, with a user that may create databases (%v)", urlVariable, e.URL)
	}
	fmt.Fprintf(&b, "\n  - install PostgreSQL %d or newer on this machine: initdb and postgres, on the PATH or where packages put them (%v)", minVersion, e.Binaries)
	fmt.Fprintf(&b, "\n  - start a Docker engine that this user may use (%v)", e.Docker)
	return b.String()
}

// Unwrap returns the reasons.
func (e *UnavailableError) Unwrap() []error {
	return slices.DeleteFunc([]error{e.URL, e.Binaries, e.Docker}, func(err error) bool { return err == nil })
}

// A finder looks for ways to get a PostgreSQL. The fields stand for the
// machine, so that a test can put another in its place.
type finder struct {
	getenv   func(string) string
	lookPath func(string) (string, error)
	glob     func(string) ([]string, error)
	// version is what a postgres binary calls itself.
	version func(ctx context.Context, postgres string) (string, error)
	// docker returns an engine that answers.
	docker func(context.Context) (*dockerEngine, error)
}

func machine() finder {
	return finder{
		getenv:   os.Getenv,
		lookPath: exec.LookPath,
		glob:     filepath.Glob,
		version: func(ctx context.Context, postgres string) (string, error) {
			out, err := exec.CommandContext(ctx, postgres, "-V").Output()
			return string(out), err
		},
		docker: findDocker,
	}
}

// url returns TEST_DATABASE_URL, or why there is none.
func (f finder) url() (string, error) {
	if url := f.getenv(urlVariable); url != "" {
		return url, nil
	}
	return "", errors.New("it is not set")
}

// binaries returns a directory with initdb and postgres: that of the PATH, else
// the newest of the known places.
func (f finder) binaries(ctx context.Context) (string, error) {
	tooOld := ""
	for _, dir := range append(f.onPath(), f.installed()...) {
		version, err := f.majorVersion(ctx, dir)
		if err != nil {
			return "", err
		}
		if version >= minVersion {
			return dir, nil
		}
		tooOld = fmt.Sprintf("; PostgreSQL %d in %s is too old", version, dir)
	}
	return "", fmt.Errorf("not on the PATH, nor in %s%s", strings.Join(binaryDirs, ", "), tooOld)
}

// onPath returns at most one directory. It follows links, as initdb looks for
// postgres beside itself.
func (f finder) onPath() []string {
	initdb, err := f.lookPath("initdb")
	if err != nil {
		return nil
	}
	dirs := []string{filepath.Dir(initdb)}
	if real, err := filepath.EvalSymlinks(initdb); err == nil {
		dirs = append(dirs, filepath.Dir(real))
	}
	for _, dir := range dirs {
		if f.complete(dir) {
			return []string{dir}
		}
	}
	return nil
}

// installed returns the directories with both binaries, newest first.
func (f finder) installed() []string {
	var dirs []string
	for _, pattern := range binaryDirs {
		found, err := f.glob(pattern)
		if err != nil {
			continue // only a malformed pattern
		}
		dirs = append(dirs, found...)
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return !f.complete(dir) })
	slices.SortStableFunc(dirs, func(a, b string) int { return cmp.Compare(pathVersion(b), pathVersion(a)) })
	return dirs
}

func (f finder) complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if _, err := f.lookPath(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

var (
	inPath    = regexp.MustCompile(`[0-9]+`)
	inVersion = regexp.MustCompile(`\(PostgreSQL\) ([0-9]+)`)
)

// pathVersion is the version in a directory's name, 0 if there is none.
func pathVersion(dir string) int {
	n, _ := strconv.Atoi(inPath.FindString(dir))
	return n
}

func (f finder) majorVersion(ctx context.Context, dir string) (int, error) {
	postgres := filepath.Join(dir, "postgres")
	out, err := f.version(ctx, postgres)
	if err != nil {
		return 0, fmt.Errorf("%s -V: %w", postgres, err)
	}
	m := inVersion.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("%s -V: no version in %q", postgres, strings.TrimSpace(out))
	}
	return strconv.Atoi(m[1])
}
