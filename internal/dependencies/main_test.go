package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocument: the list is that of the modules which are there.
func TestDocument(t *testing.T) {
	t.Parallel()
	want, err := document()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("run go generate ./internal/dependencies (-want +got):\n%s", diff)
	}
}

const mit = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`

const gpl = `This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later version.
`

// TestLicences: what is not allowed, not known or not there is refused.
func TestLicences(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		files map[string]string
		want  string // of the error; none when empty
	}{
		"allowed":     {map[string]string{"LICENSE": mit}, ""},
		"two":         {map[string]string{"LICENSE": mit, "COPYING": gpl}, "not allowed"},
		"not allowed": {map[string]string{"License.txt": gpl}, "not allowed"},
		"not known":   {map[string]string{"LICENSE": "All rights are mine, and nobody else may do anything at all with this."}, "no licence that is known"},
		"none":        {map[string]string{"license.go": mit}, "has no licence"},
	} {
		m := &module{Path: name, Dir: t.TempDir()}
		for file, text := range tt.files {
			if err := os.WriteFile(filepath.Join(m.Dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := m.checkLicence()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// TestPurposes: a module without a purpose is noticed, and a purpose without a module.
func TestPurposes(t *testing.T) {
	t.Parallel()
	err := checkPurposes([]*module{{Path: "example.com/new"}})
	if err == nil || !strings.Contains(err.Error(), "example.com/new: say") || !strings.Contains(err.Error(), "pgx/v5 is not needed any more") {
		t.Errorf("%v", err)
	}
}
