package auth_test

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dixie/auth"
	"dixie/reputation"
)

// Messages that clients built and signed, and what their parsers say to others:
// internal/jsclients writes both.
var (
	//go:embed testdata/siwe/signed.json
	signedJSON []byte
	//go:embed testdata/siwe/verdicts.json
	verdictsJSON []byte
)

// signedMessage is a message that a client built from fields and signed.
type signedMessage struct {
	Client, Name                string
	Address, Message, Signature string
	Fields                      struct {
		Scheme, Domain, URI, Nonce          string
		Statement, RequestID                *string
		ChainID                             uint64
		IssuedAt, ExpirationTime, NotBefore string
		Resources                           []string
	}
}

type verdict struct {
	Name, Message string
	Siwe2, Siwe3  bool // accepted
}

func fromJSON[T any](t testing.TB, text []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func timestamp(t testing.TB, text string) reputation.Timestamp {
	t.Helper()
	if text == "" {
		return reputation.Timestamp{}
	}
	at, err := reputation.ParseTimestamp(text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// sameMessage compares times by their spelling too.
var sameMessage = cmp.Comparer(func(a, b reputation.Timestamp) bool { return a.String() == b.String() && a.Time().Equal(b.Time()) })

// TestParseWhatClientsBuild: every field arrives, and the message is written back.
func TestParseWhatClientsBuild(t *testing.T) {
	t.Parallel()
	for _, s := range fromJSON[[]signedMessage](t, signedJSON) {
		got, err := auth.ParseMessage(s.Message)
		if err != nil {
			t.Errorf("%s, %s: %v", s.Client, s.Name, err)
			continue
		}
		f := s.Fields
		want := auth.Message{
			Scheme: f.Scheme, Domain: f.Domain, Address: mustAddress(s.Address), Statement: f.Statement, URI: f.URI, ChainID: f.ChainID, Nonce: f.Nonce,
			IssuedAt: timestamp(t, f.IssuedAt), ExpirationTime: timestamp(t, f.ExpirationTime), NotBefore: timestamp(t, f.NotBefore),
			RequestID: f.RequestID, Resources: f.Resources,
		}
		if diff := cmp.Diff(want, got, sameMessage); diff != "" {
			t.Errorf("%s, %s (-want +got):\n%s", s.Client, s.Name, diff)
		}
		if text := got.String(); text != s.Message {
			t.Errorf("%s, %s: written back as %q", s.Client, s.Name, text)
		}
	}
}

// stricter are messages that siwe 3 accepts and we do not, and why.
var stricter = map[string]string{
	`chain "01"`:                    "a number has one spelling",
	`chain "18446744073709551616"`:  "more than 64 bits",
	`issued "2026-02-25T23:59:60Z"`: "there was no such leap second",
	`issued "2026-02-25t00:00:00z"`: "RFC 3339 §5.6 lets applications ask for capitals",
}

// TestVerdicts: we accept what the reference parser of the current ERC-4361
// accepts, except for what the table above says.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	accepted, met := 0, 0
	for _, v := range fromJSON[[]verdict](t, verdictsJSON) {
		m, err := auth.ParseMessage(v.Message)
		if stricter[v.Name] != "" {
			if met++; !v.Siwe3 || err == nil {
				t.Errorf("%s: siwe 3 accepts it: %t; we: %v", v.Name, v.Siwe3, err)
			}
			continue
		}
		if (err == nil) != v.Siwe3 {
			t.Errorf("%s: siwe 3 accepts it: %t; we: %v", v.Name, v.Siwe3, err)
		}
		if err != nil {
			wantMalformed(t, v.Name, m, err)
			continue
		}
		accepted++
		if text := m.String(); text != v.Message {
			t.Errorf("%s: %q is written back as %q", v.Name, v.Message, text)
		}
	}
	if accepted < 50 || met != len(stricter) {
		t.Errorf("%d messages are accepted and %d exceptions were met", accepted, met)
	}
}

func wantMalformed(t testing.TB, name string, m auth.Message, err error) {
	t.Helper()
	var field *auth.MessageError
	if !errors.As(err, &field) || !errors.Is(err, auth.ErrSignInMalformed) || field.Field == "" || field.Detail == "" {
		t.Errorf("%s: error %v", name, err)
	}
	if !cmp.Equal(m, auth.Message{}, sameMessage) {
		t.Errorf("%s: a message and an error", name)
	}
	if len(err.Error()) > 600 {
		t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
	}
}

// valid is a message that parses.
func valid() auth.Message {
	return auth.Message{
		Domain: "dixie.example", Address: wallet, URI: "https://dixie.example/login", ChainID: 1, Nonce: "k7Qw2Zt9Lm4Xb8Rc",
		IssuedAt: reputation.TimestampOf(time.Date(2026, 2, 25, 12, 0, 0, 0, time.UTC)),
	}
}

func TestMessageLimits(t *testing.T) {
	t.Parallel()
	resources := func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprint("urn:", i)
		}
		return list
	}
	statement := func(size int) *string {
		base := valid()
		empty := ""
		base.Statement = &empty
		text := strings.Repeat("x", size-len(base.String()))
		return &text
	}
	tests := map[string]struct {
		edit  func(*auth.Message)
		field string // that is wrong, empty when none is
	}{
		"4096 bytes":           {func(m *auth.Message) { m.Statement = statement(4096) }, ""},
		"4097 bytes":           {func(m *auth.Message) { m.Statement = statement(4097) }, "message"},
		"a megabyte":           {func(m *auth.Message) { m.Statement = statement(1 << 20) }, "message"},
		"a megabyte of nonce":  {func(m *auth.Message) { m.Nonce = strings.Repeat("a", 1<<20) }, "message"},
		"32 resources":         {func(m *auth.Message) { m.Resources = resources(32) }, ""},
		"33 resources":         {func(m *auth.Message) { m.Resources = resources(33) }, "resources"},
		"a nonce of 8":         {func(m *auth.Message) { m.Nonce = "aB345678" }, ""},
		"a nonce of 7":         {func(m *auth.Message) { m.Nonce = "aB34567" }, "nonce"},
		"a nonce of 128":       {func(m *auth.Message) { m.Nonce = strings.Repeat("a", 128) }, ""},
		"a nonce of 129":       {func(m *auth.Message) { m.Nonce = strings.Repeat("a", 129) }, "nonce"},
		"a long wrong request": {func(m *auth.Message) { id := strings.Repeat("/", 3000); m.RequestID = &id }, "request-id"},
	}
	for name, test := range tests {
		m := valid()
		test.edit(&m)
		got, err := auth.ParseMessage(m.String())
		if test.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		var field *auth.MessageError
		if !errors.As(err, &field) || field.Field != test.field {
			t.Errorf("%s: error %v, want one of %s", name, err, test.field)
			continue
		}
		wantMalformed(t, name, got, err)
	}
}

// TestMessageErrorsNameTheField: whoever writes a client finds what is wrong.
func TestMessageErrorsNameTheField(t *testing.T) {
	t.Parallel()
	m := valid()
	m.ExpirationTime, m.NotBefore = m.IssuedAt, m.IssuedAt
	id, statement := "7", "Hello."
	m.RequestID, m.Statement, m.Resources = &id, &statement, []string{"x:y"}
	good := m.String()
	if _, err := auth.ParseMessage(good); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string][2]string{
		"scheme":          {"dixie.example wants", "1x://dixie.example wants"},
		"domain":          {"dixie.example wants", "dixie example wants"},
		"address":         {wallet.String(), strings.ToLower(wallet.String())},
		"statement":       {"Hello.", "Hëllo."},
		"uri":             {"URI: https:", "URI: https"},
		"version":         {"Version: 1", "Version: 2"},
		"chain-id":        {"Chain ID: 1", "Chain ID: one"},
		"nonce":           {"Nonce: k7", "Nonce: k-7"},
		"issued-at":       {"Issued At: 2026-02-25", "Issued At: 2026-02-30"},
		"expiration-time": {"Expiration Time: 2026-02-25", "Expiration Time: 2026-02-30"},
		"not-before":      {"Not Before: 2026-02-25", "Not Before: 2026-02-30"},
		"request-id":      {"Request ID: 7", "Request ID: 7 8"},
		"resources":       {"- x:y", "- x"},
		"message":         {"\n", "\r\n"},
	} {
		text := strings.Replace(good, change[0], change[1], 1)
		_, err := auth.ParseMessage(text)
		var wrong *auth.MessageError
		if !errors.As(err, &wrong) || wrong.Field != field {
			t.Errorf("%q instead of %q: error %v, want one of %s", change[1], change[0], err, field)
		}
	}
	_, err := auth.ParseMessage(strings.ReplaceAll(good, "\n", "\r\n"))
	if err == nil || !strings.Contains(err.Error(), "carriage return") {
		t.Errorf("carriage returns: error %v", err)
	}
}

var (
	genHost = rapid.OneOf(
		rapid.StringMatching(`([A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){1,20}`),
		rapid.SampledFrom([]string{"[::1]", "[2001:db8::1:2]", "[::ffff:10.0.0.1]", "[v1f.a:b]", "127.0.0.1", "localhost"}),
	)
	genAuthority = rapid.Custom(func(t *rapid.T) string {
		user := rapid.StringMatching(`(([A-Za-z0-9._~:!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){0,8}@)?`).Draw(t, "user")
		return user + genHost.Draw(t, "host") + rapid.StringMatching(`(:[0-9]{0,5})?`).Draw(t, "port")
	})
	genURI = rapid.Custom(func(t *rapid.T) string {
		scheme := rapid.StringMatching(`[A-Za-z][A-Za-z0-9+.-]{0,8}:`).Draw(t, "scheme")
		authority := rapid.OneOf(rapid.Just(""), rapid.Map(genAuthority, func(a string) string { return "//" + a })).Draw(t, "authority")
		path := rapid.StringMatching(`(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}){1,8}){0,3}`).Draw(t, "path")
		return scheme + authority + path + rapid.StringMatching(`(\?[A-Za-z0-9/?:@!$&'()*+,;=._~-]{0,8})?(#[a-z/?]{0,4})?`).Draw(t, "rest")
	})
	genTime = rapid.Custom(func(t *rapid.T) reputation.Timestamp {
		at := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "seconds"), 0).UTC()
		text := at.Format("2006-01-02T15:04:05") + rapid.StringMatching(`(\.[0-9]{1,12})?`).Draw(t, "fraction") + rapid.StringMatching(`Z|[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9]`).Draw(t, "zone")
		parsed, err := reputation.ParseTimestamp(text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	})
	genAddress = rapid.Custom(func(t *rapid.T) auth.Address {
		return auth.Address(rapid.SliceOfN(rapid.Byte(), 20, 20).Draw(t, "address"))
	})
	genMessage = rapid.Custom(func(t *rapid.T) auth.Message {
		return auth.Message{
			Scheme:         rapid.StringMatching(`([A-Za-z][A-Za-z0-9+.-]{0,8})?`).Draw(t, "scheme"),
			Domain:         genAuthority.Draw(t, "domain"),
			Address:        genAddress.Draw(t, "address"),
			Statement:      rapid.Ptr(rapid.StringMatching(`[A-Za-z0-9 :/?#\[\]@!$&'()*+,;=._~-]{0,60}`), true).Draw(t, "statement"),
			URI:            genURI.Draw(t, "uri"),
			ChainID:        rapid.Uint64().Draw(t, "chain"),
			Nonce:          rapid.StringMatching(`[A-Za-z0-9]{8,128}`).Draw(t, "nonce"),
			IssuedAt:       genTime.Draw(t, "issued at"),
			ExpirationTime: rapid.OneOf(rapid.Just(reputation.Timestamp{}), genTime).Draw(t, "expiration"),
			NotBefore:      rapid.OneOf(rapid.Just(reputation.Timestamp{}), genTime).Draw(t, "not before"),
			RequestID:      rapid.Ptr(rapid.StringMatching(`([A-Za-z0-9._~:@!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){0,20}`), true).Draw(t, "request id"),
			Resources:      rapid.OneOf(rapid.Just([]string(nil)), rapid.SliceOfN(genURI, 0, 6)).Draw(t, "resources"),
		}
	})
)

// TestMessageRoundTrip: what is written is read back, absent and empty told apart.
func TestMessageRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := genMessage.Draw(t, "message")
		got, err := auth.ParseMessage(want.String())
		if err != nil {
			t.Fatalf("%q: %v", want, err)
		}
		if diff := cmp.Diff(want, got, sameMessage); diff != "" {
			t.Fatalf("%q (-want +got):\n%s", want, diff)
		}
	})
}

// FuzzParseMessage: nothing panics, and what parses is written back byte by byte.
func FuzzParseMessage(f *testing.F) {
	for _, v := range fromJSON[[]verdict](f, verdictsJSON) {
		f.Add(v.Message)
	}
	for _, s := range fromJSON[[]signedMessage](f, signedJSON) {
		f.Add(s.Message)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := auth.ParseMessage(text)
		if err != nil {
			wantMalformed(t, "fuzz", m, err)
			return
		}
		if again := m.String(); again != text {
			t.Errorf("%q is written back as %q", text, again)
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r > '~' }) {
			t.Errorf("%q has characters that ERC-4361 does not know", text)
		}
	})
}
