package http_test

import (
	"encoding/json"
	nethttp "net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"dixie/http"
)

// The committed file is what go generate writes.
func TestReferenceIsGenerated(t *testing.T) {
	t.Parallel()
	want, err := http.Reference()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "../docs/api.md (written by go generate ./http)", string(got), string(want))
}

// page is /docs as anyone gets it.
func page(t *testing.T) answer {
	t.Helper()
	return newService(t, openMemory).do(t, call{path: "/docs", key: anyone}).want(t, nethttp.StatusOK)
}

func TestDocsHeaders(t *testing.T) {
	t.Parallel()
	s := newService(t, openMemory)
	a := s.do(t, call{path: "/docs", key: anyone}).want(t, nethttp.StatusOK)
	if got := a.header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	if got := a.header.Get("Cache-Control"); got != "public, max-age=300" {
		t.Errorf("Cache-Control %q", got)
	}
	policy := a.header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") || strings.Contains(policy, "unsafe") {
		t.Errorf("Content-Security-Policy %q, want a hash of the style and nothing else", policy)
	}
	s.do(t, call{path: "/docs", key: anyone, header: map[string]string{"If-None-Match": a.header.Get("ETag")}}).want(t, nethttp.StatusNotModified)
	s.do(t, call{path: "/docs?theme=dark", key: anyone}).wantError(t, nethttp.StatusBadRequest, "invalid_request")
}

// Every operation of the description has its place in the page, with its path.
func TestDocsHaveEveryOperation(t *testing.T) {
	t.Parallel()
	var description struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(http.OpenAPI("test"), &description); err != nil {
		t.Fatal(err)
	}
	text, operations := page(t).body, 0
	for path, item := range description.Paths {
		for method := range item {
			operations++
			title := strings.ToUpper(method) + `</span> <code>` + path + `</code>`
			if !strings.Contains(text, title) {
				t.Errorf("the page lacks %s %s", method, path)
			}
		}
	}
	if got := strings.Count(text, `<article id="op-`); got != operations {
		t.Errorf("%d operations in the page, want %d", got, operations)
	}
}

// A browser gets by with the page alone: it refers to places in itself and to our
// own paths, and to others only by links that people may follow.
func TestDocsReferToNothingElse(t *testing.T) {
	t.Parallel()
	ids, links := map[string]bool{}, []string{}
	for token := range tokens(t, page(t).body) {
		if token.Type == html.StartTagToken && slices.Contains([]string{"script", "img", "link", "iframe", "object"}, token.Data) {
			t.Errorf("the page has %v", token)
		}
		for _, a := range token.Attr {
			switch {
			case a.Key == "id" && ids[a.Val]:
				t.Errorf("two elements have the id %q", a.Val)
			case a.Key == "id":
				ids[a.Val] = true
			case a.Key == "href" && token.Data == "a":
				links = append(links, a.Val)
			case a.Key == "href", a.Key == "src", a.Key == "style", strings.HasPrefix(a.Key, "on"):
				t.Errorf("the page has %v", token)
			}
		}
	}
	for _, link := range links {
		place, inside := strings.CutPrefix(link, "#")
		if inside && !ids[place] || !inside && link != "/api/openapi.json" && !strings.HasPrefix(link, "https://") {
			t.Errorf("a link leads nowhere: %s", link)
		}
	}
}

// Every element ends where it should.
func TestDocsAreWellFormed(t *testing.T) {
	t.Parallel()
	var open []string
	for token := range tokens(t, page(t).body) {
		switch token.Type {
		case html.StartTagToken:
			if token.Data != "meta" && token.Data != "br" && token.Data != "hr" {
				open = append(open, token.Data)
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("</%s> ends nothing; open are %v", token.Data, open)
			}
			open = open[:len(open)-1]
		}
	}
	if len(open) > 0 {
		t.Errorf("%v have no end", open)
	}
}

// tokens are the parts of a page.
func tokens(t *testing.T, text string) func(yield func(html.Token) bool) {
	return func(yield func(html.Token) bool) {
		z := html.NewTokenizer(strings.NewReader(text))
		for z.Next() != html.ErrorToken {
			if !yield(z.Token()) {
				return
			}
		}
	}
}

func TestGoldenDocs(t *testing.T) {
	t.Parallel()
	_, rest, found := strings.Cut(page(t).body, `<article id="op-get-api-reputation-nftid-cohorts">`)
	section, _, ended := strings.Cut(rest, "</article>")
	if !found || !ended {
		t.Fatal("the page has no such section")
	}
	golden(t, "docs-operation", section)
}

// curlLine is a command line of the page: its method and what it asks for.
var curlLine = regexp.MustCompile(`^curl -s (?:-X (\w+) )?'localhost:3001([^']*)'`)

// TestDocsCurl: each command line asks for an operation with all that it requires.
func TestDocsCurl(t *testing.T) {
	t.Parallel()
	s, told := newService(t, openMemory), 0
	for _, line := range strings.Split(page(t).body, `<pre class="curl"><code>`)[1:] {
		line, _, _ = strings.Cut(html.UnescapeString(line), "</code>")
		parts := curlLine.FindStringSubmatch(line)
		if parts == nil {
			t.Errorf("no command: %s", line)
			continue
		}
		c := call{method: parts[1], path: parts[2]}
		if strings.Contains(line, "--data-binary") || strings.HasSuffix(line, "-X POST") {
			c.method = nethttp.MethodPost
		}
		path, _, _ := strings.Cut(c.path, "?")
		operation, found := described().operation(c.verb(), s.server.RouteOf(c.verb(), path))
		if !found && path != "/metrics" {
			t.Errorf("no route: %s", line)
			continue
		}
		if found && operation.value["requestBody"] == nil && !operation.fits(c) {
			t.Errorf("not as described: %s", line)
		}
		told++
	}
	operations := 0
	for range described().operations() {
		operations++
	}
	if told != operations {
		t.Errorf("%d command lines for %d operations", told, operations)
	}
}
