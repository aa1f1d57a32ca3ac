package faults_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// results is the answer to an append, conflicts included.
type results struct {
	Results []struct {
		EventID  string `json:"event_id"`
		Position int64
		Status   string
	}
	Position int64
}

// append sends events of one NFT to a server and notes what it is told. It reports
// whether the answer settles what became of them.
func (c *client) append(ctx context.Context, s *server, events ...event) (settled bool) {
	c.w.ledger.send(events...)
	body := events[0].json
	if len(events) > 1 {
		body = array(events)
	}
	a := c.do(ctx, s, http.MethodPost, "/api/reputation/"+events[0].nft+"/events", "application/json", body)
	switch a.status {
	case 0, http.StatusServiceUnavailable:
		return false
	case http.StatusOK, http.StatusCreated, http.StatusConflict:
		c.note(a, events)
		return true
	}
	c.w.errorf("append: status %d: %s", a.status, a.body)
	return true
}

// note takes an answer at its word.
func (c *client) note(a answer, events []event) {
	var told results
	if err := json.Unmarshal(a.body, &told); err != nil || len(told.Results) != len(events) {
		c.w.errorf("append: an answer without results, error %v: %s", err, a.body)
		return
	}
	for i, r := range told.Results {
		var err error
		switch {
		case r.EventID != events[i].id || r.Position <= 0:
			err = fmt.Errorf("result %d is %+v, and not of event %s", i, r, events[i].id)
		case r.Status == "conflict":
			err = c.w.ledger.refused(events[i], r.Position)
		default:
			err = c.w.ledger.stored(events[i], r.Position)
		}
		if err != nil {
			c.w.errorf("append: %v", err)
		}
	}
}

// appender sends single events and batches, and sends again what it does not know of,
// through whichever server. Now and then it sends again what it knows of.
func (c *client) appender(ctx context.Context) {
	for ctx.Err() == nil {
		events := []event{c.author.event()}
		if c.random.IntN(4) == 0 {
			for range c.random.IntN(40) {
				events = append(events, c.author.of(events[0].nft))
			}
		}
		repeat := 1
		if c.random.IntN(10) == 0 {
			repeat = 2
		}
		for range repeat {
			c.until(func(s *server) bool { return c.append(context.Background(), s, events...) })
		}
		c.pause(ctx, 40*time.Millisecond)
	}
}

// gambler sends each event once, and does not mind what became of it.
func (c *client) gambler(ctx context.Context) {
	for ctx.Err() == nil {
		c.append(context.Background(), c.any(), c.author.event())
		c.pause(ctx, 40*time.Millisecond)
	}
}

// importer sends files, again and again until they are whole.
func (c *client) importer(ctx context.Context) {
	for ctx.Err() == nil {
		events := make([]event, 200+c.random.IntN(2300))
		for i := range events {
			events[i] = c.author.event()
		}
		c.until(func(s *server) bool { return c.bulk(s, events) })
		c.pause(ctx, 2*time.Second)
	}
}

// bulk sends a file once.
func (c *client) bulk(s *server, events []event) (settled bool) {
	c.w.ledger.send(events...)
	a := c.do(context.Background(), s, http.MethodPost, "/api/reputation/events", "application/x-ndjson", lines(events))
	var told struct{ Lines, Appended, Duplicates, Rejected, Position int64 }
	if a.status == 0 {
		return false
	}
	if err := json.Unmarshal(a.body, &told); err != nil || told.Rejected != 0 || told.Appended+told.Duplicates != told.Lines {
		c.w.errorf("import: status %d, error %v: %s", a.status, err, a.body)
		return true
	}
	if a.ok() && (told.Lines != int64(len(events)) || told.Position < told.Lines) {
		c.w.errorf("import: %d lines sent, told %s", len(events), a.body)
	}
	// What is counted is stored, also when the import broke off.
	for _, e := range events[:told.Lines] {
		if err := c.w.ledger.stored(e, 0); err != nil {
			c.w.errorf("import: %v", err)
		}
	}
	return a.ok()
}

// twins sends the same event through all servers at once, or several contents under
// one id.
func (c *client) twins(ctx context.Context) {
	for ctx.Err() == nil {
		c.contend(5, c.random.IntN(2) == 0)
		c.pause(ctx, 500*time.Millisecond)
	}
}

// contend sends n requests of one id at once and each until it is settled. With
// conflicts every second one has another content.
func (c *client) contend(n int, conflicts bool) {
	events := []event{c.author.event()}
	if conflicts {
		other := events[0]
		other.json = c.author.text(other.nft, other.id)
		events = append(events, other)
	}
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			own := c.w.newClient(uint64(i)) // a client is for one goroutine
			defer own.http.CloseIdleConnections()
			e := events[i%len(events)]
			for at := i; !c.w.over(); at++ {
				if own.append(context.Background(), c.w.servers[at%len(c.w.servers)], e) {
					return
				}
				time.Sleep(retryPause)
			}
		})
	}
	all.Wait()
}
