package http_test

import (
	"maps"
	"net/url"
	"slices"
	"testing"

	"dixie/http"
)

// FuzzQueryString: a query string means what net/url says that it does.
func FuzzQueryString(f *testing.F) {
	for _, text := range []string{"", "a=1", "a=1&b=2", "a=1&a=2", "a", "=1", "&&a=1&", "a=%41", "a=%4", "%zz=1", "a=1;b=2", "a+b=c+d", "a=b=c"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := http.ParseParameters(text)
		want, wantErr := url.ParseQuery(text)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q fails with %v, want %v", text, err, wantErr)
		}
		if err == nil && !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%q has %v, want %v", text, got, want)
		}
	})
}
