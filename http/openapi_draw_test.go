package http_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"
)

// drawer draws JSON values that schemas of the description allow.
type drawer struct {
	t     *rapid.T
	texts []string // that texts without a pattern are often drawn from, so that events meet
}

// times are what the pattern of times allows and no calendar does not.
var times = []string{
	"2026-02-25T12:00:00Z", "1970-01-01T00:00:00+01:00", "2000-02-29T23:59:59.5Z", "9999-12-31T23:59:59.999999999Z", "0001-01-01T00:00:00-23:59",
}

// draw is a value that the schema at a node allows. It knows the keywords that the
// description uses.
func (d drawer) draw(n node) any {
	n = n.resolved()
	if n.value["const"] != nil {
		return n.value["const"]
	}
	if of, ok := n.value["enum"].([]any); ok {
		return rapid.SampledFrom(of).Draw(d.t, "enum")
	}
	for _, name := range []string{"oneOf", "anyOf"} {
		if of := n.schemasIn(name, n.value[name]); len(of) > 0 {
			return d.draw(of[rapid.IntRange(0, len(of)-1).Draw(d.t, name)])
		}
	}
	switch n.kind(d.t) {
	case "string":
		return d.text(n)
	case "integer":
		return json.Number(fmt.Sprint(d.integer(n)))
	case "number":
		return rapid.SampledFrom([]any{0, 1, 0.5, 1e-9, 0.1234567890123}).Draw(d.t, "number")
	case "boolean":
		return rapid.Bool().Draw(d.t, "boolean")
	case "array":
		return d.array(n)
	case "object":
		return d.object(n)
	}
	return nil
}

// resolved is the schema that a reference is to. What stands beside references only
// describes.
func (n node) resolved() node {
	for {
		ref, ok := n.value["$ref"].(string)
		if !ok {
			return n
		}
		n = n.d.at(strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
}

// kind is one of the types that a schema allows.
func (n node) kind(t *rapid.T) string {
	switch of := n.value["type"].(type) {
	case string:
		return of
	case []any:
		return rapid.SampledFrom(of).Draw(t, "type").(string)
	}
	if n.value["properties"] != nil || n.value["allOf"] != nil {
		return "object"
	}
	return rapid.SampledFrom([]string{"string", "boolean", "null"}).Draw(t, "any type")
}

func (d drawer) text(n node) string {
	pattern, _ := n.value["pattern"].(string)
	switch {
	case strings.HasPrefix(pattern, `^\d{4}-`):
		return rapid.SampledFrom(times).Draw(d.t, "time")
	case pattern != "" && pattern != `^[^\x00]*$`:
		return rapid.StringMatching(pattern).Draw(d.t, "text")
	case rapid.IntRange(0, 3).Draw(d.t, "known text") > 0:
		return rapid.SampledFrom(d.texts).Draw(d.t, "text")
	}
	least, most := int(n.number("minLength")), int(n.number("maxLength"))
	if most == 0 {
		most = 300
	}
	letters := rapid.RuneFrom([]rune("aA0 -_.:/\"'\\%<>&\n\t\u00e4\u2028\U0001d11e\ufffd")) // what texts are escaped for
	return rapid.StringOfN(letters, least, min(most, rapid.SampledFrom([]int{max(1, least), 20, most}).Draw(d.t, "length")), -1).Draw(d.t, "text")
}

func (d drawer) integer(n node) int64 {
	least, most := n.number("minimum"), n.number("maximum")
	if most == 0 {
		most = 1<<53 - 1
	}
	return rapid.OneOf(rapid.SampledFrom([]int64{least, most}), rapid.Int64Range(least, most)).Draw(d.t, "integer")
}

func (d drawer) array(n node) []any {
	least := int(n.number("minItems"))
	of := make([]any, rapid.IntRange(least, least+3).Draw(d.t, "items"))
	items, _ := n.down("items")
	for i := range of {
		of[i] = d.draw(items)
	}
	return of
}

// object draws the members that are required, and some of the others.
func (d drawer) object(n node) map[string]any {
	properties, required := n.members()
	of := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		if required[name] || rapid.Bool().Draw(d.t, "with "+name) {
			of[name] = d.draw(properties[name])
		}
	}
	additional, some := n.down("additionalProperties")
	names, named := n.down("propertyNames")
	if some && named {
		for range rapid.IntRange(0, 3).Draw(d.t, "members") {
			of[d.text(names)] = d.draw(additional)
		}
	}
	return of
}

// members are the schemas of an object's members by name, with those of allOf, and
// the names that are required.
func (n node) members() (properties map[string]node, required map[string]bool) {
	properties, required = map[string]node{}, map[string]bool{}
	for _, part := range n.schemasIn("allOf", n.value["allOf"]) {
		of, names := part.resolved().members()
		maps.Copy(properties, of)
		maps.Copy(required, names)
	}
	of, _ := n.down("properties")
	for name, schema := range of.value {
		if schema == true {
			schema = map[string]any{}
		}
		properties[name] = node{n.d, of.at + "/" + name, schema.(map[string]any)}
	}
	names, _ := n.value["required"].([]any)
	for _, name := range names {
		required[name.(string)] = true
	}
	return properties, required
}

// odd are values that most schemas forbid somewhere.
var odd = []json.RawMessage{
	[]byte(`null`), []byte(`true`), []byte(`-1`), []byte(`-0`), []byte(`1.5`), []byte(`2`), []byte(`1e400`), []byte(`9007199254740993`), []byte(`""`), []byte(`"\u0000"`),
	[]byte(`"\ud800"`), []byte("\"\xff\""), []byte(`"x"`), []byte(`"2026-02-30T00:00:00Z"`), []byte(`{}`), []byte(`[]`), []byte(`[{}]`), []byte(`{"a":1,"a":2}`),
	[]byte(strings.Repeat("[", 2000) + strings.Repeat("]", 2000)), []byte(`"` + strings.Repeat("ä", 6000) + `"`), []byte(`"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"`),
}

// bend changes something in a value, so that a schema may forbid it.
func (d drawer) bend(value any) any {
	switch of := value.(type) {
	case map[string]any:
		name := rapid.SampledFrom(append(slices.Sorted(maps.Keys(of)), "unknown")).Draw(d.t, "member")
		switch rapid.IntRange(0, 3).Draw(d.t, "bend") {
		case 0:
			delete(of, name)
		case 1:
			of[name] = rapid.SampledFrom(odd).Draw(d.t, "odd")
		default:
			of[name] = d.bend(of[name])
		}
		return of
	case []any:
		if len(of) > 0 {
			of[0] = d.bend(of[0])
			return of
		}
	}
	return rapid.SampledFrom(odd).Draw(d.t, "odd")
}

// encode is a value as JSON. What is odd goes in as it is.
func encode(value any) string {
	switch of := value.(type) {
	case json.RawMessage:
		return string(of)
	case map[string]any:
		var members []string
		for _, name := range slices.Sorted(maps.Keys(of)) {
			members = append(members, encode(name)+":"+encode(of[name]))
		}
		return "{" + strings.Join(members, ",") + "}"
	case []any:
		var items []string
		for _, item := range of {
			items = append(items, encode(item))
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// spoil changes a text, so that it may be no JSON.
func (d drawer) spoil(text string) string {
	at := rapid.IntRange(0, len(text)).Draw(d.t, "where")
	switch rapid.IntRange(0, 4).Draw(d.t, "spoil") {
	case 0:
		return text[:at]
	case 1:
		return text[:at] + "\xff" + text[at:]
	case 2:
		return text + text
	case 3:
		return "\ufeff" + text
	}
	return text[:at] + rapid.SampledFrom([]string{"\x00", "{", "}", "\"", ",", "\n", "/*", " "}).Draw(d.t, "sign") + text[at:]
}
