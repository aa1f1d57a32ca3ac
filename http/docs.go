package http

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"dixie/internal/apidoc"
)

//go:generate go run dixie/internal/apidoc/write ../docs/api.md

// guide is what there is to say of the API beyond its description.
//
//go:embed guide.md
var guide []byte

// docsAge is for how long anyone may keep the page before it asks again.
const docsAge = 5 * time.Minute

// docsPage is the description of the API for people.
type docsPage struct {
	text         []byte
	etag, policy string
}

// newDocsPage panics when the description cannot be shown: it is part of the
// program.
func newDocsPage(openAPI []byte) docsPage {
	text, policy, err := apidoc.HTML(openAPI, guide)
	if err != nil {
		panic(fmt.Errorf("make the page of the API: %w", err))
	}
	sum := sha256.Sum256(text)
	return docsPage{text: text, policy: policy, etag: `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
}

// getDocs serves GET /docs. The page may load nothing, and run nothing.
func (s *Server) getDocs(w http.ResponseWriter, r *http.Request) error {
	if err := parseQuery(r).err; err != nil {
		return err
	}
	page, h := s.docs(), w.Header()
	h.Set("ETag", page.etag)
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", seconds(docsAge)))
	h.Set("Content-Security-Policy", page.policy)
	if matches(r.Header.Get("If-None-Match"), page.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(page.text)
	return nil
}

// Reference is the file docs/api.md: the guide, and what the description says of
// each route.
func Reference() ([]byte, error) { return apidoc.Markdown(OpenAPI(""), guide) }
