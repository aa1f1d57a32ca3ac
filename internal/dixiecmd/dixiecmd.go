// Package dixiecmd runs the command dixie, for tests and measurements.
package dixiecmd

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// prefixes and names are those of the variables that are settings of the service.
var (
	prefixes = []string{"DIXIE_", "FINN_", "OTEL_"}
	names    = []string{"DATABASE_URL", "NATS_URL", "PORT"}
)

// Environ is this process' environment without settings of the service, and without
// variables that begin with one of further prefixes: what whoever runs the tests has
// set for a service of their own is not for this one.
func Environ(further ...string) []string {
	left := slices.Concat(prefixes, further)
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(names, name) ||
			slices.ContainsFunc(left, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	})
}

// Run runs a command with an environment and returns what it wrote. The error is that
// of [exec.Cmd.Run].
func Run(ctx context.Context, exe string, env []string, arguments ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, exe, arguments...)
	cmd.Env = env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}
