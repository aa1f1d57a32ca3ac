package http_test

import (
	"encoding/json"
	"testing"

	"dixie/http"
)

func TestOpenAPIIsServed(t *testing.T) {
	t.Parallel()
	s := serve(t, openMemory(t))
	got := s.do(t, call{path: "/api/openapi.json", key: anyone}).want(t, 200)
	var document struct {
		OpenAPI string `json:"openapi"`
	}
	got.into(t, &document)
	if document.OpenAPI != "3.1.1" {
		t.Errorf("openapi %q, want 3.1.1", document.OpenAPI)
	}
	if got := got.header.Get("Cache-Control"); got != "public, max-age=300" {
		t.Errorf("Cache-Control %q", got)
	}
	again := call{path: "/api/openapi.json", key: anyone}.with("If-None-Match", got.header.Get("ETag"))
	s.do(t, again).want(t, 304)
	if !json.Valid(http.OpenAPI("1")) {
		t.Error("the description is not JSON")
	}
}
