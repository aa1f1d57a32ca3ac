package http_test

import (
	"encoding/json"
	"fmt"
	nethttp "net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dixie/http"
	"dixie/internal/fakefinn"
)

// memoryOf is the memory that finn got with the last message.
func memoryOf(t testing.TB, finn *fakefinn.Server) string {
	t.Helper()
	asked := finn.Requests("/message")
	if len(asked) == 0 {
		t.Fatal("no message")
	}
	return asked[len(asked)-1].Header.Get("X-Memory-Context")
}

// TestMemory: what the agent remembers goes with the message, in a form that a
// header can have and that means the same.
func TestMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testMemory)
}

func testMemory(t *testing.T) {
	s := newInTime(t)
	projections := map[string]any{
		"plain":      map[string]any{"summary": "likes honey"},
		"injection":  map[string]any{"summary": "a\r\nX-Injected: yes\x00\x7f"},
		"languages":  map[string]any{"summary": "Bär 熊 🐻 \U0010ffff"},
		"long":       map[string]any{"summary": strings.Repeat("a", 8<<10-len(`{"summary":""}`))},
		"too long":   map[string]any{"summary": strings.Repeat("a", 8<<10-len(`{"summary":""}`)+1)},
		"escaped":    map[string]any{"summary": strings.Repeat("熊", 2000)},
		"no object":  []string{"likes honey"},
		"very long":  map[string]any{"summary": strings.Repeat("a", 2<<20)},
		"no content": nil,
	}
	missing := map[string]bool{"too long": true, "escaped": true, "no object": true, "very long": true, "no content": true}
	for name, projection := range projections {
		s.finn.Remember("mibera:42", projection)
		s.do(t, hello).said(t)
		text := memoryOf(t, s.finn)
		if missing[name] != (text == "") || len(text) > 8<<10 {
			t.Errorf("%s: a memory of %d bytes", name, len(text))
		}
		if text == "" {
			continue
		}
		var got any
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		same(t, name, got, projection)
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) {
			t.Errorf("%s: %q", name, text)
		}
	}
	closeServer(t, s.server)
}

// TestNoMemory: without a wallet, an NFT, a memory or a finn that has it, the chat
// is as good.
func TestNoMemory(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	for _, tt := range []struct {
		caller  string
		trouble fakefinn.Trouble
		only    string
	}{
		{"append", fakefinn.Well, ""},
		{"carol", fakefinn.Well, ""},
		{"alice", fakefinn.Down, "/projection"},
		{"alice", fakefinn.Failing, "/projection"},
		{"alice", fakefinn.Rubbish, "/projection"},
		{"bob", fakefinn.Down, "/api/identity/"},
	} {
		finn.Change(func(b *fakefinn.Behaviour) { b.Trouble, b.Only = tt.trouble, tt.only })
		c := chat(tt.caller, `{"prompt":"hello"}`).with("X-Memory-Context", `{"a":"lie"}`)
		s.do(t, c).said(t)
		if text := memoryOf(t, finn); text != "" {
			t.Errorf("%s: memory %s", tt.caller, text)
		}
		finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Well })
	}
}

// TestLateMemory: a message waits 200 ms for a memory, and is sent without.
func TestLateMemory(t *testing.T) {
	t.Parallel()
	for _, only := range []string{"/projection", "/api/identity/"} {
		t.Run(only, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newInTime(t)
				for delay, late := range map[time.Duration]bool{150 * time.Millisecond: false, 250 * time.Millisecond: true} {
					s.finn.Change(func(b *fakefinn.Behaviour) { b.Trouble, b.Delay, b.Only = fakefinn.Slow, delay, only })
					time.Sleep(2 * time.Hour) // forgets the NFT
					start := time.Now()
					s.do(t, hello).said(t)
					waited := min(delay, 200*time.Millisecond)
					if got := time.Since(start); got < waited || got > waited+50*time.Millisecond { // and the log
						t.Errorf("a delay of %s: answered after %s", delay, got)
					}
					if text := memoryOf(t, s.finn); (text == "") != late {
						t.Errorf("a delay of %s: memory %q", delay, text)
					}
				}
				closeServer(t, s.server)
			})
		})
	}
}

// TestMemoryOfForwarded requests goes with them, but for those that are about it.
func TestMemoryOfForwarded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newInTime(t)
		for _, c := range routesOfFinn {
			s.do(t, c.as("alice"))
			asked := s.finn.Requests("")
			last := asked[len(asked)-1]
			if about := strings.Contains(last.Path, "/api/memory/"); about != (last.Header.Get("X-Memory-Context") == "") {
				t.Errorf("%s: %s", last.Path, last.Header)
			}
		}
		closeServer(t, s.server)
	})
}

// TestMemoryCostsNothing: a request that asks finn nothing does not ask for a
// memory either.
func TestMemoryCostsNothing(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	for _, path := range []string{"/api/reputation", "/api/reputation/mibera:42", "/api/health", "/livez"} {
		s.do(t, call{path: path, key: "alice"})
	}
	if n := len(finn.Requests("")); n != 0 {
		t.Errorf("finn was asked %d times", n)
	}
}

// FuzzHeaderJSON: what goes into a header is one, and means what the value means.
func FuzzHeaderJSON(f *testing.F) {
	f.Add(`{"a":"Bär 熊 🐻"}`)
	f.Add("{\"a\":\"\x7f\", \"b\" : [1,\n2]}")
	f.Add(`{"\ud83d\udc3b":"\r\n"}`)
	f.Fuzz(func(t *testing.T, value string) {
		text := http.HeaderJSON([]byte(value))
		if strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) || len(text) > 8<<10 {
			t.Errorf("header %q", text)
		}
		if text == "" {
			return
		}
		var want, got map[string]any
		if json.Unmarshal([]byte(value), &want) != nil || json.Unmarshal([]byte(text), &got) != nil {
			t.Fatalf("%q becomes %q", value, text)
		}
		same(t, "value", got, want)
		r, err := nethttp.NewRequest("GET", "http://finn.example", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Memory-Context", text)
		if err := r.Write(new(strings.Builder)); err != nil {
			t.Error(fmt.Errorf("send: %w", err))
		}
	})
}
