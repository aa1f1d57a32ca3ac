package pgtest

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// bareMachine has neither a URL nor binaries nor Docker.
func bareMachine() finder {
	return finder{
		getenv:   func(string) string { return "" },
		lookPath: func(string) (string, error) { return "", errors.New("not found") },
		glob:     func(string) ([]string, error) { return nil, nil },
		version:  func(context.Context, string) (string, error) { return "", errors.New("not found") },
		docker:   func(context.Context) (*dockerEngine, error) { return nil, errors.New("no such socket") },
	}
}

// withBinaries puts installations in a bare machine: the version by directory.
func withBinaries(onPath string, installed map[string]string) finder {
	f := bareMachine()
	f.lookPath = func(name string) (string, error) {
		if name == "initdb" && onPath != "" {
			return filepath.Join(onPath, "initdb"), nil
		}
		if _, ok := installed[filepath.Dir(name)]; ok {
			return name, nil
		}
		return "", errors.New("not found")
	}
	f.glob = func(pattern string) ([]string, error) {
		var dirs []string
		for dir := range installed {
			if ok, _ := filepath.Match(pattern, dir); ok {
				dirs = append(dirs, dir)
			}
		}
		slices.Sort(dirs)
		return dirs, nil
	}
	f.version = func(_ context.Context, postgres string) (string, error) {
		return "postgres (PostgreSQL) " + installed[filepath.Dir(postgres)] + "\n", nil
	}
	return f
}

func TestFailureNamesTheThreeWays(t *testing.T) {
	t.Parallel()
	_, err := open(t.Context(), bareMachine())
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) {
		t.Fatalf("error = %v, want an UnavailableError", err)
	}
	for _, want := range []string{
		"TEST_DATABASE_URL", "it is not set",
		"initdb and postgres", "/usr/lib/postgresql/*/bin",
		"Docker", "no such socket",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the message lacks %q:\n%v", want, err)
		}
	}
}

func TestFailureOfStartDoesNotOfferTheURL(t *testing.T) {
	t.Parallel()
	_, err := start(t.Context(), Options{}, bareMachine())
	if err == nil || strings.Contains(err.Error(), "TEST_DATABASE_URL") {
		t.Errorf("error = %v", err)
	}
}

func TestUnreachableURLIsNotReplaced(t *testing.T) {
	t.Parallel()
	f := machine()
	f.getenv = func(string) string { return "postgres://nobody@127.0.0.1:1/postgres" }
	_, err := open(t.Context(), f)
	if err == nil || !strings.Contains(err.Error(), "TEST_DATABASE_URL is set") {
		t.Errorf("error = %v, want one that names TEST_DATABASE_URL", err)
	}
}

func TestBinaries(t *testing.T) {
	t.Parallel()
	const debian = "/usr/lib/postgresql/"
	for name, test := range map[string]struct {
		machine finder
		want    string
		problem string
	}{
		"path first":     {withBinaries("/opt/pg/bin", map[string]string{"/opt/pg/bin": "15.4", debian + "17/bin": "17.1"}), "/opt/pg/bin", ""},
		"newest":         {withBinaries("", map[string]string{debian + "9.6/bin": "9.6.1", debian + "15/bin": "15.4", debian + "17/bin": "17.1"}), debian + "17/bin", ""},
		"old on path":    {withBinaries("/opt/pg/bin", map[string]string{"/opt/pg/bin": "13.4", debian + "16/bin": "16.1 (Debian 16.1-1)"}), debian + "16/bin", ""},
		"only old":       {withBinaries("", map[string]string{debian + "13/bin": "13.4"}), "", "PostgreSQL 13 in " + debian + "13/bin is too old"},
		"beta":           {withBinaries("", map[string]string{debian + "18/bin": "18beta1"}), debian + "18/bin", ""},
		"homebrew":       {withBinaries("", map[string]string{"/opt/homebrew/opt/postgresql@16/bin": "16.2"}), "/opt/homebrew/opt/postgresql@16/bin", ""},
		"strange answer": {withBinaries("", map[string]string{debian + "x/bin": "?"}), "", "no version"},
	} {
		got, err := test.machine.binaries(t.Context())
		switch {
		case got != test.want:
			t.Errorf("%s: %q, %v; want %q", name, got, err, test.want)
		case test.problem != "" && (err == nil || !strings.Contains(err.Error(), test.problem)):
			t.Errorf("%s: error = %v, want %q in it", name, err, test.problem)
		}
	}
}

func TestBrokenBinariesLeadToDocker(t *testing.T) {
	t.Parallel()
	f := withBinaries("", map[string]string{"/usr/local/pgsql/bin": "16.1"})
	_, err := start(t.Context(), Options{}, f)
	var unavailable *UnavailableError
	if !errors.As(err, &unavailable) {
		t.Fatalf("error = %v, want an UnavailableError", err)
	}
	for _, want := range []string{"start initdb", "no such socket"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the message lacks %q:\n%v", want, err)
		}
	}
}
