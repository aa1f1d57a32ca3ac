package http_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	nethttp "net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"dixie/http"
)

// description is the description of the API, against which every answer of every
// test is checked. It is safe for concurrent use.
type description struct {
	root any

	mu       sync.Mutex // guards what follows
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema
	seen     map[string]bool // answers by operation and status, and error codes
}

const descriptionURL = "https://dixie.test/openapi.json"

var described = sync.OnceValue(func() *description {
	d, err := newDescription(http.OpenAPI("test"))
	if err != nil {
		panic(err)
	}
	return d
})

func newDescription(text []byte) (*description, error) {
	root, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	return &description{root: root, compiler: compiler, schemas: map[string]*jsonschema.Schema{}, seen: map[string]bool{}}, compiler.AddResource(descriptionURL, root)
}

// node is a place in the description.
type node struct {
	d     *description
	at    string // JSON pointer
	value map[string]any
}

// down is the place under a node, beyond references; false when there is none.
func (n node) down(names ...string) (node, bool) {
	for _, name := range names {
		value, ok := n.value[name].(map[string]any)
		if !ok {
			return node{}, false
		}
		n = node{n.d, n.at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name), value}
		if ref, ok := value["$ref"].(string); ok && len(value) == 1 {
			n = n.d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
	}
	return n, true
}

// at is a place that has to be there.
func (d *description) at(names ...string) node {
	root, _ := d.root.(map[string]any)
	n, ok := node{d: d, value: root}.down(names...)
	if !ok {
		panic(fmt.Sprintf("the description has no %v", names))
	}
	return n
}

// validate is nil when a value matches the schema at a node.
func (n node) validate(value any) error {
	schema, err := n.d.schema(n.at)
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

func (d *description) schema(at string) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if schema := d.schemas[at]; schema != nil {
		return schema, nil
	}
	schema, err := d.compiler.Compile(descriptionURL + "#" + strings.ReplaceAll(url.PathEscape(at), "%2F", "/"))
	d.schemas[at] = schema
	return schema, err
}

// validateText is validate for JSON.
func (n node) validateText(text string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return n.validate(value)
}

// validateWord is validate for a parameter or header, which may be a number.
func (n node) validateWord(word string) error {
	err := n.validate(word)
	if err != nil && integer.MatchString(word) {
		return n.validate(json.Number(word))
	}
	return err
}

// integer is a whole number as JSON writes it.
var integer = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

// operation is what the description has of a route; false when it has none.
func (d *description) operation(method, path string) (node, bool) {
	if method == nethttp.MethodHead {
		method = nethttp.MethodGet
	}
	paths := d.at("paths")
	for described := range paths.value {
		if unnamed(described) == unnamed(path) {
			return paths.down(described, strings.ToLower(method))
		}
	}
	return node{}, false
}

// unnamed is a path without the names of its variables, which are not part of what
// it matches: OpenAPI knows no two paths that differ in them alone.
func unnamed(path string) string { return variable.ReplaceAllString(path, "{}") }

var variable = regexp.MustCompile(`\{\w+\}`)

// response is what an operation has of a status: itself, or its class.
func (n node) response(status int) (node, bool) {
	for _, name := range []string{strconv.Itoa(status), fmt.Sprintf("%dXX", status/100)} {
		if r, ok := n.down("responses", name); ok {
			return r, true
		}
	}
	return node{}, false
}

// check is nil when the description allows a call of a route to be answered so.
func (d *description) check(path string, c call, a answer) error {
	operation, ok := d.operation(c.verb(), path)
	if !ok {
		return fmt.Errorf("%s %s is not described", c.verb(), path)
	}
	response, ok := operation.response(a.status)
	if !ok {
		return fmt.Errorf("%s %s: the status %d is not described", c.verb(), path, a.status)
	}
	d.note(operation.statusName(a.status), a)
	if err := response.checkHeaders(a); err != nil {
		return err
	}
	switch {
	case a.status/100 == 2:
		if err := operation.checkCall(c, a); err != nil {
			return err
		}
	case a.status == nethttp.StatusBadRequest:
		if err := operation.checkRefused(c, a); err != nil {
			return err
		}
	}
	if c.verb() == nethttp.MethodHead {
		return nil
	}
	return response.checkBody(a)
}

// undescribed are headers that any answer may have: they are described in words, or
// are the transport's.
var undescribed = regexp.MustCompile(`^(Allow|Cache-Control|Connection|Content-Length|Content-Type|Date|Vary|Access-Control-.*|` +
	`Content-Security-Policy|Referrer-Policy|Strict-Transport-Security|X-Content-Type-Options|X-Frame-Options|` +
	`Traceparent|X-Trace-Id|X-Span-Id|X-Payment-.*|X-Accel-Buffering|Ratelimit|Ratelimit-Policy)$`)

func (n node) checkHeaders(a answer) error {
	headers, _ := n.value["headers"].(map[string]any)
	described := map[string]bool{}
	for name := range headers {
		described[nethttp.CanonicalHeaderKey(name)] = true
	}
	for name := range a.header {
		if !described[name] && !undescribed.MatchString(name) {
			return fmt.Errorf("%s: the header %s is not described", n.at, name)
		}
	}
	for name := range headers {
		header, _ := n.down("headers", name)
		value := a.header.Get(name)
		if value == "" {
			if header.value["required"] == true {
				return fmt.Errorf("%s: no header %s", n.at, name)
			}
			continue
		}
		schema, _ := header.down("schema")
		if err := schema.validateWord(value); err != nil {
			return fmt.Errorf("%s: header %s: %w", n.at, name, err)
		}
	}
	return nil
}

func (n node) checkBody(a answer) error {
	media, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	if _, ok := n.down("content"); !ok {
		if a.body != "" {
			return fmt.Errorf("%s: a body, which is not described: %s", n.at, a.body)
		}
		return nil
	}
	content, ok := n.down("content", media)
	if !ok {
		return fmt.Errorf("%s: the media type %q is not described", n.at, media)
	}
	schema, ok := content.down("schema")
	if !ok {
		return fmt.Errorf("%s has no schema", content.at)
	}
	switch media {
	case "application/json":
		return schema.validateText(a.body)
	case "application/x-ndjson":
		return schema.validateLines(a.body)
	case "text/event-stream":
		return content.validateEvents(a.body)
	}
	return nil
}

// validateLines checks every line that is whole.
func (n node) validateLines(text string) error {
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") || strings.TrimSpace(line) == "" {
			continue
		}
		if err := n.validateText(line); err != nil {
			return err
		}
	}
	return nil
}

// validateEvents checks the data of Server-Sent Events by x-data.
func (n node) validateEvents(text string) error {
	schema, ok := n.down("x-data")
	if !ok {
		return nil
	}
	for line := range strings.Lines(text) {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok || !strings.HasSuffix(data, "\n") {
			continue
		}
		if err := schema.validateText(data); err != nil {
			return err
		}
	}
	return nil
}

// checkCall checks that the description allows what was answered with success.
func (n node) checkCall(c call, a answer) error {
	if err := n.checkQuery(c.path); err != nil {
		return err
	}
	media, _, _ := mime.ParseMediaType(c.header["Content-Type"])
	_, required := n.down("requestBody")
	schema, ok := n.down("requestBody", "content", media, "schema")
	switch {
	case c.reader != nil || c.header["Content-Encoding"] != "":
		return nil
	case required && !ok:
		return fmt.Errorf("%s: a body of the type %q is not described", n.at, media)
	case media == "application/json" && ok:
		return schema.validateText(c.body)
	case ok && strings.Contains(a.body, `"rejected":0,`):
		return schema.validateLines(c.body)
	}
	return nil
}

// checkQuery checks the parameters of a path's query string.
func (n node) checkQuery(path string) error {
	_, text, _ := strings.Cut(path, "?")
	values, err := url.ParseQuery(text)
	if err != nil {
		return err
	}
	parameters := n.parameters("query")
	for name := range maps.Keys(values) {
		parameter, ok := parameters[name]
		if !ok {
			return fmt.Errorf("%s: the parameter %q is not described", n.at, name)
		}
		schema, _ := parameter.down("schema")
		if err := schema.validateWord(values.Get(name)); err != nil {
			return fmt.Errorf("%s: parameter %s: %w", n.at, name, err)
		}
	}
	return nil
}

// parameters are those of an operation in a place, such as query, by name.
func (n node) parameters(in string) map[string]node {
	found := map[string]node{}
	list, _ := n.value["parameters"].([]any)
	for i, one := range list {
		value, _ := one.(map[string]any)
		parameter := node{n.d, fmt.Sprintf("%s/parameters/%d", n.at, i), value}
		if ref, ok := value["$ref"].(string); ok {
			parameter = n.d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
		}
		if parameter.value["in"] == in {
			found[parameter.value["name"].(string)] = parameter
		}
	}
	return found
}

// asDescribed checks an answer of a service by the description of the API. Routes
// that a test has added are not described, and requests that go nowhere are answered
// with an error.
func (s *service) asDescribed(c call, a answer) error {
	if s.server == nil || a.status == 0 {
		return nil // something stands in front, or there is no answer
	}
	d := described()
	path, _, _ := strings.Cut(c.path, "?")
	route := s.server.RouteOf(c.verb(), path)
	switch {
	case route != "":
		return d.check(route, c, a)
	case c.verb() == nethttp.MethodHead, c.verb() == nethttp.MethodOptions, s.server.Serves(c.verb(), path):
		return nil
	}
	d.note("", a)
	return d.at("components", "schemas", "Error").validateText(a.body)
}
