// Package e2e tests a deployment that runs, from outside: over HTTP, and over NATS
// where it publishes. What it has to know of the deployment are the variables of
// the table in README.md. A test whose variables are missing is skipped and says
// which; without INTEGRATION_TEST_URL that is each.
//
// The tests can be run again on the same database: each run has wallets, NFTs and
// keys of its own. Tests that restart or break something run alone, one after the
// other; they put everything right again.
//
//	make e2e          # starts a deployment on this machine, and runs all of them
package e2e

import (
	"cmp"
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"
)

// The variables that describe a deployment.
const (
	urlVariable      = "INTEGRATION_TEST_URL"
	adminVariable    = "E2E_ADMIN_KEY"
	siteVariable     = "E2E_SITE"
	replicasVariable = "E2E_REPLICA_URLS"
	controlVariable  = "E2E_CONTROL_URL"
	natsVariable     = "E2E_NATS_URL"
	finnVariable     = "E2E_FINN_URL"
)

// purposes say what each variable is for, to whoever sees a test skipped.
var purposes = map[string]string{
	urlVariable:      "the address of the deployment, such as http://localhost:3001",
	adminVariable:    "the deployment's DIXIE_ADMIN_KEY, with which the tests let wallets and keys in",
	siteVariable:     "an origin of the deployment's DIXIE_SIWE_DOMAINS; the deployment's own address when not set",
	replicasVariable: "the addresses of at least two replicas, separated by commas",
	controlVariable:  "the control of go run ./internal/e2e, which restarts replicas and kills the database",
	natsVariable:     "the NATS server that the deployment publishes to",
	finnVariable:     "the stand-in for finn that the deployment asks, to be told what it knows and how it fails",
}

// patience bounds what only a failing test waits for.
const patience = 30 * time.Second

// variable is the value of a variable that a test needs. The test is skipped when
// there is none, or no deployment at all.
func variable(t *testing.T, name string) string {
	t.Helper()
	for _, needed := range []string{urlVariable, name} {
		if os.Getenv(needed) == "" {
			t.Skipf("%s is not set: it is %s", needed, purposes[needed])
		}
	}
	return os.Getenv(name)
}

// deployed is the address of the deployment.
func deployed(t *testing.T) string {
	t.Helper()
	return strings.TrimRight(variable(t, urlVariable), "/")
}

// replicas are the addresses of the replicas, of which there are at least two.
func replicas(t *testing.T) []string {
	t.Helper()
	urls := strings.Split(variable(t, replicasVariable), ",")
	if len(urls) < 2 {
		t.Skipf("%s names %d replica: it is %s", replicasVariable, len(urls), purposes[replicasVariable])
	}
	return urls
}

// doors are all addresses that are known: that of the deployment, and those of the
// replicas if they are.
func doors(t *testing.T) []string {
	t.Helper()
	all := []string{deployed(t)}
	if urls := os.Getenv(replicasVariable); urls != "" {
		all = append(all, strings.Split(urls, ",")...)
	}
	return all
}

// site is the origin of the site that wallets sign in to.
func site(t *testing.T) string {
	t.Helper()
	return cmp.Or(os.Getenv(siteVariable), deployed(t))
}

// cleaning bounds what is done after a test, whose own context has ended by then.
func cleaning() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}

// unique is a name that no run has used before.
func unique(kind string) string { return "e2e-" + kind + "-" + strings.ToLower(rand.Text()[:16]) }

// eventually waits until something has happened.
func eventually(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// TestVariables: the table in README.md has each variable, and no other.
func TestVariables(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		name, ok := strings.CutPrefix(line, "| `")
		if !ok {
			continue
		}
		name, _, _ = strings.Cut(name, "`")
		rows++
		if purposes[name] == "" {
			t.Errorf("README.md has the variable %s, which no test reads", name)
		}
	}
	if rows != len(purposes) {
		t.Errorf("README.md has %d variables, the tests %d", rows, len(purposes))
	}
}
