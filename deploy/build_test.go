package deploy_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// builtVersion is what --build-arg VERSION would be.
const builtVersion = "v0.0.0-test"

// scratchDir is for what tests share.
var scratchDir string

func TestMain(m *testing.M) {
	if root := os.Getenv(enterVariable); root != "" {
		fmt.Fprintln(os.Stderr, "enter:", enter(root, os.Args[1:]))
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "dixie-deploy-")
	if err != nil {
		panic(err)
	}
	scratchDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// buildStep is the command with which a stage of the Dockerfile builds.
func buildStep(t testing.TB, stage string) string {
	t.Helper()
	return strings.TrimSpace(regexp.MustCompile(`--mount=\S+\s+`).ReplaceAllString(stageNamed(t, stage).one(t, "RUN"), ""))
}

// build runs such a command in a folder, and writes to another what it would write
// to /out.
func build(step, source, out string) error {
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(step, "/out/", out+"/"))
	cmd.Dir = source
	cmd.Env = append(os.Environ(), "VERSION="+builtVersion, "TARGETOS=", "TARGETARCH=", "GOFLAGS=-mod=readonly")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", step, err, text)
	}
	return nil
}

var buildDixie, buildFakefinn sync.Once

// dixie is the binary as the Dockerfile builds it. All tests share it.
func dixie(t testing.TB) string {
	t.Helper()
	return buildShared(t, &buildDixie, "build", "dixie")
}

// fakefinnBinary is that of the stand-in.
func fakefinnBinary(t testing.TB) string {
	t.Helper()
	return buildShared(t, &buildFakefinn, "build-fakefinn", "fakefinn")
}

func buildShared(t testing.TB, once *sync.Once, stage, name string) string {
	t.Helper()
	path := filepath.Join(scratchDir, name)
	once.Do(func() {
		if err := build(buildStep(t, stage), "..", scratchDir); err != nil {
			t.Error(err)
		}
	})
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("it was not built: %v", err)
	}
	return path
}

// ignorer tells what is not sent to the builder.
func ignorer(t testing.TB) *patternmatcher.PatternMatcher {
	t.Helper()
	patterns, err := ignorefile.ReadAll(strings.NewReader(readFile(t, "../.dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		t.Fatal(err)
	}
	return matcher
}

// context copies what is sent to the builder.
func buildContext(t testing.TB) string {
	t.Helper()
	to, ignored := t.TempDir(), ignorer(t)
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		name, _ := filepath.Rel("..", path)
		if err != nil || name == "." {
			return err
		}
		out, err := ignored.MatchesOrParentMatches(name)
		switch {
		case err != nil:
			return err
		case out && entry.IsDir():
			return fs.SkipDir
		case out || !entry.IsDir() && !entry.Type().IsRegular():
			return nil
		case entry.IsDir():
			return os.Mkdir(filepath.Join(to, name), 0o755)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// TestReproducible: what is sent to the builder suffices, and built elsewhere it
// gives the same bytes. The two builds share compiled packages, which is how Go
// says that they do not depend on the place.
func TestReproducible(t *testing.T) {
	t.Parallel()
	first := dixie(t)
	out := t.TempDir()
	if err := build(buildStep(t, "build"), buildContext(t), out); err != nil {
		t.Fatal(err)
	}
	one, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(filepath.Join(out, "dixie"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, two) {
		t.Errorf("two builds differ: %d and %d bytes", len(one), len(two))
	}
	if root, err := filepath.Abs(".."); err != nil || bytes.Contains(one, []byte(root+"/")) {
		t.Errorf("the binary tells that it was built in %s (%v)", root, err)
	}
}

// TestVersion: it is the one that the build was given, and else tells the commit.
func TestVersion(t *testing.T) {
	t.Parallel()
	out, err := exec.Command(dixie(t), "version").CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != "dixie "+builtVersion {
		t.Errorf("dixie version: %q, %v", got, err)
	}
}

// TestStatic: the binary asks for no other file to run.
func TestStatic(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("images are of Linux, and the Dockerfile's command builds for this machine: " + runtime.GOOS)
	}
	file, err := elf.Open(dixie(t))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	libraries, err := file.ImportedLibraries()
	if err != nil || len(libraries) > 0 {
		t.Errorf("it needs %v (%v)", libraries, err)
	}
	for _, program := range file.Progs {
		if program.Type == elf.PT_INTERP {
			t.Error("it needs a loader")
		}
	}
}
