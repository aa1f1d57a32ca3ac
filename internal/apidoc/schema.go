package apidoc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// schema is what is shown of a JSON Schema (draft 2020-12).
type schema struct {
	Ref                  string           `json:"$ref"`
	Type                 types            `json:"type"`
	Format               string           `json:"format"`
	Title                string           `json:"title"`
	Description          string           `json:"description"`
	Enum                 []jsontext.Value `json:"enum"`
	Const                jsontext.Value   `json:"const"`
	Default              jsontext.Value   `json:"default"`
	Examples             []jsontext.Value `json:"examples"`
	Example              jsontext.Value   `json:"example"`
	Properties           members[*schema] `json:"properties"`
	Required             []string         `json:"required"`
	AdditionalProperties *schema          `json:"additionalProperties"`
	Items                *schema          `json:"items"`
	OneOf                []*schema        `json:"oneOf"`
	AnyOf                []*schema        `json:"anyOf"`
	AllOf                []*schema        `json:"allOf"`
	Minimum              jsontext.Value   `json:"minimum"`
	Maximum              jsontext.Value   `json:"maximum"`
	ExclusiveMinimum     jsontext.Value   `json:"exclusiveMinimum"`
	MinLength            jsontext.Value   `json:"minLength"`
	MaxLength            jsontext.Value   `json:"maxLength"`
	MinItems             jsontext.Value   `json:"minItems"`
	MaxItems             jsontext.Value   `json:"maxItems"`
	MaxProperties        jsontext.Value   `json:"maxProperties"`
	Pattern              string           `json:"pattern"`

	never bool // the schema false, which nothing matches
}

// UnmarshalJSONFrom implements [json.UnmarshalerFrom]. A schema may be true or
// false, too.
func (s *schema) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if kind := dec.PeekKind(); kind == 't' || kind == 'f' {
		s.never = kind == 'f'
		return dec.SkipValue()
	}
	type plain schema
	return json.UnmarshalDecode(dec, (*plain)(s))
}

// types are the JSON types of a value, of which there may be one or several.
type types []string

// UnmarshalJSONFrom implements [json.UnmarshalerFrom].
func (t *types) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if dec.PeekKind() == '"' {
		*t = types{""}
		return json.UnmarshalDecode(dec, &(*t)[0])
	}
	return json.UnmarshalDecode(dec, (*[]string)(t))
}

// piece is a part of a type's text, and a link to a schema when that is named.
type piece struct{ Text, Schema string }

// kind says in words what a value is.
func (s *schema) kind() []piece {
	switch {
	case s == nil:
		return []piece{{Text: "anything"}}
	case s.Ref != "":
		return []piece{{Text: nameOf(s.Ref), Schema: nameOf(s.Ref)}}
	case len(s.OneOf) > 0:
		return kinds(s.OneOf, " or ")
	case len(s.AnyOf) > 0:
		return kinds(s.AnyOf, " or ")
	case len(s.AllOf) > 0:
		return kinds(s.AllOf, " and ")
	case s.Items != nil:
		return append(append([]piece{{Text: "array of "}}, s.Items.kind()...), s.orNull()...)
	case s.hasValues():
		return append(append([]piece{{Text: "object of "}}, s.AdditionalProperties.kind()...), s.orNull()...)
	}
	return []piece{{Text: s.plainKind()}}
}

// hasValues reports whether all members of an object are of one kind, whatever
// their names.
func (s *schema) hasValues() bool {
	more := s.AdditionalProperties
	return more != nil && !more.never && len(s.Properties) == 0 && (more.Ref != "" || len(more.Type) > 0)
}

func (s *schema) orNull() []piece {
	if slices.Contains(s.Type, "null") {
		return []piece{{Text: " or null"}}
	}
	return nil
}

func (s *schema) plainKind() string {
	text := strings.Join(s.Type, " or ")
	switch {
	case text == "" && (len(s.Enum) > 0 || s.Const != nil):
		return "string"
	case text == "":
		return "anything"
	case s.Format != "" && s.Format != "int64" && s.Format != "double":
		return text + " (" + s.Format + ")"
	}
	return text
}

func kinds(list []*schema, between string) []piece {
	var all []piece
	for i, s := range list {
		if i > 0 {
			all = append(all, piece{Text: between})
		}
		all = append(all, s.kind()...)
	}
	return all
}

// maxExact is the largest whole number that every reader of JSON takes as it is
// (RFC 8259 §6). As a limit it says nothing of the API.
const maxExact = "9007199254740991"

// rules are the limits of a value, in words; literals are in backquotes.
func (s *schema) rules() string {
	if s == nil {
		return ""
	}
	var rules []string
	add := func(format string, value jsontext.Value) {
		if value != nil {
			rules = append(rules, fmt.Sprintf(format, literal(value)))
		}
	}
	if len(s.Enum) > 0 {
		var values []string
		for _, value := range s.Enum {
			values = append(values, literal(value))
		}
		rules = append(rules, "one of "+strings.Join(values, ", "))
	}
	add("always %s", s.Const)
	add("at least %s", s.Minimum)
	add("more than %s", s.ExclusiveMinimum)
	if string(s.Maximum) != maxExact {
		add("at most %s", s.Maximum)
	}
	add("at least %s characters", s.MinLength)
	add("at most %s characters", s.MaxLength)
	add("at least %s items", s.MinItems)
	add("at most %s items", s.MaxItems)
	add("at most %s members", s.MaxProperties)
	if s.Pattern != "" {
		rules = append(rules, "matches `"+s.Pattern+"`")
	}
	add("%s when absent", s.Default)
	return strings.Join(rules, "; ")
}

// literal is a value as it is written, and strings without their quotes.
func literal(value jsontext.Value) string {
	if value.Kind() == '"' {
		var text string
		if json.Unmarshal(value, &text) == nil && text != "" {
			return "`" + text + "`"
		}
	}
	if value.Kind() == '0' {
		return string(value)
	}
	return "`" + string(value) + "`"
}

// row is a member of an object, or of an object in it, whose name is then a path.
type row struct {
	Name     string
	Kind     []piece
	Required bool
	Text     string // Markdown
}

// maxDepth bounds how deep objects without a name of their own are shown.
const maxDepth = 4

// rows are the members of an object.
func (s *schema) rows() []row { return s.rowsUnder("", 0) }

func (s *schema) rowsUnder(prefix string, depth int) []row {
	if s == nil || depth > maxDepth {
		return nil
	}
	var rows []row
	for _, part := range s.AllOf {
		rows = append(rows, part.rowsUnder(prefix, depth+1)...)
	}
	for _, p := range s.Properties {
		rows = append(rows, row{
			Name: prefix + p.Name, Kind: p.Value.kind(), Required: slices.Contains(s.Required, p.Name), Text: p.Value.text(),
		})
		inner, path := p.Value.inner(prefix + p.Name)
		rows = append(rows, inner.rowsUnder(path+".", depth+1)...)
	}
	return rows
}

// inner is the object whose members follow a member, and its path.
func (s *schema) inner(path string) (*schema, string) {
	switch {
	case s.Items != nil:
		return s.Items.inner(path + "[]")
	case s.hasValues():
		return s.AdditionalProperties.inner(path + ".*")
	}
	for _, one := range append(s.OneOf, s.AnyOf...) { // an object or null
		if len(one.Properties) > 0 {
			return one, path
		}
	}
	return s, path
}

// text is what a member means and its rules.
func (s *schema) text() string {
	if s == nil {
		return ""
	}
	rules := s.rules()
	if rules == "" && s.Items != nil {
		rules = s.Items.rules()
	}
	return sentence(s.Description, rules)
}

// sentence joins what a value means and what it must be.
func sentence(description, rules string) string {
	description = strings.TrimSpace(description)
	switch {
	case rules == "":
		return description
	case description == "":
		return strings.ToUpper(rules[:1]) + rules[1:]
	}
	return strings.TrimSuffix(description, ".") + ". " + strings.ToUpper(rules[:1]) + rules[1:]
}
