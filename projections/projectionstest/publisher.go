package projectionstest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dixie/projections"
	"dixie/reputation"
)

// saga is a longer history, in which states change and agents meet.
func saga() []Event {
	var events []Event
	for i := range 12 {
		events = append(events, history()...)
		if i%5 == 4 {
			events = append(events, Reset("bear-1"), Event{"bear-2", "mead", reputation.QualitySignal{Score: 0.5}})
		}
		events = append(events, Signal(fmt.Sprint("bear-", 3+i), 0.5))
	}
	return events
}

// runPublisher runs a publisher that publishes to a broker.
func (b Backend) runPublisher(t TB, pageSize int, broker projections.Broker) (p *projections.Projector, stop func()) {
	t.Helper()
	p = b.Publisher(reputation.DefaultParams(), pageSize, broker)
	return p, Run(t, p)
}

// awaitPublished waits until everything is published, and checks what came.
func (b Backend) awaitPublished(t TB, broker *Broker) {
	t.Helper()
	b.Await(t, b.Head(t), projections.Publisher)
	SamePublished(t, Published(t, b.Log, reputation.DefaultParams()), broker.Stored())
}

// testPublish: each event and each change of state comes once, as it is stored,
// wherever publishers stop and whatever their pages.
func testPublish(t *testing.T, b Backend) {
	var broker Broker
	for _, pageSize := range []int{3, 1, 7, 0} {
		b.Append(t, saga()...)
		_, stop := b.runPublisher(t, pageSize, &broker)
		b.Append(t, history()...)
		b.awaitPublished(t, &broker)
		stop()
	}
	if n := broker.Again(); n != 0 {
		t.Errorf("%d messages came twice although nothing failed", n)
	}
	// Nothing is folded by publishing.
	wantPositions(t, b, 0, 0)
}

// testSlowBroker: while the broker takes its time the checkpoint does not move, and
// nobody else waits. No more than a bounded number of messages is on its way, of
// an NFT one.
func testSlowBroker(t *testing.T, b Backend) {
	release := make(chan struct{})
	var mu sync.Mutex
	waiting := map[string]int{}
	most := 0
	broker := Broker{OnPublish: func(m Sent, store func()) error {
		mu.Lock()
		waiting[m.NFT]++
		if waiting[m.NFT] > 1 {
			t.Errorf("two messages of %s are on their way", m.NFT)
		}
		most = max(most, len(waiting))
		mu.Unlock()
		<-release
		store()
		mu.Lock()
		defer mu.Unlock()
		delete(waiting, m.NFT)
		return nil
	}}
	for i := range 200 {
		b.Append(t, Signal(fmt.Sprint("bear-", i), 0.5), Signal(fmt.Sprint("bear-", i), 1))
	}
	p, _ := b.runPublisher(t, 0, &broker)
	b.Project(t)
	Eventually(t, "messages are on their way", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return most > 1
	})
	b.CheckFolded(t, reputation.DefaultParams())
	AwaitState(t, projections.Running, p)
	if s := publisherStatus(t, b); s.Position != 0 || s.Head != 400 {
		t.Errorf("status %+v while nothing was confirmed", s)
	}
	close(release)
	b.awaitPublished(t, &broker)
	if most > 64 {
		t.Errorf("%d messages were on their way at once", most)
	}
}

func publisherStatus(t TB, b Backend) projections.Status {
	t.Helper()
	statuses, err := b.Reader.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range statuses {
		if s.Projection == projections.Publisher {
			return s
		}
	}
	t.Fatal("the status does not list the publisher")
	return projections.Status{}
}

var errBroker = errors.New("sabotage")

// testFailingMessage: when one message fails, those of its NFT that follow are not
// sent before it; what was confirmed is not sent again.
func testFailingMessage(t *testing.T, b Backend) {
	var broken atomic.Bool
	broken.Store(true)
	var opened atomic.Int64
	broker := Broker{OnOpen: func() error { opened.Add(1); return nil }, OnPublish: func(m Sent, store func()) error {
		if broken.Load() && m.Position == 3 && strings.HasSuffix(m.ID, ":state") {
			return errBroker
		}
		store()
		return nil
	}}
	b.Append(t, Signal("bear-1", 1), Signal("bear-1", 1), Signal("bear-2", 1), Signal("bear-1", 1), Signal("bear-2", 0))
	p, _ := b.runPublisher(t, 0, &broker)
	Eventually(t, "the publisher shows the error", func() bool {
		state, err := p.State()
		return state == projections.Retrying && errors.Is(err, errBroker)
	})
	for _, m := range broker.Stored() {
		if m.Position == 5 {
			t.Error("position 5 was sent before position 3 had come")
		}
	}
	if s := publisherStatus(t, b); s.Position != 0 {
		t.Errorf("the checkpoint is at %d although a message failed", s.Position)
	}
	broken.Store(false)
	b.awaitPublished(t, &broker)
	AwaitState(t, projections.Running, p)
	if n := broker.Again(); n != 0 {
		t.Errorf("%d messages that were confirmed came again", n)
	}
	if opened.Load() < 2 {
		t.Error("the broker was not opened again after the failure")
	}
}

// testLostConfirmation: messages that were stored without a confirmation are sent
// again, in their order, until they are confirmed.
func testLostConfirmation(t *testing.T, b Backend) {
	var lost atomic.Int64
	broker := Broker{OnPublish: func(m Sent, store func()) error {
		store()
		if m.Position%13 == 5 && lost.Add(1) <= 2 {
			return errBroker
		}
		return nil
	}}
	b.Append(t, saga()...)
	b.runPublisher(t, 10, &broker)
	b.awaitPublished(t, &broker)
	if broker.Again() == 0 {
		t.Error("nothing came twice: the test shows nothing")
	}
}

// testKilledPublisher: a publisher that ends when the broker has all of a page, and
// the checkpoint does not tell yet, leads to nothing that is lost or double.
func testKilledPublisher(t *testing.T, b Backend) {
	b.Append(t, saga()...)
	ctx, kill := context.WithCancel(t.Context())
	page := len(slices.DeleteFunc(Published(t, b.Log, reputation.DefaultParams()), func(m Sent) bool { return m.Position > 10 }))
	var broker Broker
	broker.OnPublish = func(_ Sent, store func()) error {
		store()
		if len(broker.Stored()) == page {
			kill()
			return ctx.Err()
		}
		return nil
	}
	b.Publisher(reputation.DefaultParams(), 10, &broker).Run(ctx)
	if s := publisherStatus(t, b); s.Position != 0 || len(broker.Stored()) != page {
		t.Fatalf("checkpoint %d and %d messages: it was not killed in between", s.Position, len(broker.Stored()))
	}
	broker.OnPublish = nil
	b.runPublisher(t, 10, &broker)
	b.awaitPublished(t, &broker)
	if broker.Again() == 0 {
		t.Error("nothing came twice: the test shows nothing")
	}
}

// testStandbyPublisher: of several publishers one publishes, and another goes on
// when it ends.
func testStandbyPublisher(t *testing.T, b Backend) {
	var broker, idle Broker
	first, stop := b.runPublisher(t, 5, &broker)
	AwaitState(t, projections.Running, first)
	second, _ := b.runPublisher(t, 5, &idle)
	AwaitState(t, projections.Standby, second)
	b.Append(t, saga()...)
	b.awaitPublished(t, &broker)
	stop()
	AwaitState(t, projections.Running, second)
	if n := len(idle.Stored()); n != 0 {
		t.Errorf("the stand-by published %d messages", n)
	}
	b.Append(t, saga()...)
	b.Await(t, b.Head(t), projections.Publisher)
	all := slices.Concat(broker.Stored(), idle.Stored())
	SamePublished(t, Published(t, b.Log, reputation.DefaultParams()), all)
}

// testNotOpen: a publisher whose broker cannot be used says so, and does not keep
// another from publishing.
func testNotOpen(t *testing.T, b Backend) {
	var open atomic.Bool
	var broker Broker
	away := Broker{OnOpen: func() error {
		if open.Load() {
			return nil
		}
		return errBroker
	}}
	p, _ := b.runPublisher(t, 0, &away)
	Eventually(t, "the publisher shows the error", func() bool {
		state, err := p.State()
		return state == projections.Retrying && errors.Is(err, errBroker)
	})
	b.Append(t, saga()...)
	_, stop := b.runPublisher(t, 0, &broker)
	b.awaitPublished(t, &broker)
	stop()
	open.Store(true)
	AwaitState(t, projections.Running, p)
}

// testGarbageIsNotPublished: rows that are no events of an NFT are set aside, and
// an event that merely has no effect is published.
func testGarbageIsNotPublished(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5))
	b.AppendEntries(t,
		Raw(t, "bear-1", `{}`),
		Raw(t, "bear 1!", valid(3)),
		Raw(t, "bear-1", valid(4, `honey`, `mead`)),
		Raw(t, "bear-1\r\nInjected: header", valid(5)),
		Raw(t, "bear-1", `"text"`),
	)
	b.Append(t, Signal("bear-1", 1))
	var broker Broker
	b.runPublisher(t, 2, &broker)
	b.awaitPublished(t, &broker)
	var positions []int64
	for _, m := range broker.Stored() {
		positions = append(positions, m.Position)
	}
	if want := []int64{1, 1, 4, 7}; !slices.Equal(positions, want) { // the first makes bear-1 warm
		t.Errorf("published positions %v, want %v", positions, want)
	}
	var got []string
	for _, f := range b.Failures(t, projections.Publisher) {
		got = append(got, fmt.Sprint(f.Position, " ", f.Reason))
	}
	want := []string{"2 invalid_event", "3 invalid_nft_id", "5 invalid_nft_id", "6 invalid_event"}
	if !slices.Equal(got, want) || publisherStatus(t, b).SetAside != 4 {
		t.Errorf("set aside %q, want %q; status %+v", got, want, publisherStatus(t, b))
	}
}

// testPublishOtherParameters: a publisher goes on with other scoring parameters:
// the states that follow are those of a rebuilt projection.
func testPublishOtherParameters(t *testing.T, b Backend) {
	var broker Broker
	b.Append(t, saga()...)
	_, stop := b.runPublisher(t, 0, &broker)
	head := b.Head(t)
	b.Await(t, head, projections.Publisher)
	stop()
	b.Append(t, saga()...)
	b.Append(t, saga()...)
	Run(t, b.Publisher(reputation.DixieParams(), 9, &broker))
	b.Await(t, b.Head(t), projections.Publisher)
	until := func(p int64) func(Sent) bool { return func(m Sent) bool { return m.Position > p } }
	after := func(p int64) func(Sent) bool { return func(m Sent) bool { return m.Position <= p } }
	want := slices.Concat(
		slices.DeleteFunc(Published(t, b.Log, reputation.DefaultParams()), until(head)),
		slices.DeleteFunc(Published(t, b.Log, reputation.DixieParams()), after(head)))
	SamePublished(t, want, broker.Stored())
}

// testPublisherStatus: who does not publish is not told of it.
func testPublisherStatus(t *testing.T, b Backend) {
	b.Append(t, Signal("bear-1", 0.5))
	statuses, err := b.Reader.Status(t.Context())
	if err != nil || len(statuses) != len(projections.Names) {
		t.Errorf("status %+v, error %v, want %v", statuses, err, projections.Names)
	}
	p := b.Publisher(reputation.DefaultParams(), 0, &Broker{})
	s := publisherStatus(t, b)
	if s.Position != 0 || s.Version != "" || s.Head != 1 || s.Lag <= 0 {
		t.Errorf("status before it ran %+v", s)
	}
	Run(t, p)
	b.Await(t, 1, projections.Publisher)
	s = publisherStatus(t, b)
	if s.Position != 1 || s.Version != "1" || s.Lag != 0 || s.UpdatedAt.Before(time.Now().Add(-time.Hour)) {
		t.Errorf("status %+v", s)
	}
}

// testResend: a part of the log is sent as it was the first time, with the changes
// of state that its events make, and the checkpoint stays.
func testResend(t *testing.T, b Backend) {
	b.Append(t, saga()...)
	b.AppendEntries(t, Raw(t, "bear-1", `{}`))
	head := b.Append(t, saga()...)
	all := Published(t, b.Log, reputation.DefaultParams())
	for _, part := range [][2]int64{{1, head}, {2, 2}, {50, head - 3}, {head, head}} {
		var broker Broker
		var told int64
		sent, err := projections.Resend(t.Context(), projections.ResendConfig{
			Log: b.Log, Broker: &broker, Params: reputation.DefaultParams(), From: part[0], Until: part[1],
			Progress: func(done int64) { told = done },
		})
		if err != nil {
			t.Fatal(err)
		}
		want := slices.DeleteFunc(slices.Clone(all), func(m Sent) bool { return m.Position < part[0] || m.Position > part[1] })
		SamePublished(t, want, broker.Stored())
		if sent.Events+sent.StateChanges != int64(len(want)) || sent.Events+sent.SetAside != part[1]-part[0]+1 ||
			sent.Position != part[1] || told != part[1] {
			t.Errorf("%v: counted %+v, progress %d, for %d messages", part, sent, told, len(want))
		}
	}
	var broker Broker
	b.runPublisher(t, 0, &broker)
	b.awaitPublished(t, &broker) // from the beginning
}

func testResendFails(t *testing.T, b Backend) {
	head := b.Append(t, saga()...)
	config := projections.ResendConfig{Log: b.Log, Params: reputation.DefaultParams(), From: 1, Until: head}
	config.Broker = &Broker{OnOpen: func() error { return errBroker }}
	_, err := projections.Resend(t.Context(), config)
	wantError(t, err, errBroker)
	config.Broker = &Broker{OnPublish: func(m Sent, store func()) error {
		store()
		if m.Position == head {
			return errBroker
		}
		return nil
	}}
	sent, err := projections.Resend(t.Context(), config)
	wantError(t, err, errBroker)
	if sent.Position != 0 || sent.Events != 0 {
		t.Errorf("counted %+v of a page that failed", sent)
	}
	config.Until++
	config.Broker = &Broker{}
	if _, err := projections.Resend(t.Context(), config); err == nil {
		t.Error("positions that are not in the log were published")
	}
}
