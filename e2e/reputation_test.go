package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"
)

// event is an event of any type, as it is sent and as it comes back.
type event struct {
	Type       string   `json:"type"`
	ID         string   `json:"event_id"`
	Agent      string   `json:"agent_id"`
	Collection string   `json:"collection_id"`
	Timestamp  string   `json:"timestamp"`
	Score      *float64 `json:"score,omitempty"`
	TaskType   string   `json:"task_type,omitempty"`
	Success    *bool    `json:"success,omitempty"`
	Model      string   `json:"model_id,omitempty"`
}

// judged is a new judgement of an NFT, which is in a collection of its own.
func judged(nft string, score float64) event {
	return event{
		Type: "quality_signal", ID: uuid.NewString(), Agent: nft, Collection: nft + "-collection",
		Timestamp: time.Now().UTC().Format(time.RFC3339), Score: &score, TaskType: "analysis",
	}
}

// appended is the answer to an append.
type appended struct {
	Results []struct {
		ID       string `json:"event_id"`
		Position int64
		Status   string
	}
	Position int64
}

// append stores events of an NFT and returns the position of the last.
func (c *client) append(nft string, events ...event) int64 {
	c.t.Helper()
	var stored appended
	c.post("/api/reputation/"+nft+"/events", events).want(http.StatusCreated).into(&stored)
	if len(stored.Results) != len(events) || stored.Position == 0 {
		c.t.Fatalf("%d events appended: %+v", len(events), stored)
	}
	return stored.Position
}

// reputation is the part of a reputation that the tests look at.
type reputation struct {
	NFT      string   `json:"nft_id"`
	State    string   `json:"state"`
	Personal *float64 `json:"personal_score"`
	Blended  float64  `json:"blended_score"`
	Samples  int64    `json:"sample_count"`
	Tasks    map[string]struct {
		Completed, Succeeded int64
	} `json:"tasks"`
	ModelCohorts []struct {
		Model string `json:"model_id"`
	} `json:"model_cohorts"`
	Position int64 `json:"position"`
}

// reputation reads a reputation that contains a position of the log.
func (c *client) reputation(nft string, position int64) (r reputation) {
	c.t.Helper()
	c.get(fmt.Sprintf("/api/reputation/%s?at_least=%d&wait=20s", nft, position)).want(http.StatusOK).into(&r)
	if r.NFT != nft || r.Position < position {
		c.t.Fatalf("the reputation of %s up to %d is %+v", nft, position, r)
	}
	return r
}

// stored is an event of the log.
type stored struct {
	Position int64
	NFT      string `json:"nft_id"`
	Event    event
}

// history is the whole history of an NFT, and none of one that nothing is known of.
func (c *client) history(nft string) (all []stored) {
	c.t.Helper()
	got := c.with("Accept", "application/x-ndjson").get("/api/reputation/" + nft + "/events")
	if got.Status == http.StatusNotFound {
		return nil
	}
	for line := range bytes.Lines(got.want(http.StatusOK).Body) {
		var s stored
		if err := json.Unmarshal(line, &s); err != nil {
			c.t.Fatalf("%s: %v: %s", got.asked, err, line)
		}
		all = append(all, s)
	}
	return all
}

// TestReputation: what is appended through the deployment is in the log once, and
// every replica reads the same of it.
func TestReputation(t *testing.T) {
	t.Parallel()
	c := keyed(t, "read", "append")
	nft := unique("nft")
	c.get("/api/reputation/"+nft).refused(http.StatusNotFound, "not_found")

	events := []event{judged(nft, 0.9), judged(nft, 0.7), judged(nft, 0.8)}
	position := c.append(nft, events...)
	var again appended
	c.post("/api/reputation/"+nft+"/events", events).want(http.StatusOK).into(&again)
	if again.Position != position || again.Results[0].Status != "duplicate" {
		t.Errorf("appended again: %+v, at first the last was at %d", again, position)
	}

	first := c.reputation(nft, position)
	if first.State != "warming" || first.Samples != 3 || first.Personal == nil || *first.Personal < 0.7 || *first.Personal > 0.9 {
		t.Errorf("the reputation is %+v", first)
	}
	for _, url := range doors(t) {
		if r := c.at(url).reputation(nft, position); r.Blended != first.Blended || r.Samples != first.Samples {
			t.Errorf("at %s the reputation is %+v, want %+v", url, r, first)
		}
	}
	history := c.history(nft)
	if len(history) != len(events) || history[2].Position != position || history[2].Event.ID != events[2].ID {
		t.Errorf("the history is %+v", history)
	}
}
