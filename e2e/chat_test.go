package e2e

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestChat: what a wallet says goes through finn and back, with the memory of the
// wallet's agent, and what was learnt of the agent is in the log and in its
// reputation.
func TestChat(t *testing.T) {
	f, w := standIn(t), member(t)
	nft := f.give(w)
	f.remember(nft, map[string]any{"summary": "likes " + nft})
	f.be(t, map[string]any{"reply": map[string]any{
		"task_type": "analysis", "model_id": "bear-large", "provider": "hive", "pool_id": "alpha",
		"quality_observation": map[string]any{"score": 0.9, "evaluated_by": "finn"},
	}})
	c := anyone(t, deployed(t))
	c.post("/api/chat", map[string]string{"prompt": "hello"}).refused(http.StatusUnauthorized, "unauthorized")
	c = c.bearer(w.signIn(t, c))
	c.get("/api/reputation/"+nft).refused(http.StatusNotFound, "not_found")

	prompt := "what does the bear say? " + unique("prompt")
	first := c.chat(prompt, "")
	if first.Response != "You said: "+prompt {
		t.Errorf("the answer is %+v", first)
	}
	eventually(t, "the outcome is in the log", func() bool { return len(c.history(nft)) == 2 })
	history := c.history(nft)
	completed, performance := history[0], history[1]
	if completed.Event.Type != "task_completed" || completed.Event.TaskType != "analysis" || completed.Event.Success == nil || !*completed.Event.Success {
		t.Errorf("the first event is %+v", completed)
	}
	if performance.Event.Type != "model_performance" || performance.Event.Model != "bear-large" || performance.Event.Agent != nft {
		t.Errorf("the second event is %+v", performance)
	}
	after := c.reputation(nft, performance.Position)
	if after.Samples != 1 || after.State != "warming" || after.Tasks["analysis"].Succeeded != 1 || len(after.ModelCohorts) != 1 || after.ModelCohorts[0].Model != "bear-large" {
		t.Errorf("the reputation is %+v", after)
	}

	second := c.chat(prompt, first.SessionID)
	if second.SessionID != first.SessionID || second.MessageID == first.MessageID {
		t.Errorf("the answers are %+v and %+v", first, second)
	}
	eventually(t, "its outcome is in the log", func() bool { return len(c.history(nft)) == 4 })
	changed := c.reputation(nft, c.history(nft)[3].Position)
	if changed.Samples != 2 || changed.Blended == after.Blended || changed.Tasks["analysis"].Completed != 2 {
		t.Errorf("the reputation is %+v, before it was %+v", changed, after)
	}
	checkAsked(t, f, w, first.SessionID, prompt, nft)
}

// checkAsked: finn was told who said what, and what the agent remembers.
func checkAsked(t *testing.T, f finn, w wallet, session, prompt, nft string) {
	t.Helper()
	messages := f.asked("/" + session + "/message")
	if len(messages) != 2 {
		t.Fatalf("finn got %d messages", len(messages))
	}
	for _, m := range messages {
		if !strings.Contains(m.Body, prompt) || m.Header.Get("X-Wallet-Address") != w.address || !strings.Contains(m.Header.Get("X-Memory-Context"), "likes "+nft) {
			t.Errorf("finn got %+v", m)
		}
	}
}

// TestChatStreams: an answer that finn gives piece by piece arrives so, through
// everything that is in between.
func TestChatStreams(t *testing.T) {
	f, w := standIn(t), member(t)
	nft := f.give(w)
	const pause = 200 * time.Millisecond
	f.be(t, map[string]any{"pause": pause.String()})
	c := anyone(t, deployed(t))
	c = c.bearer(w.signIn(t, c)).with("Accept", "text/event-stream")
	request, err := c.request(t.Context(), http.MethodPost, "/api/chat", map[string]string{"prompt": "one two three"})
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || response.Header.Get("X-Session-Id") == "" || response.Header.Get("X-Message-Id") == "" {
		t.Fatalf("%s, %v", response.Status, response.Header)
	}
	var arrived []time.Time
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data:") {
			arrived = append(arrived, time.Now())
		}
	}
	if len(arrived) != 4 || arrived[3].Sub(arrived[0]) < 2*pause {
		t.Errorf("the pieces arrived at %v", arrived)
	}
	eventually(t, "the outcome is in the log", func() bool { return len(c.history(nft)) == 1 })
}

// TestChatTwice: a message that is sent again under its id counts once.
func TestChatTwice(t *testing.T) {
	t.Parallel()
	f, w := standIn(t), member(t)
	nft := f.give(w)
	c := anyone(t, deployed(t))
	c = c.bearer(w.signIn(t, c)).with("X-Request-Id", unique("message"))
	c.chat("hello", "")
	eventually(t, "the outcome is in the log", func() bool { return len(c.history(nft)) == 1 })
	c.chat("hello", "")
	if events := c.history(nft); len(events) != 1 {
		t.Errorf("one message made %d events", len(events))
	}
}

// TestOwnership: only whoever owns an NFT gets at what is the owner's, and nobody
// judges what is his own.
func TestOwnership(t *testing.T) {
	t.Parallel()
	f, owner, other := standIn(t), member(t), member(t)
	nft := f.give(owner)
	f.remember(nft, map[string]any{"summary": "secret"})
	c := anyone(t, deployed(t))
	mine, others := c.bearer(owner.signIn(t, c)), c.bearer(other.signIn(t, c))
	if memory := mine.get("/api/memory/" + nft).want(http.StatusOK); !strings.Contains(string(memory.Body), "secret") {
		t.Errorf("the memory is %s", memory.Body)
	}
	others.get("/api/memory/"+nft).refused(http.StatusForbidden, "forbidden")
	// Who someone is, is not for callers to say.
	others.with("X-Wallet-Address", owner.address).get("/api/memory/"+nft).refused(http.StatusForbidden, "forbidden")
	mine.post("/api/reputation/"+nft+"/events", judged(nft, 1)).refused(http.StatusForbidden, "self_scoring")
	others.append(nft, judged(nft, 0.5))
}
