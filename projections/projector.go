package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"dixie/eventstore"
	"dixie/reputation"
)

const (
	// keepInterval is how often an idle projector renews its lease. PostgreSQL ends
	// a lease that is silent for leaseTimeout.
	keepInterval = 5 * time.Second

	// retryInterval is the wait after a term as projector ended with an error.
	retryInterval = time.Second

	// publishTimeout bounds the attempt to note an error.
	publishTimeout = time.Second

	// closeTimeout bounds the wait for a page when a projector stops.
	closeTimeout = 10 * time.Second
)

// State is what a projector of this process is doing.
type State string

// The states of a projector.
const (
	Stopped      State = "stopped"       // not started, or ended
	Standby      State = "standby"       // another process is the projector
	Running      State = "running"       // this process is the projector
	Retrying     State = "retrying"      // after an error
	NeedsRebuild State = "needs rebuild" // stored rows are of another version or another log
)

// Projector keeps one projection up to date.
type Projector struct {
	projection projection
	params     reputation.Params
	backend    backend
	pages      *eventstore.Pages // shared by the projectors of a process
	far        int64             // events behind from which it catches up
	middleware []message.HandlerMiddleware
	outbox     *outbox // of the publisher; nil for projections that only fold
	logger     *slog.Logger

	mu    sync.Mutex
	state State
	err   error
}

// Config sets projectors up.
type Config struct {
	Log      eventstore.Reader
	Params   reputation.Params
	PageSize int // most events of a page that is folded in one transaction; 0 means 2,000
	// CatchUp is by how many events a projector must be behind to fold many pages
	// before it writes; 0 means 10,000.
	CatchUp int64
	Broker  Broker // where events are published, by a projector named [Publisher]; nil publishes nothing
	Logger  *slog.Logger
	// Middleware sees each page that is folded in a transaction of its own, from
	// outside: [message.HandlerNameFromCtx] is the projection, [eventstore.PageFrom]
	// the page. An error was noted already, and makes the page come again. The first
	// is the outermost.
	Middleware []message.HandlerMiddleware
}

// NewProjectors returns one projector for each projection, which write to p, and
// the publisher when config has a broker.
func (p *Postgres) NewProjectors(config Config) []*Projector {
	if config.Broker != nil {
		p.publishing.Store(true)
	}
	return newProjectors(p, config)
}

// NewProjectors returns one projector for each projection, which write to m, and
// the publisher when config has a broker.
func (m *Memory) NewProjectors(config Config) []*Projector {
	if config.Broker != nil {
		m.publishing.Store(true)
	}
	return newProjectors(m, config)
}

func newProjectors(b backend, config Config) []*Projector {
	pages := eventstore.NewPages(config.Log, config.PageSize)
	if config.CatchUp <= 0 {
		config.CatchUp = farBehind
	}
	projectors := make([]*Projector, 0, len(Names))
	for _, projection := range all() {
		projectors = append(projectors, &Projector{
			projection: projection, params: config.Params, backend: b, pages: pages, far: config.CatchUp,
			middleware: config.Middleware,
			logger:     config.Logger.With("projection", projection.name), state: Stopped,
		})
	}
	if config.Broker != nil {
		projectors = append(projectors, newPublisher(b, pages, config))
	}
	return projectors
}

// Name is the projection's.
func (p *Projector) Name() string { return p.projection.name }

// State is what the projector is doing, and the error that it met last, if it has
// not got over it. It is safe for concurrent use.
func (p *Projector) State() (State, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.err
}

// Run keeps the projection up to date until ctx ends. It stands by while another
// process is the projector, and begins again after every error.
func (p *Projector) Run(ctx context.Context) {
	defer p.enter(Stopped, nil)
	for ctx.Err() == nil {
		err := p.term(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errRebuilt) {
			p.logger.InfoContext(ctx, "the rows were rebuilt, going on from there")
			continue
		}
		p.fail(ctx, err)
		select {
		case <-ctx.Done():
		case <-time.After(retryInterval):
		}
	}
}

// fail notes why a term ended. An error that repeats is logged once.
func (p *Projector) fail(ctx context.Context, err error) {
	state := Retrying
	var version *VersionError
	var ahead *AheadError
	if errors.As(err, &version) || errors.As(err, &ahead) {
		state = NeedsRebuild
	}
	if p.isNew(err) {
		p.logger.ErrorContext(ctx, "projector interrupted", "state", state, "error", err)
		if state != NeedsRebuild { // which the checkpoint itself tells
			p.publish(ctx, err)
		}
	}
	p.enter(state, err)
}

// isNew reports whether an error is another one than the last.
func (p *Projector) isNew(err error) bool {
	_, last := p.State()
	return last == nil || last.Error() != err.Error()
}

// publish lets other processes know of an error, if it can: when the database is
// away, nobody can ask it either.
func (p *Projector) publish(ctx context.Context, err error) {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := p.backend.noteError(ctx, p.projection.name, legible(err.Error())); err != nil {
		p.logger.DebugContext(ctx, "the error could not be noted", "error", err)
	}
}

func (p *Projector) enter(state State, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.err = state, err
}

// errRebuilt says that the rows were rebuilt since the term began.
var errRebuilt = errors.New("the rows were rebuilt")

// errFarBehind ends the following of the log in favour of catching up.
var errFarBehind = errors.New("far behind")

// term is one term as projector: from acquiring the lease to losing it.
func (p *Projector) term(ctx context.Context) error {
	// Who cannot publish does not keep others from it.
	if err := p.outbox.open(ctx); err != nil {
		return err
	}
	lease, err := p.backend.acquire(ctx, p.projection.name, p.version(), func() { p.enter(Standby, nil) })
	if err != nil {
		return err
	}
	defer lease.release()
	p.logger.InfoContext(ctx, "projecting", "position", lease.position())
	p.enter(Running, nil)
	for {
		if err := p.catchUp(ctx, lease); err != nil {
			return err
		}
		if err := p.follow(ctx, lease); !errors.Is(err, errFarBehind) {
			return err
		}
	}
}

func (p *Projector) catchUp(ctx context.Context, lease lease) error {
	if p.projection.shadow == nil {
		return nil
	}
	from, start := lease.position(), time.Now()
	err := lease.catchUp(ctx, p.far, func() shadow { return p.projection.shadow(p.params) })
	if to := lease.position(); to > from {
		p.logger.InfoContext(ctx, "caught up", "from", from, "to", to, "duration", time.Since(start))
	}
	return err
}

// follow folds page after page as the log grows. It ends with an error.
func (p *Projector) follow(ctx context.Context, lease lease) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	feed := p.pages.Feed(eventstore.FeedConfig{From: lease.position(), Logger: p.logger})
	t := &term{projector: p, lease: lease, end: end}
	router, err := t.router(feed)
	if err != nil {
		return err
	}
	var keeper sync.WaitGroup
	keeper.Go(func() { t.keep(ctx) })
	err = router.Run(ctx)
	end(nil)
	keeper.Wait()
	_ = feed.Close()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	if err := errors.Join(err, feed.Err()); err != nil {
		return err
	}
	return errors.New("the feed ended")
}

// term is a projector that holds the lease.
type term struct {
	projector *Projector
	end       context.CancelCauseFunc

	mu     sync.Mutex // the lease is used by the handler and the keeper
	lease  lease
	folded int64 // events since it was last asked how far behind the projection is
}

func (t *term) router(feed *eventstore.Feed) (*message.Router, error) {
	logger := watermill.NewSlogLoggerWithLevelMapping(t.projector.logger, map[slog.Level]slog.Level{
		// The router's own comings and goings are of no interest to operators.
		slog.LevelInfo: slog.LevelDebug,
	})
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: closeTimeout}, logger)
	if err != nil {
		return nil, fmt.Errorf("make the router: %w", err)
	}
	router.AddMiddleware(t.projector.middleware...)
	router.AddMiddleware(t.note, middleware.Recoverer)
	router.AddConsumerHandler(t.projector.projection.name, eventstore.Topic, feed, t.handle)
	return router, nil
}

// handle folds one page; its rows and the checkpoint commit together. An error
// makes the feed deliver the page again, unless the lease is lost.
func (t *term) handle(msg *message.Message) error {
	p, page := t.projector, eventstore.PageFrom(msg.Context())
	if err := p.outbox.send(msg.Context(), t, page); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	step := step{from: page.From, to: page.To, at: page.Events[len(page.Events)-1].CreatedAt}
	err := t.lease.page(msg.Context(), step, func(ctx context.Context, tx tx) error {
		return p.projection.fold(ctx, p.params, tx, page)
	})
	if err != nil {
		return err
	}
	p.outbox.done()
	if p.projection.shadow != nil {
		t.fallBehind(msg.Context(), page)
	}
	return nil
}

// fallBehind ends the following of a log that grows faster than it is followed. It
// asks so seldom that asking costs nothing.
func (t *term) fallBehind(ctx context.Context, page *eventstore.Page) {
	far := t.projector.far
	if t.folded += page.To - page.From; t.folded < far {
		return
	}
	t.folded = 0
	if head, err := t.lease.head(ctx); err == nil && head-page.To >= far {
		t.end(errFarBehind)
	}
}

// note keeps the projector's state. It comes before the recoverer, so that a panic
// shows like any other error.
func (t *term) note(handle message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		none, err := handle(msg)
		var panicked middleware.RecoveredPanicError
		switch {
		case err == nil:
			t.projector.enter(Running, nil)
		case errors.Is(err, errRebuilt):
			t.end(err)
			err = fmt.Errorf("%w: %w", context.Canceled, err) // all else the router logs as an error
		case errors.Is(err, ErrLost), errors.Is(err, errUnsent):
			t.end(err)
		case errors.As(err, &panicked):
			t.projector.retry(msg.Context(), fmt.Errorf("panic: %v", panicked.V)) // its stack is in the router's log
		default:
			t.projector.retry(msg.Context(), err)
		}
		return none, err
	}
}

// retry notes why a page will be tried again.
func (p *Projector) retry(ctx context.Context, err error) {
	if p.isNew(err) {
		p.publish(ctx, err)
	}
	p.enter(Retrying, err)
}

// keep renews the lease until ctx ends.
func (t *term) keep(ctx context.Context) {
	ticker := time.NewTicker(keepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		t.mu.Lock()
		err := t.lease.keep(ctx)
		t.mu.Unlock()
		if err != nil {
			t.end(err)
			return
		}
	}
}
