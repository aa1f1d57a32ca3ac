package e2e

import (
	"testing"
)

// TestSurvivesRestart: a reputation is the same after every replica was restarted, in an orderly way or
// not; the log still takes events, at positions behind those that it had.
func TestSurvivesRestart(t *testing.T) {
	ctl, c := controlled(t), keyed(t, "read", "append")
	urls, nft := replicas(t), unique("nft")
	position := c.append(nft, judged(nft, 0.9), judged(nft, 0.8))
	before := c.reputation(nft, position)
	w := member(t)
	token := w.signIn(t, anyone(t, c.url))

	for _, signal := range []string{"TERM", "KILL"} {
		for n := range urls {
			ctl.restart(n+1, order{Signal: signal})
		}
		for _, url := range urls {
			after := c.at(url).reputation(nft, position)
			if after.Blended != before.Blended || after.Samples != before.Samples || after.State != before.State {
				t.Errorf("%s: after %s the reputation is %+v, before it was %+v", url, signal, after, before)
			}
			if history := c.at(url).history(nft); len(history) != int(before.Samples) {
				t.Errorf("%s: after %s there are %d events, before there were %d", url, signal, len(history), before.Samples)
			}
			// Who has signed in is not asked to do so again.
			c.at(url).bearer(token).get("/api/auth/verify").want(200)
		}
		next := c.at(urls[0]).append(nft, judged(nft, 0.7))
		if next <= position {
			t.Errorf("after %s an event has position %d, before there was %d", signal, next, position)
		}
		position, before = next, c.at(urls[1]).reputation(nft, next)
	}
}
