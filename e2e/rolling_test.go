package e2e

import (
	"testing"
	"time"
)

const (
	rounds = 3   // times that each replica is restarted
	steady = 300 // operations between two restarts
)

// TestRollingRestart: replicas are restarted one after the other while callers
// append, read and chat through the balancer. No request fails for good, what was
// acknowledged is in the log once and where it was said to be, and nobody reads
// less than before.
func TestRollingRestart(t *testing.T) {
	l, reader := startLoad(t), keyed(t, "read")
	chats := l.beginChats(t)
	l.restartAll(t, "TERM")
	for _, c := range chats {
		// What chats told may follow them, but is stored before a replica stops.
		eventually(t, "the outcome of each chat is in the log", func() bool { return len(reader.history(c.nft)) == c.chats })
	}
	l.checkLog(t, reader)
}

// TestKilledUnderLoad: the same when replicas are killed. Only of chats something
// may be lost: what was answered and was not stored within 50 ms.
func TestKilledUnderLoad(t *testing.T) {
	l, reader := startLoad(t), keyed(t, "read")
	l.restartAll(t, "KILL")
	l.checkLog(t, reader)
}

// startLoad lets callers work through the balancer.
func startLoad(t *testing.T) *load {
	t.Helper()
	variable(t, controlVariable)
	replicas(t)
	l := newLoad(t)
	l.begin(keyed(t, "read", "append"))
	return l
}

// beginChats lets wallets chat. There are none where finn is not in our hand.
func (l *load) beginChats(t *testing.T) (all []*chatter) {
	t.Helper()
	f := standIn(t)
	for range chatters {
		w := member(t)
		c := anyone(t, deployed(t))
		one := &chatter{client: c.bearer(w.signIn(t, c)).patient(&l.retries), nft: f.give(w)}
		all = append(all, one)
		l.work(one.chat)
	}
	return all
}

// restartAll restarts each replica in turn while the load goes on, and ends the
// load.
func (l *load) restartAll(t *testing.T, signal string) {
	t.Helper()
	ctl := controlled(t)
	began := time.Now()
	for range rounds {
		for n := range replicas(t) {
			l.goOn(steady)
			ctl.restart(n+1, order{Signal: signal})
		}
	}
	l.goOn(steady)
	l.end()
	t.Logf("%d operations and %d retries in %s, %d replicas restarted", l.done.Load(), l.retries.Load(),
		time.Since(began).Round(time.Millisecond), rounds*len(replicas(t)))
}

func (l *load) checkLog(t *testing.T, reader *client) {
	t.Helper()
	for _, a := range l.authors {
		if len(a.stored) == 0 {
			t.Errorf("%s: nothing was appended", a.nft)
		}
		a.checkLog(t, reader)
	}
}
