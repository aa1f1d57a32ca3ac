// Package deploy_test checks what deploys the service without an engine, a cloud or
// a cluster: that the files say what they should, and that what they build runs.
package deploy_test

import (
	"encoding/json"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// instruction is one of a Dockerfile.
type instruction struct{ name, text string }

// stage is a stage of a Dockerfile.
type stage struct {
	base, name   string
	instructions []instruction
}

// readDockerfile returns the stages in their order, and the arguments before them.
func readDockerfile(t testing.TB) (stages []stage, global []instruction) {
	t.Helper()
	var line string
	for part := range strings.Lines(readFile(t, "Dockerfile")) {
		part = strings.TrimSpace(part)
		if part == "" || strings.HasPrefix(part, "#") {
			continue
		}
		line += strings.TrimSuffix(part, `\`)
		if strings.HasSuffix(part, `\`) {
			continue
		}
		name, text, _ := strings.Cut(line, " ")
		line = ""
		switch {
		case name == "FROM":
			stages = append(stages, newStage(t, text))
		case len(stages) == 0:
			global = append(global, instruction{name, text})
		default:
			last := &stages[len(stages)-1]
			last.instructions = append(last.instructions, instruction{name, text})
		}
	}
	return stages, global
}

var fromForm = regexp.MustCompile(`^(?:--platform=\S+ )?(\S+) AS (\S+)$`)

func newStage(t testing.TB, text string) stage {
	t.Helper()
	match := fromForm.FindStringSubmatch(text)
	if match == nil {
		t.Fatalf("FROM %s: a stage has a name", text)
	}
	return stage{base: match[1], name: match[2]}
}

func stageNamed(t testing.TB, name string) stage {
	t.Helper()
	stages, _ := readDockerfile(t)
	at := slices.IndexFunc(stages, func(s stage) bool { return s.name == name })
	if at < 0 {
		t.Fatalf("the Dockerfile has no stage %s", name)
	}
	return stages[at]
}

// all are the texts of a kind of instruction.
func (s stage) all(name string) (texts []string) {
	for _, i := range s.instructions {
		if i.name == name {
			texts = append(texts, i.text)
		}
	}
	return texts
}

// one is the text of an instruction that must be there once.
func (s stage) one(t testing.TB, name string) string {
	t.Helper()
	texts := s.all(name)
	if len(texts) != 1 {
		t.Fatalf("stage %s has %s %d times", s.name, name, len(texts))
	}
	return texts[0]
}

// exec is a command in the form that needs no shell.
func (s stage) exec(t testing.TB, name string) (words []string) {
	t.Helper()
	_, text, _ := strings.Cut("CMD "+s.one(t, name), "CMD ")
	if at := strings.Index(text, "CMD "); at >= 0 {
		text = text[at+len("CMD "):] // after the options of HEALTHCHECK
	}
	if err := json.Unmarshal([]byte(text), &words); err != nil {
		t.Fatalf("stage %s: %s %s is not in the exec form: %v", s.name, name, text, err)
	}
	return words
}

// copied are the files and folders of an image, by their places.
func (s stage) copied() (places map[string]string) {
	places = map[string]string{}
	for _, text := range s.all("COPY") {
		words := slices.DeleteFunc(strings.Fields(text), func(word string) bool { return strings.HasPrefix(word, "--") })
		places[path.Clean(words[1])] = words[0]
	}
	return places
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestImages: they have nothing but a binary, no shell, and no root; and their
// health is asked through the binary.
func TestImages(t *testing.T) {
	t.Parallel()
	for name, subcommand := range map[string]string{"dixie": "serve", "fakefinn": "serve"} {
		s := stageNamed(t, name)
		if s.base != "scratch" || len(s.all("RUN"))+len(s.all("ADD")) > 0 {
			t.Errorf("%s is made from %s, with %v %v", name, s.base, s.all("RUN"), s.all("ADD"))
		}
		if user := s.one(t, "USER"); !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(user) {
			t.Errorf("%s runs as %s, which is root or cannot be seen not to be", name, user)
		}
		binary := s.exec(t, "ENTRYPOINT")[0]
		if s.copied()[binary] != "/out/"+name {
			t.Errorf("%s starts %s, which is %q", name, binary, s.copied()[binary])
		}
		if got := s.exec(t, "CMD"); !slices.Equal(got, []string{subcommand}) {
			t.Errorf("%s: CMD %v", name, got)
		}
		if got := s.exec(t, "HEALTHCHECK"); !slices.Equal(got, []string{binary, "healthcheck"}) {
			t.Errorf("%s: HEALTHCHECK %v", name, got)
		}
	}
	stages, _ := readDockerfile(t)
	if last := stages[len(stages)-1].name; last != "dixie" {
		t.Errorf("docker build makes %s", last)
	}
	labels := stageNamed(t, "dixie").one(t, "LABEL")
	for _, label := range []string{"title", "description", "licenses", "version", "revision"} {
		if !strings.Contains(labels, "org.opencontainers.image."+label+"=") {
			t.Errorf("there is no label %s in %s", label, labels)
		}
	}
}

// TestImagesHoldNoSecret: neither do their layers nor what is sent to the builder.
func TestImagesHoldNoSecret(t *testing.T) {
	t.Parallel()
	secret := regexp.MustCompile(`(?i)(KEY|SECRET|TOKEN|PASSWORD|_URL)\b`)
	stages, global := readDockerfile(t)
	for _, s := range append(stages, stage{name: "(global)", instructions: global}) {
		for _, text := range append(s.all("ARG"), s.all("ENV")...) {
			if secret.MatchString(text) {
				t.Errorf("stage %s: %s", s.name, text)
			}
		}
	}
	ignored := ignorer(t)
	for _, name := range []string{".git", ".git/config", ".env", ".env.local", "private.pem", "deploy/terraform/terraform.tfstate", "bin/dixie"} {
		if out, err := ignored.MatchesOrParentMatches(name); err != nil || !out {
			t.Errorf("%s is sent to the builder: %v", name, err)
		}
	}
}

// TestCompiler: the images are built with a Go that the module allows.
func TestCompiler(t *testing.T) {
	t.Parallel()
	wanted := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(readFile(t, "../go.mod"))[1]
	_, global := readDockerfile(t)
	if !slices.ContainsFunc(global, func(i instruction) bool { return strings.HasPrefix(i.text, "GO_VERSION="+wanted+".") }) {
		t.Errorf("go.mod wants %s, the Dockerfile has %v", wanted, global)
	}
}
