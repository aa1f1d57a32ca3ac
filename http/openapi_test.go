package http_test

import (
	"encoding/json"
	"maps"
	nethttp "net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"dixie/http"
)

func TestOpenAPIIsServed(t *testing.T) {
	t.Parallel()
	s := serve(t, openMemory(t))
	got := s.do(t, call{path: "/api/openapi.json", key: anyone}).want(t, 200)
	if got.header.Get("Cache-Control") != "public, max-age=300" {
		t.Errorf("Cache-Control %q", got.header.Get("Cache-Control"))
	}
	var document struct {
		Info struct {
			Version string `json:"version"`
		} `json:"info"`
	}
	got.into(t, &document)
	if document.Info.Version != "test" {
		t.Errorf("version %q, want that of the service", document.Info.Version)
	}
	if got.body != string(http.OpenAPI("test")) {
		t.Error("what is served is not the description")
	}
	again := call{path: "/api/openapi.json", key: anyone}.with("If-None-Match", got.header.Get("ETag"))
	s.do(t, again).want(t, 304)
}

// TestOpenAPIIsValid: the document is one by the schema that the OpenAPI Initiative
// publishes, which leaves the JSON schemas in it to their own meta-schema, and all
// of these compile.
func TestOpenAPIIsValid(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/openapi/schema-3.1.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	meta, err := jsonschema.UnmarshalJSON(file)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("https://spec.openapis.org/oas/3.1/schema", meta); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("https://spec.openapis.org/oas/3.1/schema")
	if err != nil {
		t.Fatal(err)
	}
	d := described()
	if err := schema.Validate(d.root); err != nil {
		t.Error(err)
	}
	d.eachSchema(d.at(), func(n node) {
		if _, err := d.schema(n.at); err != nil {
			t.Errorf("%s: %v", n.at, err)
		}
		n.checkKeywords(t)
	})
}

// keywords are those that the schemas use. JSON Schema passes others over, and so
// the rest of a description that has a comma and no quotes.
var keywords = strings.Fields(`$ref type format pattern enum const default examples description discriminator deprecated
	minimum maximum exclusiveMinimum minLength maxLength minItems maxItems maxProperties
	items properties required propertyNames additionalProperties unevaluatedProperties oneOf anyOf allOf`)

func (n node) checkKeywords(t *testing.T) {
	t.Helper()
	for name, value := range n.value {
		if !slices.Contains(keywords, name) {
			t.Errorf("%s: %q is no keyword", n.at, name)
		}
		for _, below := range n.schemasIn(name, value) {
			below.checkKeywords(t)
		}
	}
}

// schemasIn are the schemas in the value of a keyword.
func (n node) schemasIn(name string, value any) (found []node) {
	add := func(value any) {
		if object, ok := value.(map[string]any); ok {
			found = append(found, node{n.d, n.at + "/" + name, object})
		}
	}
	switch name {
	case "items", "propertyNames", "additionalProperties":
		add(value)
	case "properties":
		for _, property := range value.(map[string]any) {
			add(property)
		}
	case "oneOf", "anyOf", "allOf":
		variants, _ := value.([]any)
		for _, variant := range variants {
			add(variant)
		}
	}
	return found
}

// eachSchema visits the schemas of components, parameters, headers and bodies.
func (d *description) eachSchema(n node, visit func(node)) {
	for name, value := range n.value {
		object, ok := value.(map[string]any)
		if !ok || name == "example" {
			continue
		}
		below := node{d, n.at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name), object}
		if name == "schema" || n.at == "/components/schemas" {
			visit(below)
			continue
		}
		d.eachSchema(below, visit)
	}
}

// TestOpenAPIExamples: examples are what they are examples of.
func TestOpenAPIExamples(t *testing.T) {
	t.Parallel()
	d := described()
	var visit func(n node)
	count := 0
	visit = func(n node) {
		example, has := n.value["example"]
		if schema, ok := n.down("schema"); ok && has {
			count++
			if err := schema.validate(example); err != nil {
				t.Errorf("%s: %v", n.at, err)
			}
		}
		for name, value := range n.value {
			if object, ok := value.(map[string]any); ok {
				visit(node{d, n.at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name), object})
			}
		}
	}
	visit(d.at())
	if count < 15 {
		t.Errorf("%d examples", count)
	}
}

// TestOpenAPIHasEveryRoute: the description has the routes of the server, each for
// those who may use it, and no other.
func TestOpenAPIHasEveryRoute(t *testing.T) {
	t.Parallel()
	s := newGateway(t, func(c *http.Config) { c.MetricsHandler = nethttp.NotFoundHandler() })
	routes := map[string]string{}
	for _, route := range s.server.Routes() {
		routes[route[0]+" "+unnamed(route[1])] = route[2]
	}
	operations := described().access()
	for name, access := range routes {
		switch described, ok := operations[name]; {
		case !ok:
			t.Errorf("%s is not described", name)
		case described != access && !(access == "" && described == "anyone"):
			t.Errorf("%s is described for %q, and is for %q", name, described, access)
		}
	}
	for name := range operations {
		if _, ok := routes[name]; !ok {
			t.Errorf("%s is described, and there is no such route", name)
		}
	}
}

// access is who may use each operation.
func (d *description) access() map[string]string {
	access := map[string]string{}
	paths := d.at("paths")
	for path := range paths.value {
		item, _ := paths.down(path)
		for method := range item.value {
			operation, _ := item.down(method)
			who, ok := operation.value["x-scope"].(string)
			if !ok {
				who, _ = operation.value["x-access"].(string)
			}
			access[strings.ToUpper(method)+" "+unnamed(path)] = who
		}
	}
	return access
}

// TestOpenAPIParts: everything in components is used, and every operation has a name
// of its own and a tag that is declared.
func TestOpenAPIParts(t *testing.T) {
	t.Parallel()
	text := string(http.OpenAPI("test"))
	components := described().at("components")
	for kind := range components.value {
		all, _ := components.down(kind)
		for name := range all.value {
			if kind != "securitySchemes" && !strings.Contains(text, `"$ref":"#/components/`+kind+"/"+name+`"`) {
				t.Errorf("nothing uses components/%s/%s", kind, name)
			}
		}
	}
	var document struct {
		Tags  []struct{ Name string }
		Paths map[string]map[string]struct {
			OperationID string
			Tags        []string
			Summary     string
		}
	}
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for path, item := range document.Paths {
		for _, o := range slices.Collect(maps.Values(item)) {
			if names[o.OperationID] || o.OperationID == "" || o.Summary == "" {
				t.Errorf("%s: the operation %q has no summary, or no name of its own", path, o.OperationID)
			}
			names[o.OperationID] = true
			if len(o.Tags) != 1 || !slices.ContainsFunc(document.Tags, func(tag struct{ Name string }) bool { return tag.Name == o.Tags[0] }) {
				t.Errorf("%s: tags %v", path, o.Tags)
			}
		}
	}
}

// TestOpenAPICheckSeesFaults: an answer that the description does not allow is
// noticed, whatever it is that is wrong with one of them.
func TestOpenAPICheckSeesFaults(t *testing.T) {
	t.Parallel()
	b := openMemory(t)
	b.project(t)
	s := serve(t, b)
	s.tell(t)
	list := call{path: "/api/reputation?limit=1"}
	lines := call{path: "/api/reputation/bear-1/events"}.with("Accept", "application/x-ndjson")
	event := `{"type":"quality_signal","event_id":"00000000-0000-4000-8000-0000000000ee","agent_id":"bear-9","collection_id":"honey","timestamp":"2026-02-25T12:00:00Z","score":0.5}`
	for name, tt := range map[string]struct {
		call     call
		old, new string // in the description
	}{
		"a member of another type":  {list, `"next_cursor":{"$ref":"#/components/schemas/NextCursor"}`, `"next_cursor":{"type":"integer"}`},
		"a member that is missing":  {list, `"required":["reputations",`, `"required":["total","reputations",`},
		"a member too many":         {list, `"next_cursor":{"$ref":"#/components/schemas/NextCursor"},`, ``},
		"another range":             {list, `"maxItems":1000,"items":{"type":"object","required":["nft_id","collection_id","state"`, `"maxItems":0,"items":{"type":"object","required":["nft_id","collection_id","state"`},
		"a line of another type":    {lines, `"required":["position","created_at","nft_id","event"]`, `"required":["position","created_at","nft_id","event","hash"]`},
		"another media type":        {lines, `"application/x-ndjson"`, `"application/jsonl"`},
		"a header that is missing":  {list, `"X-Request-Id":{"$ref":"#/components/headers/X-Request-Id"}`, `"X-Gone":{"$ref":"#/components/headers/X-Request-Id"}`},
		"a status that is missing":  {call{path: "/api/reputation/nobody"}, `"404":`, `"410":`},
		"an unknown error":          {call{path: "/api/reputation/nobody"}, `"not_found","nothing`, `"nothing`},
		"a parameter of another":    {list, `"maximum":1000,"default":100`, `"maximum":0,"default":100`},
		"an undescribed parameter":  {list, `"name":"limit"`, `"name":"most"`},
		"a route that is missing":   {list, `"/api/reputation":`, `"/api/reputations":`},
		"a body that is not so":     {appendTo("bear-9", event), `"const":"quality_signal"`, `"const":"quality"`},
		"a body of another type":    {appendTo("bear-9", event), `"requestBody":{"required":true,"content":{"application/json"`, `"requestBody":{"required":true,"content":{"text/plain"`},
		"an event that is not such": {call{path: "/api/reputation/events", blocks: 3}.with("Accept", "text/event-stream"), `"required":["position","created_at","nft_id","event"]`, `"required":["hash"]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := string(http.OpenAPI("test"))
			changed, err := newDescription([]byte(strings.ReplaceAll(text, tt.old, tt.new)))
			if err != nil || !strings.Contains(text, tt.old) {
				t.Fatalf("the description has no %s, or cannot be changed: %v", tt.old, err)
			}
			path, _, _ := strings.Cut(tt.call.path, "?")
			a := s.do(t, tt.call)
			if err := changed.check(s.server.RouteOf(tt.call.verb(), path), tt.call, a); err == nil {
				t.Errorf("%d is taken to be as described", a.status)
			}
		})
	}
}
