// Package jsclients_test signs in with the JavaScript libraries that sites use.
// What they send is also in auth/testdata, so the tests of auth need no node.
package jsclients_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"dixie/auth"
)

// scripts are what node needs beside the packages.
var scripts = []string{"package.json", "package-lock.json", "clients.mjs", "signed.mjs", "verdicts.mjs", "signin.mjs"}

// TestClients leaves out what it is for where there is no node.
func TestClients(t *testing.T) {
	t.Parallel()
	dir := install(t)
	if dir == "" {
		return
	}
	// What auth is tested with is what the clients say today.
	for _, name := range []string{"signed", "verdicts"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(filepath.Join("../../auth/testdata/siwe", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if got := node(t, dir, name+".mjs"); got != string(want) {
				t.Errorf("auth/testdata/siwe/%[1]s.json is not what node %[1]s.mjs writes", name)
			}
		})
	}
	t.Run("sign in", func(t *testing.T) {
		t.Parallel()
		server := serve(t, strings.Fields(node(t, dir, "signin.mjs", "--wallets")))
		t.Log(node(t, dir, "signin.mjs", server, "https://dixie.example"))
	})
}

// install installs the packages in a directory of the test, from the registry or
// from npm's cache. It returns none where it cannot, which on CI it must.
func install(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Logf("left out, as there is no %s", program)
			return ""
		}
	}
	dir := t.TempDir()
	for _, name := range scripts {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	npm.Dir = dir
	out, err := npm.CombinedOutput()
	switch {
	case err == nil:
		return dir
	case os.Getenv("CI") != "":
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	t.Logf("left out, as npm ci cannot install the packages: %v\n%s", err, out)
	return ""
}

// node runs a script and returns what it prints.
func node(t *testing.T, dir string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", args...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("node %s: %v\n%s%s", strings.Join(args, " "), err, out, errs.String())
	}
	return string(out)
}

var serving = regexp.MustCompile(`"msg":"serving","url":"([^"]+)"`)

// serve runs the service as operators do, for wallets, and returns its URL.
func serve(t *testing.T, wallets []string) string {
	t.Helper()
	dir := t.TempDir()
	dixie, list := filepath.Join(dir, "dixie"), filepath.Join(dir, "allowlist.json")
	if out, err := exec.Command("go", "build", "-o", dixie, "dixie/cmd/dixie").CombinedOutput(); err != nil {
		t.Fatalf("build the command: %v\n%s", err, out)
	}
	key, err := auth.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{"version": 1, "wallets": wallets, "apiKeys": []string{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(list, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dixie, "serve", "--host", "127.0.0.1", "--port", "0")
	cmd.Env = []string{
		"DIXIE_JWT_PRIVATE_KEY=" + key.Private, "DIXIE_ALLOWLIST_PATH=" + list,
		"DIXIE_SIWE_DOMAINS=dixie.example", "DIXIE_SIWE_REQUIRE_SERVER_NONCE=true",
	}
	return start(t, cmd)
}

// start runs a server until the test ends.
func start(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := make(chan string, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(found)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if match := serving.FindStringSubmatch(lines.Text()); match != nil {
				found <- match[1]
			}
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		reading.Wait()
		_ = cmd.Wait()
	})
	url, ok := <-found
	if !ok {
		t.Fatal("the server did not start")
	}
	return url
}
