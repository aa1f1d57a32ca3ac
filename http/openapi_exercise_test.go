package http_test

import (
	"cmp"
	"encoding/base64"
	"io"
	"maps"
	nethttp "net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"dixie/http"
	"dixie/projections"
	"dixie/reputation"
)

// values are parameters that the history of the tests makes sense with. A parameter
// that is not here is made from its schema.
var values = map[string][]string{
	"nftId":          {"bear-1", "bear-2", "cub-1", "mibera:42", "nobody"},
	"cursor":         {base64.RawURLEncoding.EncodeToString([]byte("bear-1")), ""},
	"at_least":       {"0", "1", "10"},
	"wait":           {"0s", "1ms", "1.5ms"},
	"as_of":          {"0", "4", "10", "2026-02-25T12:00:00Z", "2020-01-01T00:00:00+01:00"},
	"from":           {"0", "4", "10", "2026-02-25T12:00:00Z"},
	"to":             {"4", "10", "2030-02-25T12:00:00.5Z"},
	"task":           {"analysis", "unspecified", "legal-guild:contract_review"},
	"model":          {"native", "nothing"},
	"routingKey":     {"nft:bear-1", "nft:nobody"},
	"entry":          {"hive", "bear-1", stranger, "a/b"},
	"scheduleId":     {"s-1"},
	"conversationId": {"c-1"},
	"id":             {"bear-1", "s-1"},
}

// hostile are values that most parameters refuse.
var hostile = []string{
	"", " ", "-1", "0", "1e3", "+5", "9007199254740992", "99999999999999999999", "NaN", "31s", "-1s", "1y", "null", "a/b", "..", "\x00", "\xff",
	"ü", "0x10", "[1]", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "%", "' OR 1=1", "AAAA", strings.Repeat("9", 300), strings.Repeat("a", 5000),
}

// headers are values that callers may send with anything, sound and not.
var headers = map[string][]string{
	"Accept":            {"*/*", "application/json", "application/x-ndjson", "text/html;q=0.1, */*;q=0", ";;", "\xff"},
	"X-Request-Id":      {"a-test", "", strings.Repeat("a", 129), "a b", "\xff"},
	"Traceparent":       {"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-0-0-00", "ff"},
	"X-Forwarded-For":   {"10.0.0.1, 8.8.8.8", ",,,", "::1"},
	"Origin":            {"https://app.example", "null", "a b"},
	"If-None-Match":     {"*", `W/"1"`, `"`, strings.Repeat(`"a",`, 500)},
	"Last-Event-ID":     {"4", "-1", "x", "99999999999999999999"},
	"Idempotency-Key":   {"once", "", strings.Repeat("a", 256), "\xff"},
	"X-Wallet-Address":  {stranger},
	"Content-Encoding":  {"gzip", "identity", "br", "X-GZIP"},
	"Transfer-Encoding": {"chunked"},
	"Authorization":     {"Bearer", "Bearer  a b", "Basic YTpi", "bearer dxk_\xff", "Bearer eyJhbGciOiJub25lIn0.e30."},
	"X-Admin-Key":       {"", "wrong", adminKey},
	"Range":             {"bytes=0-1"},
	"Expect":            {"100-continue"},
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

// exercise is a call of an operation with some of its parameters. allowed is whether
// its schemas allow each of them.
func (n node) exercise(t *rapid.T, method string) (c call, allowed bool) {
	c = call{method: method, path: n.path(), header: map[string]string{}}
	for name, parameter := range sorted(n.parameters("path")) {
		c.path = strings.ReplaceAll(c.path, "{"+name+"}", url.PathEscape(parameter.any(t)))
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
	if len(query) > 0 {
		c.path += "?" + query.Encode()
	}
	if n.value["requestBody"] != nil {
		c.header["Content-Type"], c.body = n.drawBody(t)
	}
	if rapid.IntRange(0, 3).Draw(t, "headers") == 0 {
		for _, name := range slices.Sorted(maps.Keys(headers)) {
			if rapid.IntRange(0, 3).Draw(t, name) == 0 {
				c.header[name] = rapid.SampledFrom(headers[name]).Draw(t, name)
			}
		}
	}
	return n.drawCaller(t, c), allowed
}

// drawBody is a body, most often one that is as described.
func (n node) drawBody(t *rapid.T) (media, body string) {
	content, _ := n.down("requestBody", "content")
	media = rapid.SampledFrom(slices.Sorted(maps.Keys(content.value))).Draw(t, "media type")
	schema, _ := content.down(media, "schema")
	d := drawer{t, []string{"bear-1", "bear-2", "honey", "native", "judge-1", "right", member, stranger}}
	lines := 1
	if strings.Contains(media, "ndjson") || strings.Contains(media, "jsonl") {
		lines = rapid.IntRange(0, 4).Draw(t, "lines")
	}
	var text strings.Builder
	for range lines {
		value := d.draw(schema)
		kind := rapid.IntRange(0, 9).Draw(t, "body")
		if kind == 0 {
			value = d.bend(value)
		}
		line := encode(value)
		if kind == 1 {
			line = d.spoil(line)
		}
		text.WriteString(line + "\n")
	}
	if rapid.IntRange(0, 19).Draw(t, "other media type") == 0 {
		media = rapid.SampledFrom([]string{"", "text/plain", "application/json; charset=utf-8", "application/JSON", "a/b/c", "\xff"}).Draw(t, "media type")
	}
	return media, text.String()
}

// drawCaller is a call by somebody, most often by somebody who may.
func (n node) drawCaller(t *rapid.T, c call) call {
	who := rapid.SampledFrom([]string{"admin", "append,admin", member, "append", "read", stranger, anyone}).Draw(t, "caller")
	if rapid.IntRange(0, 3).Draw(t, "may") > 0 {
		who = "append,admin"
		switch scope, _ := n.value["x-scope"].(string); {
		case throughFinn.MatchString(n.path()):
			who = member
		case scope == "read":
			who = scope
		case scope == "" && rapid.Bool().Draw(t, "signed in"):
			who = member
		}
	}
	if strings.HasPrefix(who, "0x") {
		return c.by(who)
	}
	return c.as(who)
}

// sorted visits parameters by name, so that rapid draws the same again.
func sorted(parameters map[string]node) func(func(string, node) bool) {
	return func(yield func(string, node) bool) {
		for _, name := range slices.Sorted(maps.Keys(parameters)) {
			if !yield(name, parameters[name]) {
				return
			}
		}
	}
}

// exercised are servers on which everything that is described is tried: on each
// backend, and without finn.
var exercised = map[string]func(testing.TB) *service{
	"memory": func(t testing.TB) *service { return newWholeOn(t, openMemory(t)) },
	"without finn": func(t testing.TB) *service {
		return newWholeOn(t, openMemory(t), func(c *http.Config) { c.Upstream, c.Ownership = nil, nil })
	},
	"postgres": func(t testing.TB) *service {
		b := openPostgres(t)
		rebuilder := b.rows.(*projections.Postgres).NewRebuilder(projections.RebuildConfig{
			Params: reputation.DefaultParams(), Logger: logger(t), Processors: 1,
		})
		t.Cleanup(rebuilder.Close)
		return newWholeOn(t, b, func(c *http.Config) { c.Rebuilder = rebuilder })
	},
}

// TestOpenAPIExercise: whatever is asked of an operation, by whomever, the answer is
// one that is described, none is a fault of the service, and what the schemas forbid
// is refused. It makes as many requests of each operation as -rapid.checks says.
// Streams that stay open have tests of their own.
func TestOpenAPIExercise(t *testing.T) {
	t.Parallel()
	for name, open := range exercised {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			for _, operation := range described().sortedOperations() {
				t.Run(operation.value["operationId"].(string), func(t *testing.T) {
					rapid.Check(t, func(r *rapid.T) { s.exercise(t, r, operation, name == "without finn") })
				})
			}
		})
	}
}

// exercise makes a call and checks the answer.
func (s *service) exercise(t *testing.T, r *rapid.T, operation node, noFinn bool) {
	method := operation.method()
	if method == nethttp.MethodGet && rapid.IntRange(0, 9).Draw(r, "head") == 0 {
		method = nethttp.MethodHead
	}
	c, allowed := operation.exercise(r, method)
	a := s.send(t, c)
	if a.status >= 500 && !(noFinn && a.status == 503 && (method == nethttp.MethodHead || strings.Contains(a.body, `"identity_unconfigured"`))) {
		r.Fatalf("%s %s: a fault: %d %s", c.verb(), c.path, a.status, a.body)
	}
	if a.status < 400 && !allowed {
		r.Fatalf("%s %s: the schema of a parameter forbids it, and it is answered with %d", c.verb(), c.path, a.status)
	}
	if err := s.asDescribed(c, a); err != nil {
		r.Fatalf("%s %s %v %.500q: %d: %v\n%s", c.verb(), c.path, c.header, c.body, a.status, err, a.body)
	}
}

// sortedOperations are all operations in an order: what makes things first, and what
// deletes them last.
func (d *description) sortedOperations() (all []node) {
	for operation := range d.operations() {
		all = append(all, operation)
	}
	slices.SortFunc(all, func(a, b node) int {
		return cmp.Or(strings.Compare(b.method(), a.method()), strings.Compare(a.at, b.at))
	})
	return all
}

// metricsPage stands for the metrics of a service.
func metricsPage(w nethttp.ResponseWriter, _ *nethttp.Request) {
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, "some 1\n")
}
