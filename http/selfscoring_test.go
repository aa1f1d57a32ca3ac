package http_test

import (
	"fmt"
	"strings"
	"testing"

	"dixie/internal/fakefinn"
)

// judgement is a model_performance event.
func judgement(n int) string {
	return fmt.Sprintf(`{"type":"model_performance","event_id":%q,"agent_id":"a","collection_id":"mibera","timestamp":"2026-02-25T12:00:00Z",`+
		`"model_id":"m","provider":"p","pool_id":"alpha","task_type":"analysis","quality_observation":{"score":1}}`, eventID(n))
}

// completion is a task_completed event.
func completion(n int) string {
	return fmt.Sprintf(`{"type":"task_completed","event_id":%q,"agent_id":"a","collection_id":"mibera","timestamp":"2026-02-25T12:00:00Z",`+
		`"task_type":"analysis","success":true}`, eventID(n))
}

// TestSelfScoring: no wallet judges an NFT that it owns or is delegated. What is
// no judgement, whose agent is another's, and services are not affected.
func TestSelfScoring(t *testing.T) {
	t.Parallel()
	n := 0
	next := func(make func(int) string) string {
		n++
		return make(n)
	}
	score := func(n int) string { return signal(n, 0.5) }
	s, _ := behind(t, openMemory)
	for _, tt := range []struct {
		caller, nft, body string
		refused           bool
	}{
		{"alice", "mibera:42", next(score), true},
		{"alice", "mibera:43", next(judgement), true},
		{"alice", "mibera%3A43", next(score), true},
		{"bob", "mibera:42", next(score), true},
		{"bob", "mibera:42", next(judgement), true},
		{"alice", "mibera:42", array(next(completion), next(score)), true},
		{"alice", "mibera:42", next(completion), false},
		{"alice", "mibera:44", next(score), false},
		{"bob", "mibera:43", array(next(score), next(judgement)), false},
		{"carol", "mibera:42", next(score), false},
		{"append", "mibera:42", array(next(score), next(judgement)), false},
	} {
		before := s.head(t)
		got := s.do(t, appendTo(tt.nft, tt.body).as(tt.caller))
		if !tt.refused {
			got.want(t, 201)
			continue
		}
		got.wantError(t, 403, "self_scoring")
		if s.head(t) != before {
			t.Errorf("%s judged %s", tt.caller, tt.nft)
		}
	}
}

// TestSelfScoringUnknown: who cannot be known not to own an NFT does not judge it.
func TestSelfScoringUnknown(t *testing.T) {
	t.Parallel()
	s, finn := behind(t, openMemory)
	finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Rubbish })
	got := s.do(t, appendTo("mibera:42", signal(1, 0.5)).as("carol"))
	got.wantError(t, 503, "identity_unavailable")
	if got.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", got.header.Get("Retry-After"))
	}
	s.do(t, appendTo("mibera:42", completion(2)).as("carol")).want(t, 201)
	s.do(t, appendTo("mibera:42", signal(3, 0.5))).want(t, 201)
	finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Well })
	s.do(t, appendTo("mibera:42", signal(1, 0.5)).as("carol")).want(t, 201)
}

// TestSelfScoringImport: an import rejects those lines, and asks finn once and not
// for each.
func TestSelfScoringImport(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for n := range 3000 {
		fmt.Fprintf(&text, "{\"nft_id\":\"mibera:%d\",\"event\":%s}\n", 40+n%5, signal(n+1, 0.5))
	}
	s, finn := behind(t, openMemory)
	got := s.do(t, bulk(text.String()).as("alice")).want(t, 200).imported(t)
	if got.Appended != 1800 || got.Rejected != 1200 {
		t.Errorf("%+v", got)
	}
	if first := got.RejectedLines[0]; first.Line != 3 || first.Reason != "self-scoring is refused: the wallet owns mibera:42 or is delegated it" {
		t.Errorf("rejected line %+v", first)
	}
	if n := len(finn.Requests("")); n > 2 {
		t.Errorf("finn was asked %d times", n)
	}

	finn.Change(func(b *fakefinn.Behaviour) { b.Trouble = fakefinn.Rubbish })
	before := len(finn.Requests(""))
	got = s.do(t, bulk(text.String()).as("carol")).want(t, 200).imported(t)
	if got.Appended != 0 || got.Rejected != 3000 || len(finn.Requests("")) != before+1 {
		t.Errorf("%d requests, %+v", len(finn.Requests(""))-before, got.counts())
	}
	if reason := got.RejectedLines[0].Reason; strings.Contains(reason, "finn is unavailable") || !strings.Contains(reason, "try again") {
		t.Errorf("reason %q", reason)
	}
}
