package e2e

import (
	"net/http"
	"testing"
)

// TestDatabaseAway: without its database a replica lives and is not ready, so that
// a balancer takes it out; it says so to whoever asks, and goes on by itself when
// the database is back, with all that was acknowledged.
func TestDatabaseAway(t *testing.T) {
	ctl, c := controlled(t), keyed(t, "read", "append")
	urls, nft := replicas(t), unique("nft")
	position := c.append(nft, judged(nft, 0.9), judged(nft, 0.8))
	before := c.reputation(nft, position)

	ctl.killDatabase(t)
	for _, url := range urls {
		c := c.at(url)
		eventually(t, url+" is not ready", func() bool { return c.get("/readyz").Status == http.StatusServiceUnavailable })
		c.get("/livez").want(http.StatusOK)
		if h := c.health(); h.Status != "unhealthy" || h.Infrastructure["postgresql"].Status != "unreachable" || h.Reputation.Store != "postgres" {
			t.Errorf("%s: the health is %+v", url, h)
		}
		for _, a := range []*answer{c.get("/api/reputation/" + nft), c.post("/api/reputation/"+nft+"/events", judged(nft, 0.7))} {
			if a.refused(http.StatusServiceUnavailable, "unavailable"); a.Header.Get("Retry-After") == "" {
				t.Errorf("%s: no Retry-After", a.asked)
			}
		}
	}
	eventually(t, "the balancer has nobody to ask", func() bool { return c.get("/livez").Status == http.StatusServiceUnavailable })

	ctl.restartDatabase()
	for _, url := range urls {
		c := c.at(url)
		eventually(t, url+" is ready again", func() bool { return c.get("/readyz").Status == http.StatusOK })
		if after := c.reputation(nft, position); after.Blended != before.Blended || after.Samples != before.Samples {
			t.Errorf("%s: the reputation is %+v, before it was %+v", url, after, before)
		}
	}
	eventually(t, "the balancer has somebody to ask", func() bool { return c.get("/livez").Status == http.StatusOK })
	next := c.append(nft, judged(nft, 0.7))
	if r := c.reputation(nft, next); next <= position || r.Samples != before.Samples+1 {
		t.Errorf("an event at %d, after %d, makes it %+v", next, position, r)
	}
	eventually(t, "all is well", func() bool { return anyone(t, urls[0]).health().Status == "healthy" })
}
