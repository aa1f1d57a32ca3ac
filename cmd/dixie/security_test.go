package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"dixie/reputation"
)

// TestSecurityPage: docs/security.md has the limits that there are, names settings and
// files that there are, and its links lead somewhere.
func TestSecurityPage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	var cmd command
	parser, err := kong.New(&cmd)
	if err != nil {
		t.Fatal(err)
	}
	defaults := map[string]string{} // by the variable, whatever this process has set
	for _, node := range parser.Model.Children {
		for _, flag := range node.Flags {
			for _, variable := range flag.Envs {
				defaults[variable] = flag.Default
			}
		}
	}
	for _, row := range []string{
		"| connections to the API | " + thousands(defaults["DIXIE_MAX_CONNECTIONS"]) + ", more",
		fmt.Sprintf("| %d each |", asideConnections),
		fmt.Sprintf("| header of a request | %d KiB (and 4 KiB that Go adds) within %.0f s |", maxHeader>>10, headerTimeout.Seconds()),
		fmt.Sprintf("| body | within %.0f min;", bodyTimeout.Minutes()),
		fmt.Sprintf("| answer | within %.0f s of the request's header; a scrape at its own address %.0f s, a profile %.0f min |", answerTimeout.Seconds(), scrapeTimeout.Seconds(), profileTimeout.Minutes()),
		fmt.Sprintf("| connection without a request | %.0f min |", idleTimeout.Minutes()),
		fmt.Sprintf("lines of %d KiB,", reputation.MaxLineBytes>>10),
		fmt.Sprintf("| requests of a wallet or address | %d a minute;", defaultRequests),
		fmt.Sprintf("| reading the past | %s at a time, %s events, %s |", defaults["DIXIE_HISTORY_CONCURRENCY"],
			thousands(defaults["DIXIE_HISTORY_MAX_EVENTS"]), strings.Replace(defaults["DIXIE_HISTORY_TIMEOUT"], "s", " s", 1)),
		"| connections to PostgreSQL | " + defaults["DATABASE_POOL_SIZE"] + " and",
	} {
		if !strings.Contains(page, row) {
			t.Errorf("docs/security.md lacks %q", row)
		}
	}
	known := variablesOf(parser.Model)
	for _, match := range regexp.MustCompile("`((?:DIXIE|FINN|DATABASE|NATS)_[A-Z_]+)`").FindAllStringSubmatch(page, -1) {
		if !strings.Contains(strings.Join(known, " ")+" ", match[1]+" ") {
			t.Errorf("docs/security.md names %s, which is no setting", match[1])
		}
	}
	for _, match := range regexp.MustCompile("`((?:auth|http|internal|cmd)/[\\w./-]+)`|\\]\\(([\\w./-]+)").FindAllStringSubmatch(page, -1) {
		path := filepath.Join("../..", match[1])
		if match[1] == "" {
			path = filepath.Join("../../docs", match[2])
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("docs/security.md names %s: %v", match[0], err)
		}
	}
}

// thousands writes a number of more than three digits with a comma.
func thousands(number string) string {
	at := max(0, len(number)-3)
	return number[:at] + "," + number[at:]
}
