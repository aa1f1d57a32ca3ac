package http_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// statusName is an operation with the status by which an answer is described: its
// own, or its class.
func (n node) statusName(status int) string {
	name := fmt.Sprint(status)
	if _, ok := n.down("responses", name); !ok {
		name = name[:1] + "XX"
	}
	return n.at + " " + name
}

// note remembers what was answered.
func (d *description) note(status string, a answer) {
	var failed struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal([]byte(a.body), &failed) // not every answer is JSON
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[status], d.seen[failed.Error] = true, true
}

// unseen is what is described and was in no test.
func (d *description) unseen() (missing []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for operation := range d.operations() {
		responses, _ := operation.value["responses"].(map[string]any)
		for status := range responses {
			if name := operation.at + " " + status; !d.seen[name] && !rare(operation, status) {
				missing = append(missing, name)
			}
		}
	}
	for _, code := range d.at("components", "schemas", "ErrorCode").value["enum"].([]any) {
		if !d.seen[code.(string)] {
			missing = append(missing, fmt.Sprint("error ", code))
		}
	}
	return missing
}

// operations visits all operations with their methods and paths.
func (d *description) operations() func(func(node, [2]string) bool) {
	paths := d.at("paths")
	return func(yield func(node, [2]string) bool) {
		for path := range paths.value {
			item, _ := paths.down(path)
			for method := range item.value {
				operation, _ := item.down(method)
				if !yield(operation, [2]string{strings.ToUpper(method), path}) {
					return
				}
			}
		}
	}
}

// rare reports whether no test has to see a status.
func rare(operation node, status string) bool {
	id := operation.value["operationId"]
	return status == "500" && (id == "getLive" || id == "getOpenAPI" || id == "getDocs") // nothing in them can fail
}

// TestMain fails when the description tells of answers that no test has seen. A part
// of the tests sees a part of the answers.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 && whole() {
		if missing := described().unseen(); len(missing) > 0 {
			fmt.Printf("FAIL: described, and seen in no test:\n\t%s\n", strings.Join(missing, "\n\t"))
			code = 1
		}
	}
	os.Exit(code)
}

// whole reports whether all tests of the package ran.
func whole() bool {
	for _, name := range []string{"test.run", "test.skip", "test.bench", "test.fuzz", "test.list"} {
		if flag.Lookup(name).Value.String() != "" {
			return false
		}
	}
	return true
}

// checkRefused reports a call that was refused for a field of it although all of it
// is as described.
func (n node) checkRefused(c call, a answer) error {
	var failed struct {
		Error  string                   `json:"error"`
		Errors []struct{ Field string } `json:"errors"`
	}
	if json.Unmarshal([]byte(a.body), &failed) != nil || len(failed.Errors) == 0 || failed.Error == "invalid_message" {
		return nil // messages to sign in with have a grammar of their own
	}
	for _, problem := range failed.Errors {
		if n.beyond(problem.Field) {
			return nil
		}
	}
	if n.fits(c) {
		return fmt.Errorf("%s: the call is as described, and was refused", n.at)
	}
	return nil
}

// beyond reports whether there are rules for a field that a schema cannot say.
func (n node) beyond(field string) bool {
	operation := n.value["operationId"]
	if strings.HasSuffix(field, "timestamp") {
		return true // is on a calendar
	}
	switch field {
	case "wait", // has a limit, and goes with a position only
		"at_least",            // does not go with as_of
		"as_of", "from", "to", // not beyond the end of the log, and in order
		"cursor",          // encodes an id
		"Last-Event-ID",   // counts for event streams alone
		"Idempotency-Key": // does not go with event_id
		return true
	case "limit":
		return operation == "streamLog" // not of an event stream
	case "nftId":
		return operation == "cancelSchedule" || operation == "scheduleHistory" // needed by wallets with several
	case "value", "name", "type":
		return operation == "addToAllowlist" // checksums, printable names, and what goes with a type
	}
	return false
}

// fits reports whether a call is as described.
func (n node) fits(c call) bool {
	_, query, _ := strings.Cut(c.path, "?")
	values, err := url.ParseQuery(query)
	if err != nil || n.checkQuery(c.path) != nil {
		return false
	}
	for name, parameter := range n.parameters("query") {
		given := values[name]
		if len(given) > 1 || len(given) == 0 && parameter.value["required"] == true || !utf8.ValidString(strings.Join(given, "")) {
			return false
		}
	}
	given := variables(n.path(), c.path)
	for name, parameter := range n.parameters("path") {
		schema, _ := parameter.down("schema")
		if value, err := url.PathUnescape(given[name]); err != nil || schema.validate(value) != nil {
			return false
		}
	}
	schema, ok := n.down("requestBody", "content", c.header["Content-Type"], "schema")
	if !ok {
		return n.value["requestBody"] == nil
	}
	// Members that are there twice and texts that are not UTF-8 make no valid JSON
	// (RFC 7493), however the rest of it looks.
	return c.reader == nil && c.header["Content-Encoding"] == "" && jsontext.Value(c.body).IsValid() && schema.validateText(c.body) == nil
}

// path is the path of an operation, with its variables.
func (n node) path() string {
	at := strings.Split(n.at, "/")
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(at[len(at)-2])
}

// method is the method of an operation.
func (n node) method() string { return strings.ToUpper(n.at[strings.LastIndexByte(n.at, '/')+1:]) }

// variables are those of a path, as they are written in it.
func variables(template, path string) map[string]string {
	path, _, _ = strings.Cut(path, "?")
	values, found := strings.Split(path, "/"), map[string]string{}
	for i, segment := range strings.Split(template, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok && i < len(values) {
			found[strings.TrimSuffix(name, "}")] = values[i]
		}
	}
	return found
}
