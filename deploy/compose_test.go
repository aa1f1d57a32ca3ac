package deploy_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"

	"dixie/internal/logtext"
)

const composeFile = "docker-compose.integration.yml"

// compose reads the file as docker compose does, with the library that it reads it
// with: strictly, in an environment without variables.
func compose(t testing.TB) *types.Project {
	t.Helper()
	project, err := loader.LoadWithContext(context.Background(), types.ConfigDetails{
		WorkingDir: ".", ConfigFiles: []types.ConfigFile{{Filename: composeFile}}, Environment: types.Mapping{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// settings are the variables that a command reads, by its own account.
func settings(t testing.TB, command ...string) (names []string) {
	t.Helper()
	text, err := exec.Command(command[0], append(command[1:], "--help")...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, text)
	}
	for _, match := range regexp.MustCompile(`\$([A-Z][A-Z0-9_]+)`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, match[1])
	}
	if len(names) == 0 {
		t.Fatalf("%v names no variable", command)
	}
	return names
}

// TestComposeDependencies: every service that goes on has a health check, and the
// service waits for all that it needs to be healthy, and for the schema.
func TestComposeDependencies(t *testing.T) {
	t.Parallel()
	project := compose(t)
	const healthy, completed = types.ServiceConditionHealthy, types.ServiceConditionCompletedSuccessfully
	want := map[string]map[string]string{
		"postgres": {}, "nats": {}, "finn": {},
		"migrate": {"postgres": healthy},
		"dixie":   {"postgres": healthy, "nats": healthy, "finn": healthy, "migrate": completed},
	}
	if got := project.ServiceNames(); len(got) != len(want) {
		t.Errorf("services are %v", got)
	}
	for name, dependencies := range want {
		service := project.Services[name]
		got := map[string]string{}
		for on, dependency := range service.DependsOn {
			got[on] = dependency.Condition
		}
		if !maps.Equal(got, dependencies) {
			t.Errorf("%s waits for %v, want %v", name, got, dependencies)
		}
		if check := service.HealthCheck; (name != "migrate") != (check != nil && len(check.Test) > 1 && check.Test[0] == "CMD") {
			t.Errorf("the health check of %s is %+v", name, check)
		}
	}
	if restart := project.Services["migrate"].Restart; restart != "no" {
		t.Errorf("migrate is run again: %s", restart)
	}
}

// TestComposeDatabase: as the specification names it, so that tests find it.
func TestComposeDatabase(t *testing.T) {
	t.Parallel()
	postgres := compose(t).Services["postgres"]
	if !strings.HasPrefix(postgres.Image, "postgres:16") {
		t.Errorf("the database is %s", postgres.Image)
	}
	for name, want := range map[string]string{"POSTGRES_DB": "dixie_test", "POSTGRES_USER": "dixie", "POSTGRES_PASSWORD": "dixie_test_pass"} {
		if got := postgres.Environment[name]; got == nil || *got != want {
			t.Errorf("%s is %v, want %s", name, got, want)
		}
	}
	if check := postgres.HealthCheck.Test; !slices.Contains(check, "pg_isready") {
		t.Errorf("its health is asked by %v", check)
	}
	for _, name := range []string{"migrate", "dixie"} {
		const want = "postgres://dixie:dixie_test_pass@postgres:5432/dixie_test?sslmode=disable"
		if got := compose(t).Services[name].Environment["DATABASE_URL"]; got == nil || *got != want {
			t.Errorf("%s has the database %v", name, got)
		}
	}
}

// TestComposePorts: the ports are those that tests know, for this machine alone.
func TestComposePorts(t *testing.T) {
	t.Parallel()
	want := map[string]string{"postgres": "5632:5432", "nats": "4222:4222", "finn": "3000:3000", "dixie": "3001:3001"}
	got := map[string]string{}
	for name, service := range compose(t).Services {
		for _, port := range service.Ports {
			got[name] += fmt.Sprintf("%s:%d", port.Published, port.Target)
			if port.HostIP != "127.0.0.1" {
				t.Errorf("port %s of %s is open to %q", port.Published, name, port.HostIP)
			}
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("ports are %v, want %v", got, want)
	}
}

// TestComposeImages: what is built is a stage of the Dockerfile, asked for its
// health as there, and has no more rights than it needs.
func TestComposeImages(t *testing.T) {
	t.Parallel()
	project := compose(t)
	for name, target := range map[string]string{"dixie": "dixie", "migrate": "dixie", "finn": "fakefinn"} {
		service := project.Services[name]
		build := service.Build
		if build == nil || build.Target != target || build.Dockerfile != "deploy/Dockerfile" || build.Context != ".." {
			t.Errorf("%s is built from %+v", name, build)
			continue
		}
		image := stageNamed(t, target)
		if check := service.HealthCheck; check != nil && !slices.Equal(check.Test[1:], image.exec(t, "HEALTHCHECK")) {
			t.Errorf("%s: health check %v, that of the image is %v", name, check.Test, image.exec(t, "HEALTHCHECK"))
		}
		if !service.ReadOnly || !slices.Contains(service.CapDrop, "ALL") || !slices.Contains(service.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may do more than it needs", name)
		}
	}
	if grace := project.Services["dixie"].StopGracePeriod; grace == nil || time.Duration(*grace) < 30*time.Second {
		t.Errorf("the service is killed after %v, before it has stopped", grace)
	}
}

// TestComposeVariables: each variable is a setting of the program that gets it, and
// the service starts with those that it gets.
func TestComposeVariables(t *testing.T) {
	t.Parallel()
	project := compose(t)
	for name, command := range map[string][]string{
		"dixie": {dixie(t), "serve"}, "migrate": {dixie(t), "migrate", "up"}, "finn": {fakefinnBinary(t), "serve"},
	} {
		service := project.Services[name]
		if len(service.Command) > 0 && !slices.Equal(service.Command, command[1:]) {
			t.Errorf("%s runs %v", name, service.Command)
		}
		known := settings(t, command...)
		for variable := range service.Environment {
			if !slices.Contains(known, variable) {
				t.Errorf("%s gets %s, which %v does not read", name, variable, command[1:])
			}
		}
	}
	env := []string{"DIXIE_ALLOWLIST_PATH=" + filepath.Join(t.TempDir(), "allowlist.json"), "PORT=0"}
	for variable, value := range project.Services["dixie"].Environment {
		if variable != "DATABASE_URL" {
			env = append(env, variable+"="+*value)
		}
	}
	signsTokens(t, env)
}

// signsTokens starts a server that must publish one key.
func signsTokens(t *testing.T, env []string) {
	t.Helper()
	c := &contained{cmd: exec.Command(dixie(t), "serve"), log: &logtext.Log{}, done: make(chan error, 1)}
	c.cmd.Env, c.cmd.Stdout, c.cmd.Stderr = env, c.log, c.log
	if err := c.run(t); err != nil {
		t.Fatal(err)
	}
	response, err := http.Get("http://127.0.0.1:" + c.port(t) + "/api/auth/.well-known/jwks.json")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var text strings.Builder
	if err := response.Write(&text); err != nil || strings.Count(text.String(), `"kty":"EC"`) != 1 {
		t.Errorf("its keys are %s (%v)", &text, err)
	}
	if strings.Contains(c.log.String(), "unknown variable") {
		t.Errorf("it does not know its variables: %s", c.log)
	}
}

// TestDockerCompose: docker compose itself takes the file, where it is there.
func TestDockerCompose(t *testing.T) {
	t.Parallel()
	if err := exec.Command("docker", "compose", "version").Run(); err != nil {
		t.Logf("left to its library, as there is no docker compose here: %v", err)
		return
	}
	cmd := exec.Command("docker", "compose", "-f", composeFile, "config", "--quiet")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
}
