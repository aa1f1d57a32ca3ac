package apidoc

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
)

//go:embed page.html
var pageSource string

//go:embed style.css
var style string

// HTML is a page that shows an OpenAPI document and a guide in Markdown. It has no
// script and loads nothing; policy is the Content-Security-Policy that allows its
// style and nothing else.
func HTML(openAPI, guide []byte) (page []byte, policy string, err error) {
	doc, err := parse(openAPI)
	if err != nil {
		return nil, "", err
	}
	converter := goldmark.New(goldmark.WithExtensions(extension.Table), goldmark.WithParserOptions(parser.WithAutoHeadingID()))
	markdown := func(text string) (template.HTML, error) { return convert(converter, text) }
	shown := template.New("page").Funcs(template.FuncMap{
		"markdown": markdown, "slug": slug,
		"style": func() template.CSS { return template.CSS(style) },
		"guide": func() (template.HTML, error) { return markdown(string(guide)) },
	})
	if shown, err = shown.Parse(pageSource); err != nil {
		return nil, "", fmt.Errorf("read the page's template: %w", err)
	}
	var text bytes.Buffer
	if err := shown.Execute(&text, newView(doc)); err != nil {
		return nil, "", fmt.Errorf("show the OpenAPI document: %w", err)
	}
	sum := sha256.Sum256([]byte(style))
	policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return text.Bytes(), policy, nil
}

// convert makes HTML of CommonMark with tables. HTML in the text is left out.
func convert(converter goldmark.Markdown, text string) (template.HTML, error) {
	var out bytes.Buffer
	if err := converter.Convert([]byte(text), &out); err != nil {
		return "", fmt.Errorf("convert Markdown: %w", err)
	}
	return template.HTML(out.String()), nil // goldmark escapes what it is given
}
