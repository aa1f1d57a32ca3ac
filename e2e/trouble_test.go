package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// aReplica is the address of one replica, whose circuit breaker and memory of
// owners are its own; of the deployment where no replica is known.
func aReplica(t *testing.T) string {
	t.Helper()
	all := doors(t)
	return all[min(1, len(all)-1)]
}

// TestFinnWithoutContext: that finn does not tell in time what an agent remembers
// or whose it is, breaks no chat; what was learnt goes into the log when finn says
// whose agent it was.
func TestFinnWithoutContext(t *testing.T) {
	f, w := standIn(t), member(t)
	nft := f.give(w)
	f.remember(nft, map[string]any{"summary": "slow to come"})
	c := anyone(t, aReplica(t))
	c = c.bearer(w.signIn(t, c))

	f.be(t, map[string]any{"trouble": "down", "only": "/api/identity/"})
	said := c.chat("hello", "")
	if messages := f.asked("/" + said.SessionID + "/message"); len(messages) != 1 || messages[0].Header.Get("X-Memory-Context") != "" {
		t.Errorf("finn got %+v", messages)
	}
	if events := c.history(nft); len(events) != 0 {
		t.Errorf("the log has %+v, though nobody knew whose agent it was", events)
	}
	f.be(t, map[string]any{"trouble": "slow", "only": "/projection", "delay": "20s"})
	eventually(t, "the outcome is in the log", func() bool { return len(c.history(nft)) == 1 })
	began := time.Now()
	c.chat("hello again", said.SessionID)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the chat waited %s for the memory", took)
	}
	if messages := f.asked("/" + said.SessionID + "/message"); len(messages) != 2 || messages[1].Header.Get("X-Memory-Context") != "" {
		t.Errorf("finn got %+v", messages)
	}
}

// internal is in each text of the stand-in's that is not for callers.
const internal = "finn-internal-text"

// TestFinnInTrouble: whatever is wrong with finn, callers are told so in our words,
// soon, and nothing else suffers; and they are told that it is well again.
func TestFinnInTrouble(t *testing.T) {
	f, w, keyHolder := standIn(t), member(t), keyed(t, "read", "append").at(aReplica(t))
	nft := f.give(w)
	c := anyone(t, aReplica(t))
	c = c.bearer(w.signIn(t, c))
	session := c.chat("hello", "").SessionID
	f.remember(nft, map[string]any{})
	c.get("/api/memory/" + nft).want(http.StatusOK) // so that it is known whose it is
	ask := func() *answer {
		return c.post("/api/chat", map[string]string{"prompt": "hello", "sessionId": session})
	}
	for _, trouble := range []struct {
		be     map[string]any
		status int
		code   string
	}{
		{map[string]any{"trouble": "rubbish"}, http.StatusBadGateway, "upstream_error"},
		{map[string]any{"trouble": "well", "status": 402, "code": "BUDGET_EXCEEDED"}, http.StatusPaymentRequired, "usage_limit"},
		{map[string]any{"trouble": "broken", "status": 0}, http.StatusInternalServerError, "upstream_error"},
		{map[string]any{"trouble": "slow", "delay": "20s", "only": "/message"}, http.StatusServiceUnavailable, "upstream_error"},
		{map[string]any{"trouble": "down", "only": ""}, http.StatusServiceUnavailable, "upstream_error"},
	} {
		f.be(t, trouble.be)
		began := time.Now()
		got := ask().refused(trouble.status, trouble.code)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%v: the answer took %s", trouble.be, took)
		}
		if strings.Contains(string(got.Body), internal) || got.Header.Get("X-Finn-Internal") != "" {
			t.Errorf("%v: the caller was told %s %v", trouble.be, got.Body, got.Header)
		}
	}
	eventually(t, "finn is left alone", func() bool {
		return strings.Contains(string(ask().want(http.StatusServiceUnavailable).Body), `"circuit_open"`)
	})
	checkWithoutFinn(t, c, keyHolder, nft)
	f.be(t, map[string]any{"trouble": "well"})
	eventually(t, "chats go on", func() bool { return ask().Status == http.StatusOK })
	eventually(t, "finn is well", func() bool { return c.health().Services["loa_finn"].Status == "healthy" })
	if h := c.health(); h.Services["loa_finn"].Circuit != "closed" {
		t.Errorf("the health is %+v", h)
	}
}

// checkWithoutFinn: while finn is left alone the service is degraded and ready. Who
// needs no finn notices nothing, and what cannot be undone is refused.
func checkWithoutFinn(t *testing.T, c, keyHolder *client, nft string) {
	t.Helper()
	eventually(t, "the health tells of it", func() bool { // which asks finn every few seconds
		h := c.health()
		return h.Status == "degraded" && h.Services["loa_finn"].Status == "unreachable"
	})
	c.get("/readyz").want(http.StatusOK)
	other := unique("nft")
	position := keyHolder.append(other, judged(other, 0.9))
	keyHolder.reputation(other, position)
	// Whose it is was known a moment ago, which is enough to refuse a judgement, and
	// not enough to let an agent forget.
	c.post("/api/reputation/"+nft+"/events", judged(nft, 1)).refused(http.StatusForbidden, "self_scoring")
	c.call(http.MethodDelete, "/api/memory/"+nft+"/conversation", nil).refused(http.StatusServiceUnavailable, "identity_unavailable")
}
