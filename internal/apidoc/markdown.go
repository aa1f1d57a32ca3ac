package apidoc

import (
	"bytes"
	_ "embed"
	"fmt"
	"strings"
	"text/template"
)

//go:embed reference.md
var referenceSource string

// Markdown is the guide, followed by what the document says of each operation and
// schema.
func Markdown(openAPI, guide []byte) ([]byte, error) {
	doc, err := parse(openAPI)
	if err != nil {
		return nil, err
	}
	shown, err := template.New("reference").Funcs(template.FuncMap{"cell": cell, "kind": kindText, "answer": answerText, "common": common, "trim": strings.TrimSpace}).Parse(referenceSource)
	if err != nil {
		return nil, fmt.Errorf("read the reference's template: %w", err)
	}
	out := bytes.NewBufferString("<!-- Made by go generate ./http out of http/guide.md and http/openapi. -->\n\n")
	out.Write(bytes.TrimSpace(guide))
	out.WriteString("\n\n")
	if err := shown.Execute(out, newView(doc)); err != nil {
		return nil, fmt.Errorf("show the OpenAPI document: %w", err)
	}
	return append(bytes.TrimSpace(out.Bytes()), '\n'), nil
}

// cell is a text within a cell of a table (GitHub Flavored Markdown §4.10).
func cell(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
}

func kindText(pieces []piece) string {
	var out strings.Builder
	for _, p := range pieces {
		if p.Schema != "" {
			fmt.Fprintf(&out, "[%s](#schema-%s)", p.Text, slug(p.Schema))
			continue
		}
		out.WriteString(p.Text)
	}
	return out.String()
}

// answerText is what an answer means and has.
func answerText(a answerView) string {
	text := strings.TrimSpace(a.Text)
	for _, m := range a.Media {
		text += fmt.Sprintf(" `%s`: %s", m.Type, kindText(m.Kind))
	}
	return cell(text)
}

// common names the answers that other operations give, too.
func common(answers []answerView) string {
	var all []string
	for _, a := range answers {
		if a.Shared != "" {
			all = append(all, a.Status)
		}
	}
	return strings.Join(all, ", ")
}
