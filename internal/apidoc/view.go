package apidoc

import (
	"bytes"
	"net/url"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// view is a document as pages show it.
type view struct {
	Title, Version, Text string
	Groups               []group
	Shared               []answerView // that several operations give
	Schemas              []schemaView
}

// group has the operations of a tag.
type group struct {
	Name, Anchor, Text string
	Operations         []operationView
}

type operationView struct {
	Method, Path, Anchor  string
	Access, Summary, Text string
	Parameters            []parameterView
	BodyText              string
	Body                  []mediaView
	Answers               []answerView
	Curl                  string
}

type parameterView struct {
	row
	In string
}

type answerView struct {
	Status, Text string
	Shared       string // its name when several operations give it
	Media        []mediaView
}

// mediaView is a body in one media type.
type mediaView struct {
	Type     string
	Kind     []piece
	Rows     []row
	Examples []string
}

type schemaView struct {
	Name, Anchor, Text string
	Kind               []piece
	Rows               []row
	Examples           []string
}

func newView(doc *document) view {
	v := view{Title: doc.Info.Title, Version: doc.Info.Version, Text: doc.Info.Description}
	for _, tag := range doc.Tags {
		g := group{Name: tag.Name, Anchor: "tag-" + slug(tag.Name), Text: tag.Description}
		for _, path := range doc.Paths {
			for _, op := range path.Value.operations() {
				if len(op.Tags) > 0 && op.Tags[0] == tag.Name {
					g.Operations = append(g.Operations, newOperation(path.Name, op))
				}
			}
		}
		v.Groups = append(v.Groups, g)
	}
	v.Shared = sharedAnswers(v.Groups)
	for _, s := range doc.Components.Schemas {
		v.Schemas = append(v.Schemas, schemaView{
			Name: s.Name, Anchor: "schema-" + slug(s.Name), Text: s.Value.text(),
			Kind: s.Value.kind(), Rows: s.Value.rows(), Examples: s.Value.examples(),
		})
	}
	return v
}

// sharedAnswers are those that several operations give, each once, by status.
func sharedAnswers(groups []group) []answerView {
	var all []answerView
	for _, g := range groups {
		for _, op := range g.Operations {
			for _, a := range op.Answers {
				known := slices.ContainsFunc(all, func(b answerView) bool { return a.Shared == b.Shared })
				if a.Shared != "" && !known {
					all = append(all, a)
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b answerView) int { return strings.Compare(a.Status, b.Status) })
	return all
}

func newOperation(path string, op methodOperation) operationView {
	v := operationView{
		Method: op.method, Path: path, Anchor: "op-" + slug(op.method+" "+path),
		Access: access(op.operation), Summary: op.Summary, Text: op.Description, Curl: curl(path, op),
	}
	for _, p := range op.Parameters {
		v.Parameters = append(v.Parameters, parameterView{In: p.In, row: row{
			Name: p.Name, Kind: p.Schema.kind(), Required: p.Required, Text: sentence(p.Description, p.Schema.rules()),
		}})
	}
	if op.RequestBody != nil {
		v.BodyText, v.Body = op.RequestBody.Description, newMedia(op.RequestBody.Content)
	}
	for _, r := range op.Responses {
		v.Answers = append(v.Answers, newAnswer(r.Name, r.Value))
	}
	return v
}

func newAnswer(status string, r response) answerView {
	return answerView{Status: status, Text: r.Description, Shared: r.shared, Media: newMedia(r.Content)}
}

// access says who may use a route.
func access(op *operation) string {
	switch {
	case op.Scope != "":
		return "scope " + op.Scope
	case op.Access == "probe":
		return "anyone, without limits"
	}
	return "anyone"
}

func newMedia(content members[media]) []mediaView {
	var all []mediaView
	for _, one := range content {
		all = append(all, mediaView{
			Type: one.Name, Kind: one.Value.Schema.kind(), Rows: one.Value.Schema.rows(), Examples: one.Value.examples(),
		})
	}
	return all
}

func (m media) examples() []string {
	var all []string
	if m.Example != nil {
		all = append(all, pretty(m.Example))
	}
	for _, one := range m.Examples {
		if one.Value.Value != nil {
			all = append(all, pretty(one.Value.Value))
		}
	}
	return all
}

func (s *schema) examples() []string {
	var all []string
	for _, one := range s.Examples {
		all = append(all, pretty(one))
	}
	return all
}

// pretty is JSON with indentation; a text is shown as it is.
func pretty(value jsontext.Value) string {
	if value.Kind() == '"' {
		var text string
		if json.Unmarshal(value, &text) == nil {
			return strings.TrimSuffix(text, "\n")
		}
	}
	value = value.Clone()
	if err := value.Indent(jsontext.WithIndent("  ")); err != nil {
		return string(value)
	}
	return string(value)
}

// curl is a command line that asks for an operation.
func curl(path string, op methodOperation) string {
	query := url.Values{}
	for _, p := range op.Parameters {
		value := strings.Trim(literal(p.Example), "`")
		switch {
		case p.In == "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(value))
		case p.In == "query" && p.Required:
			query.Set(p.Name, value)
		}
	}
	if len(query) > 0 {
		path += "?" + strings.ReplaceAll(query.Encode(), "%3A", ":") // which need not be escaped (RFC 3986 §3.4)
	}
	var line bytes.Buffer
	line.WriteString("curl -s ")
	if op.method != "GET" && op.method != "POST" {
		line.WriteString("-X " + op.method + " ")
	}
	line.WriteString("'localhost:3001" + path + "'")
	if op.Scope != "" {
		line.WriteString(` -H "$AUTH"`)
	}
	switch {
	case op.RequestBody != nil && len(op.RequestBody.Content) > 0:
		line.WriteString(" -H 'Content-Type: " + op.RequestBody.Content[0].Name + "' --data-binary @body")
	case op.method == "POST":
		line.WriteString(" -X POST")
	}
	return line.String()
}

// slug is a text as an anchor: lower-case letters, digits and hyphens.
func slug(text string) string {
	var out strings.Builder
	for _, c := range strings.ToLower(text) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			out.WriteRune(c)
		case out.Len() > 0 && !strings.HasSuffix(out.String(), "-"):
			out.WriteByte('-')
		}
	}
	return strings.TrimSuffix(out.String(), "-")
}
