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
// append, read, chat and follow the log through the balancer. No request fails for
// good, what was acknowledged is in the log once and where it was said to be, and
// nobody reads less than before.
func TestRollingRestart(t *testing.T) {
	l, c := startLoad(t), keyed(t, "read")
	chats := l.beginChats(t)
	l.restartAll(t, "TERM")
	l.end(c)
	for _, one := range chats {
		// What chats told may follow them, but is stored before a replica stops.
		eventually(t, "the outcome of each chat is in the log", func() bool { return len(c.history(one.nft)) >= one.chats })
		if n := len(c.history(one.nft)); n != one.chats || n == 0 {
			t.Errorf("%d chats made %d events", one.chats, n)
		}
	}
}

// TestKilledUnderLoad: the same when replicas are killed. Only of chats something
// may be lost: what was answered and was not stored within 50 ms.
func TestKilledUnderLoad(t *testing.T) {
	l, c := startLoad(t), keyed(t, "read")
	l.restartAll(t, "KILL")
	l.end(c)
}

// TestDatabaseCrashUnderLoad: the same when the database crashes and comes back.
func TestDatabaseCrashUnderLoad(t *testing.T) {
	ctl, l, c := controlled(t), startLoad(t), keyed(t, "read")
	for range rounds {
		l.goOn(steady)
		ctl.killDatabase(t)
		ctl.restartDatabase()
	}
	l.goOn(steady)
	l.end(c)
}

// beginChats lets wallets chat.
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

// restartAll restarts each replica in turn while the load goes on.
func (l *load) restartAll(t *testing.T, signal string) {
	t.Helper()
	ctl, began := controlled(t), time.Now()
	for range rounds {
		for n := range replicas(t) {
			l.goOn(steady)
			ctl.restart(n+1, order{Signal: signal})
		}
	}
	l.goOn(steady)
	t.Logf("%d replicas restarted in %s", rounds*len(replicas(t)), time.Since(began).Round(time.Millisecond))
}
