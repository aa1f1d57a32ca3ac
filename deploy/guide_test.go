package deploy_test

import (
	"regexp"
	"strings"
	"testing"
)

// TestGuide: the operators' guide has every setting of a server, in its table or as
// one of a group, and every link within it leads somewhere.
func TestGuide(t *testing.T) {
	t.Parallel()
	guide := readFile(t, "../docs/operations.md")
	for _, name := range settings(t, dixie(t), "serve") {
		grouped := strings.HasPrefix(name, "DIXIE_SCORING_") || strings.HasPrefix(name, "DIXIE_NATS_")
		if !grouped && !strings.Contains(guide, "`"+name) {
			t.Errorf("docs/operations.md does not explain %s", name)
		}
	}
	headings := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(guide, -1) {
		headings[strings.ReplaceAll(strings.ToLower(match[1]), " ", "-")] = true
	}
	for _, match := range regexp.MustCompile(`\]\(#([^)]+)\)`).FindAllStringSubmatch(guide, -1) {
		if !headings[match[1]] {
			t.Errorf("docs/operations.md has a link to #%s, which is no heading", match[1])
		}
	}
}
