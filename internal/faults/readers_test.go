package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// patient is how long a read waits for a position.
const patient = "10s"

// reader asks all servers and minds that what it is told never goes back. An answer
// tells the position of what it is made of: of the log, of one projection, or the lower
// of both.
func (c *client) reader(ctx context.Context) {
	for ctx.Err() == nil {
		nft := fmt.Sprintf("agent:%d", c.random.IntN(agents))
		switch c.random.IntN(6) {
		case 0:
			c.get("log", "/api/reputation/"+nft+"/events?limit=3")
		case 1:
			c.get("aggregates", "/api/reputation?limit=5")
		case 2:
			c.get("both", "/api/reputation/"+nft+"/score?task=analysis")
		case 3:
			c.get("both", "/api/reputation/"+nft+"/cohorts")
		case 4:
			c.ownWrite()
		default:
			c.get("both", "/api/reputation/"+nft)
		}
		c.pause(ctx, 60*time.Millisecond)
	}
}

// get reads and compares the position with those before, of the same kind.
func (c *client) get(kind, path string) answer {
	a := c.do(context.Background(), c.any(), http.MethodGet, path, "", "")
	if a.status != http.StatusOK {
		return a
	}
	if a.position < c.seen[kind] {
		c.w.errorf("GET %s: position %d after %d", path, a.position, c.seen[kind])
	}
	c.seen[kind] = max(c.seen[kind], a.position)
	return a
}

// ownWrite appends an event and reads what it wrote.
func (c *client) ownWrite() {
	e := c.author.event()
	c.w.ledger.send(e)
	a := c.do(context.Background(), c.any(), http.MethodPost, "/api/reputation/"+e.nft+"/events", "application/json", e.json)
	if !a.ok() {
		return
	}
	c.note(a, []event{e})
	c.readBack(c.any(), e.nft, a.position)
}

// readBack asks for a position, which an answer must have.
func (c *client) readBack(s *server, nft string, position int64) {
	path := fmt.Sprintf("/api/reputation/%s?at_least=%d&wait=%s", nft, position, patient)
	if a := c.do(context.Background(), s, http.MethodGet, path, "", ""); a.ok() && a.position < position {
		c.w.errorf("a read at least at %d answered from %d", position, a.position)
	}
}

// follower reads the log as it grows, from all servers, and keeps what it saw.
func (c *client) follower(ctx context.Context) {
	for ctx.Err() == nil {
		a := c.get("head", fmt.Sprintf("/api/reputation/events?after=%d&limit=2000", len(c.w.followed)))
		if a.ok() {
			c.follow(a.body)
		}
		c.pause(ctx, 300*time.Millisecond)
	}
}

func (c *client) follow(page []byte) {
	for line := range bytes.Lines(page) {
		var told struct {
			Position int64
			NFT      string `json:"nft_id"`
			Event    json.RawMessage
		}
		if err := json.Unmarshal(line, &told); err != nil {
			c.w.errorf("the log has a line that cannot be read: %v: %.300s", err, line)
			return
		}
		if told.Position != int64(len(c.w.followed))+1 {
			c.w.errorf("the log continues with position %d after %d", told.Position, len(c.w.followed))
			return
		}
		c.w.followed = append(c.w.followed, hashOf(told.NFT, content(told.Event)))
	}
}
