package http

import (
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// describeMiddleware adds to each operation what the middleware and the encoding of
// errors do to every route of its kind, so that the sources describe what is the
// route's own. An operation says who may use it: x-scope is the scope that a caller
// needs, and x-access of an open route is anyone, sign-in or probe.
func describeMiddleware(paths yaml.MapSlice) yaml.MapSlice {
	for i, path := range paths {
		item, _ := path.Value.(yaml.MapSlice)
		for j, operation := range item {
			if o, ok := operation.Value.(yaml.MapSlice); ok {
				item[j].Value = describeOperation(o)
			}
		}
		paths[i].Value = item
	}
	return paths
}

func describeOperation(o yaml.MapSlice) yaml.MapSlice {
	responses := object(o, "responses")
	for _, refusal := range refusalsOf(o) {
		if member(responses, refusal.status) == nil {
			responses = append(responses, yaml.MapItem{Key: refusal.status, Value: reference("responses", refusal.response)})
		}
	}
	slices.SortStableFunc(responses, func(a, b yaml.MapItem) int {
		return strings.Compare(a.Key.(string), b.Key.(string))
	})
	for i, response := range responses {
		r, _ := response.Value.(yaml.MapSlice)
		if member(r, "$ref") == nil {
			responses[i].Value = with(r, "headers", headersOf(o, object(r, "headers")))
		}
	}
	return with(with(o, "security", securityOf(o)), "responses", responses)
}

func reference(kind, name string) yaml.MapSlice {
	return yaml.MapSlice{{Key: "$ref", Value: "#/components/" + kind + "/" + name}}
}

type refusal struct{ status, response string }

// refusalsOf are the answers that the middleware gives instead of the route.
func refusalsOf(o yaml.MapSlice) []refusal {
	all := []refusal{{"500", "InternalError"}}
	if member(o, "x-access") != probe {
		all = append(all, refusal{"429", "RateLimited"})
	}
	if member(o, "x-scope") != nil {
		all = append(all, refusal{"401", "Unauthorized"}, refusal{"403", "Forbidden"}, refusal{"503", "Unavailable"})
	}
	return all
}

// headersOf are the headers of an answer, with those that all have.
func headersOf(o, headers yaml.MapSlice) yaml.MapSlice {
	common := []string{"X-Request-Id"}
	if member(o, "x-access") != probe {
		common = append(common, "RateLimit", "RateLimit-Policy")
	}
	for _, name := range common {
		headers = with(headers, name, reference("headers", name))
	}
	return headers
}

// securityOf is how callers show who they are.
func securityOf(o yaml.MapSlice) []any {
	if member(o, "security") != nil {
		given, _ := member(o, "security").([]any)
		return given
	}
	way := func(scheme string) yaml.MapSlice { return yaml.MapSlice{{Key: scheme, Value: []any{}}} }
	switch member(o, "x-scope") {
	case nil:
		return []any{}
	case scopeAdmin:
		return []any{way("apiKey"), way("adminKey")}
	}
	return []any{way("apiKey"), way("token")}
}
