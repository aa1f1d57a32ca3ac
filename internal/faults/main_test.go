package faults_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dixie/internal/dixiecmd"
)

var (
	long     = flag.Bool("long", false, "break each thing for longer, and build the service with the race detector")
	duration = flag.Duration("duration", 0, "how long the mix goes on; 15s, and 5m with -long")
	seed     = flag.Uint64("seed", 0, "seed of the run, to repeat one; chosen at random when 0")
)

// dixie is the path of the real binary, built once for all tests.
var dixie string

// together is how many faults are tried at once: most of their time is waiting.
const together = "6"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", together); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "dixie-faults-")
	if err != nil {
		panic(err)
	}
	dixie = filepath.Join(dir, "dixie")
	if out, err := exec.Command("go", buildArguments(dixie)...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the command: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func buildArguments(binary string) []string {
	arguments := []string{"build", "-o", binary}
	if raced() {
		arguments = append(arguments, "-race")
	}
	return append(arguments, "dixie/cmd/dixie")
}

// raced reports whether the service is built with the race detector, which makes it
// several times as slow.
func raced() bool { return *long || withRaceDetector }

// cli runs a command of the service against a database and returns what it wrote.
func cli(database string, arguments ...string) (stdout, stderr string, err error) {
	return cliWith([]string{"DATABASE_URL=" + database}, arguments...)
}

func cliWith(env []string, arguments ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return dixiecmd.Run(ctx, dixie, append(cleanEnv(), env...), arguments...)
}

// mustCLI ends the test when the command fails.
func mustCLI(t testing.TB, database string, arguments ...string) string {
	t.Helper()
	stdout, stderr, err := cli(database, arguments...)
	if err != nil {
		t.Fatalf("dixie %s: %v\n%s%s", strings.Join(arguments, " "), err, stdout, stderr)
	}
	return stdout
}

// cleanEnv is the environment of what the harness runs.
func cleanEnv() []string { return append(dixiecmd.Environ("PG"), "GORACE=halt_on_error=1") }
