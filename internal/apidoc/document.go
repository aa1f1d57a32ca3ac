// Package apidoc makes pages for people out of an OpenAPI 3.1 document and a guide
// in Markdown: one of HTML, and one of Markdown. It knows what our document uses of
// OpenAPI, and not more.
package apidoc

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// document is what is shown of an OpenAPI document.
type document struct {
	Info struct {
		Title       string `json:"title"`
		Version     string `json:"version"`
		Description string `json:"description"`
	} `json:"info"`
	Tags       []tag             `json:"tags"`
	Paths      members[pathItem] `json:"paths"`
	Components components        `json:"components"`
}

type components struct {
	Schemas       members[*schema]     `json:"schemas"`
	Parameters    members[parameter]   `json:"parameters"`
	Responses     members[response]    `json:"responses"`
	RequestBodies members[requestBody] `json:"requestBodies"`
	Headers       members[parameter]   `json:"headers"`
	Examples      members[example]     `json:"examples"`
}

type tag struct {
	Name        string `json:"name"`
	Description string `json:"description"`
}

// pathItem has the parameters of all operations of a path besides these.
type pathItem struct {
	Parameters []parameter `json:"parameters"`
	Get        *operation  `json:"get"`
	Put        *operation  `json:"put"`
	Post       *operation  `json:"post"`
	Patch      *operation  `json:"patch"`
	Delete     *operation  `json:"delete"`
}

type operation struct {
	Tags        []string          `json:"tags"`
	Summary     string            `json:"summary"`
	Description string            `json:"description"`
	Parameters  []parameter       `json:"parameters"`
	RequestBody *requestBody      `json:"requestBody"`
	Responses   members[response] `json:"responses"`
	Scope       string            `json:"x-scope"`  // that callers need
	Access      string            `json:"x-access"` // of an open route: anyone, sign-in or probe
}

// parameter is a parameter or, without Name and In, a header of an answer.
type parameter struct {
	Ref         string         `json:"$ref"`
	Name        string         `json:"name"`
	In          string         `json:"in"`
	Description string         `json:"description"`
	Required    bool           `json:"required"`
	Schema      *schema        `json:"schema"`
	Example     jsontext.Value `json:"example"`
}

type requestBody struct {
	Ref         string         `json:"$ref"`
	Description string         `json:"description"`
	Content     members[media] `json:"content"`
}

type response struct {
	Ref         string             `json:"$ref"`
	Description string             `json:"description"`
	Headers     members[parameter] `json:"headers"`
	Content     members[media]     `json:"content"`

	shared string // its name among the components, which other operations use as well
}

type media struct {
	Schema   *schema          `json:"schema"`
	Example  jsontext.Value   `json:"example"`
	Examples members[example] `json:"examples"`
}

type example struct {
	Ref     string         `json:"$ref"`
	Summary string         `json:"summary"`
	Value   jsontext.Value `json:"value"`
}

// members is an object whose order counts for readers.
type members[V any] []member[V]

type member[V any] struct {
	Name  string
	Value V
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (m *members[V]) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if token, err := dec.ReadToken(); err != nil || token.Kind() != '{' {
		return fmt.Errorf("want an object, found %v: %w", token, err)
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return err
		}
		one := member[V]{Name: name.String()}
		if err := json.UnmarshalDecode(dec, &one.Value); err != nil {
			return err
		}
		*m = append(*m, one)
	}
	_, err := dec.ReadToken()
	return err
}

// find is the member that a reference such as #/components/schemas/Event names.
func (m members[V]) find(ref string) (found V, err error) {
	name := nameOf(ref)
	for _, one := range m {
		if one.Name == name {
			return one.Value, nil
		}
	}
	return found, fmt.Errorf("the document has no %q", ref)
}

// nameOf is the last part of a reference.
func nameOf(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// parse reads a document and puts in place of references what they name, except
// those to schemas, which pages show as links.
func parse(text []byte) (*document, error) {
	doc := &document{}
	if err := json.Unmarshal(text, doc); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	for _, path := range doc.Paths {
		for _, op := range path.Value.operations() {
			op.Parameters = append(append([]parameter{}, path.Value.Parameters...), op.Parameters...)
			if err := doc.resolve(op.operation); err != nil {
				return nil, fmt.Errorf("%s %s: %w", op.method, path.Name, err)
			}
		}
	}
	return doc, nil
}

type methodOperation struct {
	method string
	*operation
}

// operations are those of a path, reads first.
func (p pathItem) operations() []methodOperation {
	var found []methodOperation
	for _, op := range []methodOperation{{"GET", p.Get}, {"PUT", p.Put}, {"POST", p.Post}, {"PATCH", p.Patch}, {"DELETE", p.Delete}} {
		if op.operation != nil {
			found = append(found, op)
		}
	}
	return found
}

func (d *document) resolve(op *operation) (err error) {
	if err := resolveParameters(op.Parameters, d.Components.Parameters); err != nil {
		return err
	}
	if body := op.RequestBody; body != nil {
		if body.Ref != "" {
			if *body, err = d.Components.RequestBodies.find(body.Ref); err != nil {
				return err
			}
		}
		if err := d.resolveContent(body.Content); err != nil {
			return err
		}
	}
	for i := range op.Responses {
		if err := d.resolveResponse(&op.Responses[i].Value); err != nil {
			return err
		}
	}
	return nil
}

func (d *document) resolveResponse(r *response) (err error) {
	if name := nameOf(r.Ref); name != "" {
		if *r, err = d.Components.Responses.find(r.Ref); err != nil {
			return err
		}
		r.shared = name
	}
	for i := range r.Headers {
		if header := &r.Headers[i].Value; header.Ref != "" {
			if *header, err = d.Components.Headers.find(header.Ref); err != nil {
				return err
			}
		}
	}
	return d.resolveContent(r.Content)
}

func resolveParameters(list []parameter, known members[parameter]) (err error) {
	for i := range list {
		if list[i].Ref != "" {
			if list[i], err = known.find(list[i].Ref); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *document) resolveContent(content members[media]) (err error) {
	for _, one := range content {
		for i := range one.Value.Examples {
			if named := &one.Value.Examples[i].Value; named.Ref != "" {
				if *named, err = d.Components.Examples.find(named.Ref); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
