package http

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/goccy/go-yaml"
)

// openAPISources are the parts of the description: each file is a part of one
// document, and their objects are merged in the order of their names.
//
//go:embed openapi/*.yaml
var openAPISources embed.FS

// openAPIAge is for how long anyone may keep the description.
const openAPIAge = 5 * time.Minute

// OpenAPI is the description of this API as a JSON document (OpenAPI 3.1), for a
// version of the service.
func OpenAPI(version string) []byte {
	document := yaml.MapSlice{}
	names, err := fs.Glob(openAPISources, "openapi/*.yaml")
	if err != nil {
		panic(err) // only for a malformed pattern
	}
	for _, name := range names {
		document = merge(document, openAPISource(name))
	}
	document = with(document, "info", with(object(document, "info"), "version", version))
	return appendOrdered(nil, with(document, "paths", describeMiddleware(object(document, "paths"))))
}

func openAPISource(name string) yaml.MapSlice {
	text, err := openAPISources.ReadFile(name)
	if err != nil {
		panic(err) // it is part of the program
	}
	part := yaml.MapSlice{}
	if err := yaml.UnmarshalWithOptions(text, &part, yaml.UseOrderedMap(), yaml.Strict()); err != nil {
		panic(fmt.Errorf("%s: %w", name, err))
	}
	return part
}

// merge adds the members of b to a. Objects that both have are merged.
func merge(a, b yaml.MapSlice) yaml.MapSlice {
	for _, item := range b {
		name := item.Key.(string)
		value, ok := item.Value.(yaml.MapSlice)
		if ok {
			value = merge(slices.Clone(object(a, name)), value)
			a = with(a, name, value)
			continue
		}
		a = with(a, name, item.Value)
	}
	return a
}

// member is that of a name, and nil when there is none.
func member(o yaml.MapSlice, name string) any {
	for _, item := range o {
		if item.Key == name {
			return item.Value
		}
	}
	return nil
}

// object is a member that is an object, and empty when there is none.
func object(o yaml.MapSlice, name string) yaml.MapSlice {
	value, _ := member(o, name).(yaml.MapSlice)
	return value
}

// with is o with a member, in place of the one that it has by this name.
func with(o yaml.MapSlice, name string, value any) yaml.MapSlice {
	for i, item := range o {
		if item.Key == name {
			o[i].Value = value
			return o
		}
	}
	return append(o, yaml.MapItem{Key: name, Value: value})
}

// appendOrdered appends the JSON of a value, members in their order.
func appendOrdered(dst []byte, value any) []byte {
	var text bytes.Buffer
	enc := jsontext.NewEncoder(&text)
	if err := writeOrdered(enc, value); err != nil {
		panic(fmt.Errorf("encode the description of the API: %w", err))
	}
	return append(dst, text.Bytes()...)
}

func writeOrdered(enc *jsontext.Encoder, value any) error {
	switch v := value.(type) {
	case yaml.MapSlice:
		return writeObject(enc, v)
	case []any:
		return writeArray(enc, v)
	case string:
		return enc.WriteToken(jsontext.String(v))
	case bool:
		return enc.WriteToken(jsontext.Bool(v))
	case uint64:
		return enc.WriteToken(jsontext.Uint(v))
	case int64:
		return enc.WriteToken(jsontext.Int(v))
	case float64:
		return enc.WriteToken(jsontext.Float(v))
	case nil:
		return enc.WriteToken(jsontext.Null)
	}
	return fmt.Errorf("a value of the type %T", value)
}

func writeObject(enc *jsontext.Encoder, o yaml.MapSlice) error {
	if err := enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for _, item := range o {
		name, ok := item.Key.(string)
		if !ok {
			return fmt.Errorf("the name %v is not a text", item.Key)
		}
		if err := enc.WriteToken(jsontext.String(name)); err != nil {
			return err
		}
		if err := writeOrdered(enc, item.Value); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndObject)
}

func writeArray(enc *jsontext.Encoder, values []any) error {
	if err := enc.WriteToken(jsontext.BeginArray); err != nil {
		return err
	}
	for _, value := range values {
		if err := writeOrdered(enc, value); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndArray)
}

// getOpenAPI serves GET /api/openapi.json.
func (s *Server) getOpenAPI(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).err; err != nil {
		return err
	}
	writePublic(w, r, s.openAPI(), openAPIAge)
	return nil
}
