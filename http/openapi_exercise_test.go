package http_test

import (
	"encoding/base64"
	nethttp "net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// values are parameters that the history of the tests makes sense with. A parameter
// that is not here is made from its schema.
var values = map[string][]string{
	"nftId":      {"bear-1", "bear-2", "cub-1", "mibera:42", "nobody"},
	"cursor":     {base64.RawURLEncoding.EncodeToString([]byte("bear-1")), ""},
	"at_least":   {"0", "1", "10"},
	"wait":       {"0s", "1ms", "1.5ms"},
	"as_of":      {"0", "4", "10", "2026-02-25T12:00:00Z", "2020-01-01T00:00:00+01:00"},
	"from":       {"0", "4", "10", "2026-02-25T12:00:00Z"},
	"to":         {"4", "10", "2030-02-25T12:00:00.5Z"},
	"task":       {"analysis", "unspecified", "legal-guild:contract_review"},
	"model":      {"native", "nothing"},
	"routingKey": {"nft:bear-1", "nft:nobody"},
	"entry":      {"hive", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"},
	"scheduleId": {"s-1"},
	"id":         {"bear-1", "s-1"},
}

// hostile are values that most parameters refuse.
var hostile = []string{
	"", " ", "-1", "0", "1e3", "+5", "9007199254740992", "99999999999999999999", "NaN", "31s", "-1s", "1y", "null", "a/b", "..", "\x00", "\xff",
	"ü", "0x10", "[1]", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "%", "' OR 1=1", "AAAA", strings.Repeat("9", 300), strings.Repeat("a", 5000),
}

// valid draws a value that the schema of a parameter allows.
func (n node) valid(t *rapid.T) string {
	name, _ := n.value["name"].(string)
	if known := values[name]; known != nil {
		return rapid.SampledFrom(known).Draw(t, name)
	}
	schema, _ := n.down("schema")
	if names, ok := schema.value["enum"].([]any); ok {
		return rapid.SampledFrom(names).Draw(t, name).(string)
	}
	if schema.value["type"] != "integer" {
		return rapid.StringMatching(`[a-z]{1,8}`).Draw(t, name)
	}
	return strconv.FormatInt(rapid.Int64Range(schema.number("minimum"), schema.number("maximum")).Draw(t, name), 10)
}

// number is a number in the description.
func (n node) number(name string) int64 {
	number, _ := n.value[name].(interface{ Int64() (int64, error) })
	if number == nil {
		return 0
	}
	value, _ := number.Int64()
	return value
}

// any draws a value that may break the rules.
func (n node) any(t *rapid.T) string {
	if rapid.IntRange(0, 2).Draw(t, "kind") > 0 {
		return n.valid(t)
	}
	return rapid.OneOf(rapid.SampledFrom(hostile), rapid.String()).Draw(t, "hostile")
}

// exercise is a call of an operation with some of its parameters. allowed is
// whether its schemas allow each of them.
func (n node) exercise(t *rapid.T, path string) (c call, allowed bool) {
	for name, parameter := range sorted(n.parameters("path")) {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(parameter.valid(t)))
	}
	query, allowed := url.Values{}, true
	for name, parameter := range sorted(n.parameters("query")) {
		if parameter.value["required"] != true && rapid.Bool().Draw(t, "without "+name) {
			continue
		}
		query.Set(name, parameter.any(t))
		schema, _ := parameter.down("schema")
		allowed = allowed && schema.validateWord(query.Get(name)) == nil
	}
	c = call{path: path, key: "read"}
	if len(query) > 0 {
		c.path += "?" + query.Encode()
	}
	if n.value["x-scope"] == "admin" {
		c.key = "admin"
	}
	return c.with("Accept", rapid.SampledFrom([]string{"*/*", "application/json", "application/x-ndjson"}).Draw(t, "Accept")), allowed
}

// sorted visits parameters by name, so that rapid draws the same again.
func sorted(parameters map[string]node) func(func(string, node) bool) {
	names := make([]string, 0, len(parameters))
	for name := range parameters {
		names = append(names, name)
	}
	slices.Sort(names)
	return func(yield func(string, node) bool) {
		for _, name := range names {
			if !yield(name, parameters[name]) {
				return
			}
		}
	}
}

// TestOpenAPIExercise: whatever a GET of a route asks, the answer is one that is
// described, none is a fault of the service, and what the schemas forbid is refused.
func TestOpenAPIExercise(t *testing.T) {
	t.Parallel()
	b := openMemory(t)
	b.project(t)
	s := serve(t, b, withGateway(t))
	s.tell(t)
	paths := described().at("paths")
	for path := range paths.value {
		operation, ok := paths.down(path, "get")
		if !ok || path == "/metrics" {
			continue
		}
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(r *rapid.T) {
				c, allowed := operation.exercise(r, path)
				a := s.send(t, c)
				if a.status >= 500 && a.status != nethttp.StatusServiceUnavailable {
					r.Fatalf("GET %s: a fault: %d %s", c.path, a.status, a.body)
				}
				if a.status < 400 && !allowed {
					r.Fatalf("GET %s: the schema of a parameter forbids it, and it is answered with %d", c.path, a.status)
				}
				if err := s.asDescribed(c, a); err != nil {
					r.Fatalf("GET %s: %d: %v\n%s", c.path, a.status, err, a.body)
				}
			})
		})
	}
}
