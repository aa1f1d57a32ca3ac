package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"
)

// finn is the stand-in for finn, in our hand.
type finn struct{ *client }

// standIn is the deployment's finn. It is told to be well after the test.
func standIn(t *testing.T) finn {
	t.Helper()
	return finn{anyone(t, variable(t, finnVariable))}
}

// give lets a wallet own an NFT that nobody had, and returns its id.
func (f finn) give(w wallet) string {
	f.t.Helper()
	collection, token := unique("collection"), fmt.Sprint(rand.IntN(1_000_000))
	f.call(http.MethodPut, "/control/nfts/"+w.address, []map[string]string{{"collection": collection, "token": token}}).want(http.StatusNoContent)
	return collection + ":" + token
}

// remember sets what the agent remembers.
func (f finn) remember(nft string, memory any) {
	f.t.Helper()
	f.call(http.MethodPut, "/control/memory/"+nft, memory).want(http.StatusNoContent)
}

// be changes what finn is like. After the test it is as it was made.
func (f finn) be(t *testing.T, behaviour map[string]any) {
	t.Helper()
	f.call(http.MethodPatch, "/control", behaviour).want(http.StatusOK)
	t.Cleanup(func() {
		ctx, cancel := cleaning()
		defer cancel()
		well := map[string]any{"trouble": "well", "only": "", "reply": map[string]any{}, "status": 0, "code": "", "pause": "0s"}
		if a, err := f.try(ctx, http.MethodPatch, "/control", well); err != nil || a.Status != http.StatusOK {
			t.Errorf("let finn be well: %+v, %v", a, err)
		}
	})
}

// asked are the requests that finn got whose path contains a text.
func (f finn) asked(path string) (requests []struct {
	Method, Path, Body string
	Header             http.Header
}) {
	f.t.Helper()
	f.get("/control/requests?path=" + path).want(http.StatusOK).into(&requests)
	return requests
}

// said is the answer to a chat.
type said struct{ SessionID, MessageID, Response string }

// chat says something to the agent.
func (c *client) chat(prompt, session string) (s said) {
	c.t.Helper()
	c.post("/api/chat", map[string]string{"prompt": prompt, "sessionId": session}).want(http.StatusOK).into(&s)
	if s.SessionID == "" || s.MessageID == "" {
		c.t.Fatalf("the answer is %+v", s)
	}
	return s
}
