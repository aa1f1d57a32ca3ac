package faults_test

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// manner is how a relay treats what passes.
type manner int

const (
	passing  manner = iota
	refusing        // connections are broken off, those that are open as well
	hanging         // nothing passes, and nobody is told
	slow            // each piece is late
	babbling        // new connections are answered with rubbish, and the open ones broken off
)

const (
	// lateness is how late a slow relay is with each piece.
	lateness = 30 * time.Millisecond
	pieces   = 32 << 10 // bytes
)

// relay is a network between two programs that can be broken. It is safe for
// concurrent use.
type relay struct {
	sync.Mutex // held by the fault that treats it in a manner

	listener net.Listener
	dial     func() (net.Conn, error)
	tap      func(*link) tap
	wire     wire
	done     sync.WaitGroup

	mu      sync.Mutex
	manner  manner
	changed chan struct{} // closed when the manner changes
	links   map[*link]struct{}
	closed  bool
}

// link is a connection through a relay.
type link struct {
	relay          *relay
	client, server net.Conn
}

// tap reads along and passes on what one side of a link says.
type tap interface {
	upstream(from io.Reader, to io.Writer) error
	downstream(from io.Reader, to io.Writer) error
}

// newRelay relays to the PostgreSQL of a URL.
func newRelay(t testing.TB, url string) *relay {
	t.Helper()
	config, err := pgx.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgconn.NetworkAddress(config.Host, config.Port)
	return listenRelay(t, network, address, func(l *link) tap {
		return &session{link: l, wire: &l.relay.wire, inserts: map[string]bool{}}
	})
}

// newPlainRelay relays to an address, whatever is said.
func newPlainRelay(t testing.TB, address string) *relay {
	t.Helper()
	return listenRelay(t, "tcp", address, func(l *link) tap { return plain{l} })
}

// listenRelay relays to an address. It ends with the test.
func listenRelay(t testing.TB, network, address string, tap func(*link) tap) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{
		listener: listener, tap: tap, changed: make(chan struct{}), links: map[*link]struct{}{},
		dial: func() (net.Conn, error) { return net.DialTimeout(network, address, 5*time.Second) },
	}
	r.done.Go(r.accept)
	t.Cleanup(r.close)
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

func (r *relay) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.be(refusing)
	_ = r.listener.Close()
	r.done.Wait()
}

// be changes the manner.
func (r *relay) be(m manner) {
	r.mu.Lock()
	r.manner = m
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	if m == refusing || m == babbling {
		r.cutAll()
	}
}

// cutAll breaks off all connections that there are, and tells how many.
func (r *relay) cutAll() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.links {
		l.cut()
	}
	return len(r.links)
}

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.done.Go(func() { r.serve(client) })
	}
}

func (r *relay) serve(client net.Conn) {
	defer client.Close()
	switch r.now() {
	case refusing:
		reset(client)
		return
	case babbling:
		babble(client)
		return
	}
	server, err := r.dial()
	if err != nil {
		reset(client)
		return
	}
	defer server.Close()
	l := &link{relay: r, client: client, server: server}
	if !r.enter(l) {
		return
	}
	defer r.leave(l)
	t := r.tap(l)
	var up sync.WaitGroup
	up.Go(func() {
		_ = t.upstream(client, server)
		l.cut()
	})
	_ = t.downstream(server, client)
	l.cut()
	up.Wait()
}

func (r *relay) now() manner {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.manner
}

func (r *relay) enter(l *link) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.links[l] = struct{}{}
	return true
}

func (r *relay) leave(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.links, l)
}

// wait holds what is to pass as the manner demands.
func (r *relay) wait() {
	for {
		r.mu.Lock()
		manner, changed := r.manner, r.changed
		r.mu.Unlock()
		switch manner {
		case hanging:
			<-changed
			continue
		case slow:
			time.Sleep(lateness)
		}
		return
	}
}

// cut breaks a connection off on both sides, without a farewell.
func (l *link) cut() {
	reset(l.client)
	reset(l.server)
}

// reset closes a connection so that its peer gets an error, and not an end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func babble(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	rubbish := make([]byte, 1<<10)
	for i := range rubbish {
		rubbish[i] = byte(rand.Uint32())
	}
	_, _ = conn.Write(rubbish)
	_, _ = conn.Read(rubbish)
}

// plain passes bytes on.
type plain struct{ *link }

func (p plain) upstream(from io.Reader, to io.Writer) error   { return p.pass(from, to) }
func (p plain) downstream(from io.Reader, to io.Writer) error { return p.pass(from, to) }

func (p plain) pass(from io.Reader, to io.Writer) error {
	piece := make([]byte, pieces)
	for {
		n, err := from.Read(piece)
		if n > 0 {
			p.relay.wait()
			if _, err := to.Write(piece[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// treat treats what passes in a manner until it is healed.
func (r *relay) treat(m manner) (heal func()) {
	r.Lock()
	r.be(m)
	return func() {
		r.be(passing)
		r.Unlock()
	}
}
