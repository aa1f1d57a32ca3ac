// Command dependencies writes docs/dependencies.md, to the file that its argument names:
// the modules that this one needs, what for, and under which licences. It fails when a
// direct module has no purpose in purposes.go, or when a licence is not allowed.
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

//go:generate go run dixie/internal/dependencies ../../docs/dependencies.md

// allowed are the licences that a module may have: all may be linked into a program
// under MIT that is passed on, as long as their notices come along. MPL-2.0 asks for
// the source of its own files, which are used unchanged.
var allowed = []string{"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0"}

// leastCoverage is how much of a file has to be the text of licences, in percent.
const leastCoverage = 75

// licenceName is what files of licences are called.
var licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying)(\.(md|txt|apache|mit|bsd))?$`)

// module is what go list tells of one.
type module struct {
	Path, Version, Dir string
	Main               bool
	Indirect           bool
	Replace            *module
	licences           []string
	linked             bool // into dixie
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dependencies:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want the name of one file, found %d arguments", len(args))
	}
	text, err := document()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], text, 0o644)
}

// document is docs/dependencies.md.
func document() ([]byte, error) {
	modules, err := needed()
	if err != nil {
		return nil, err
	}
	var direct, indirect []*module
	var problems []error
	for _, m := range slices.SortedFunc(maps.Values(modules), func(a, b *module) int { return cmp.Compare(a.Path, b.Path) }) {
		if m.Replace != nil {
			problems = append(problems, fmt.Errorf("%s is replaced: what is linked must be what its version says", m.Path))
		}
		switch {
		case !m.Indirect:
			direct = append(direct, m)
		case m.linked:
			indirect = append(indirect, m)
		default:
			continue
		}
		problems = append(problems, m.checkLicence())
	}
	problems = append(problems, checkPurposes(direct))
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return write(direct, indirect), nil
}

// needed are the modules of all packages and tests, as on Linux.
func needed() (map[string]*module, error) {
	modules := map[string]*module{}
	for _, target := range []struct {
		linked   bool
		patterns []string
	}{{false, []string{"-test", "dixie/..."}}, {true, []string{"dixie/cmd/dixie"}}} {
		found, err := list(target.patterns...)
		if err != nil {
			return nil, err
		}
		for _, m := range found {
			known := modules[m.Path]
			if known == nil {
				known = m
				modules[m.Path] = m
			}
			known.linked = known.linked || target.linked
		}
	}
	return modules, nil
}

// list asks go for the modules of packages and all that they import.
func list(patterns ...string) ([]*module, error) {
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=Module"}, patterns...)...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var found []*module
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var listed struct{ Module *module }
		if err := decoder.Decode(&listed); err != nil {
			return nil, fmt.Errorf("read what go list says: %w", err)
		}
		if listed.Module != nil && !listed.Module.Main {
			found = append(found, listed.Module)
		}
	}
	return found, nil
}

// checkPurposes tells which modules have no purpose, and which purposes no module.
func checkPurposes(direct []*module) error {
	var problems []error
	paths := map[string]bool{}
	for _, m := range direct {
		if paths[m.Path] = true; purposes[m.Path] == "" {
			problems = append(problems, fmt.Errorf("%s: say in internal/dependencies/purposes.go what it is for", m.Path))
		}
	}
	for path := range purposes {
		if !paths[path] {
			problems = append(problems, fmt.Errorf("%s is not needed any more: remove it from internal/dependencies/purposes.go", path))
		}
	}
	return errors.Join(problems...)
}

// checkLicence reads the licences of a module, and refuses those that are not allowed.
func (m *module) checkLicence() error {
	entries, err := os.ReadDir(m.Dir)
	if err != nil {
		return fmt.Errorf("look for the licence of %s: %w", m.Path, err)
	}
	for _, entry := range entries {
		if entry.IsDir() || !licenceName.MatchString(entry.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(m.Dir, entry.Name()))
		if err != nil {
			return fmt.Errorf("read the licence of %s: %w", m.Path, err)
		}
		scan := licensecheck.Scan(text)
		if scan.Percent < leastCoverage {
			return fmt.Errorf("%s: %s is no licence that is known, see for yourself", m.Path, entry.Name())
		}
		for _, match := range scan.Match {
			m.licences = append(m.licences, match.ID)
		}
	}
	slices.Sort(m.licences)
	m.licences = slices.Compact(m.licences)
	if len(m.licences) == 0 {
		return fmt.Errorf("%s has no licence", m.Path)
	}
	for _, licence := range m.licences {
		if !slices.Contains(allowed, licence) {
			return fmt.Errorf("%s has the licence %s, which is not allowed", m.Path, licence)
		}
	}
	return nil
}

func write(direct, indirect []*module) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, `<!-- Made by go generate ./internal/dependencies. -->
# Dependencies

Versions are pinned by `+"`go.mod`"+`, and contents by `+"`go.sum`"+`, which `+"`go mod verify`"+` checks in CI. A module that has no purpose here, or a licence other than %s, stops CI.

## What this module asks for

%d modules; those without a mark are for tests and tools, and not part of the program.

| module | version | licence | in `+"`dixie`"+` | for |
| --- | --- | --- | --- | --- |
`, strings.Join(allowed, ", "), len(direct))
	for _, m := range direct {
		mark := ""
		if m.linked {
			mark = "✓"
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s |\n", m.Path, m.Version, strings.Join(m.licences, ", "), mark, purposes[m.Path])
	}
	fmt.Fprintf(&out, "\n## What these bring into `dixie`\n\n%d modules.\n\n| module | version | licence |\n| --- | --- | --- |\n", len(indirect))
	for _, m := range indirect {
		fmt.Fprintf(&out, "| %s | %s | %s |\n", m.Path, m.Version, strings.Join(m.licences, ", "))
	}
	return out.Bytes()
}
