package http

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"dixie/reputation"
)

const (
	// defaultOutcomes bounds the chats whose outcome is not yet in the log, those
	// that finn is still answering included.
	defaultOutcomes = 1000
	// outcomePatience is how long an answer waits for its outcome to be stored. It is
	// more than a healthy database takes, so that an answer that was given is one
	// whose event is durable.
	outcomePatience = 50 * time.Millisecond
	// outcomeTimeout bounds one attempt to store an outcome.
	outcomeTimeout = 15 * time.Second
	// outcomeLife is when attempts end.
	outcomeLife = time.Hour

	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
	// hurriedRetry is the longest wait of a server that stops.
	hurriedRetry = 200 * time.Millisecond
)

var errOutcomes = errors.New("too many outcomes are not stored yet")

// outcomes puts what chats tell of agents into the log. Each outcome has a
// goroutine that tries until it is stored, and a place that was taken before finn
// was asked: what finn answered is never dropped for lack of room.
type outcomes struct {
	log     reputation.Log
	primary func(ctx context.Context, wallet string) (NFT, error)
	// collection is that of an agent that is known, else empty.
	collection func(ctx context.Context, nft string) (string, error)
	now        func() time.Time
	logger     *slog.Logger

	places   chan struct{}
	running  sync.WaitGroup  // one for each place that is taken
	hurry    context.Context // done when the server stops
	stopping context.CancelFunc
	life     context.Context // done when attempts have to end
	end      context.CancelFunc
	mu       sync.Mutex // guards stopped, and running against it
	stopped  bool
}

func (s *Server) newOutcomes() *outcomes {
	places := s.MaxOutcomes
	if places <= 0 {
		places = defaultOutcomes
	}
	o := &outcomes{
		log: s.Log, primary: s.primary, collection: s.collection, now: s.Now, logger: s.Logger,
		places: make(chan struct{}, places),
	}
	o.hurry, o.stopping = context.WithCancel(context.Background())
	o.life, o.end = context.WithCancel(context.Background())
	return o
}

// collection is that of an agent's reputation. An event that names another would
// be set aside.
func (s *Server) collection(ctx context.Context, nft string) (string, error) {
	standing, err := s.Reputations.Reputation(ctx, nft)
	if err != nil || standing.Agent == nil {
		return "", err
	}
	return standing.Agent.Aggregate.CollectionID, nil
}

// place is room for the outcome of one chat. It is used in one goroutine at a
// time.
type place struct {
	outcomes *outcomes
	wallet   string
	kept     bool // by the goroutine that stores the outcome
}

// reserve takes a place for a wallet's chat; nil for callers without a wallet, of
// whose chats nothing is learnt.
func (o *outcomes) reserve(wallet string) (*place, error) {
	if wallet == "" {
		return nil, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.stopped {
		return nil, errOutcomes
	}
	select {
	case o.places <- struct{}{}:
		o.running.Add(1)
		return &place{outcomes: o, wallet: wallet}, nil
	default:
		return nil, errOutcomes
	}
}

// release gives a place back, unless its outcome is being stored.
func (p *place) release() {
	if p != nil && !p.kept {
		p.outcomes.free()
	}
}

func (o *outcomes) free() {
	<-o.places
	o.running.Done()
}

// keep begins to store an outcome and gives it a moment to be stored. The place
// may be nil.
func (o *outcomes) keep(ctx context.Context, p *place, reply reply, took time.Duration) {
	if p == nil {
		return
	}
	p.kept = true
	outcome := &outcome{wallet: p.wallet, message: RequestID(ctx), at: o.now(), took: took, reply: reply}
	stored := make(chan struct{})
	go func() {
		defer o.free()
		defer close(stored)
		o.store(context.WithoutCancel(ctx), outcome)
	}()
	patience := time.NewTimer(outcomePatience)
	defer patience.Stop()
	select {
	case <-stored:
	case <-patience.C:
	}
}

// store tries until an outcome is in the log, or need not be, or time is up.
func (o *outcomes) store(ctx context.Context, out *outcome) {
	ctx, cancel := context.WithTimeout(ctx, outcomeLife)
	defer cancel()
	defer context.AfterFunc(o.life, cancel)()
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		err := o.try(ctx, out)
		if err == nil {
			return
		}
		o.pause(ctx, wait)
		if ctx.Err() != nil {
			o.logger.ErrorContext(ctx, "the outcome of a chat is lost", "error", err, "request_id", out.message,
				"wallet", out.wallet, "lines", out.lines())
			return
		}
	}
}

// pause waits, and not for long once the server stops.
func (o *outcomes) pause(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return
	case <-ctx.Done():
		return
	case <-o.hurry.Done():
	}
	timer.Reset(min(wait, hurriedRetry))
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// try stores an outcome. It is done when the wallet has no NFT that it could
// count for.
func (o *outcomes) try(ctx context.Context, out *outcome) error {
	ctx, cancel := context.WithTimeout(ctx, outcomeTimeout)
	defer cancel()
	if out.entries == nil {
		if err := o.name(ctx, out); err != nil || len(out.entries) == 0 {
			return err
		}
	}
	results, err := o.log.Append(ctx, out.entries...)
	if err != nil {
		return err
	}
	for i, result := range results {
		if result.Status == reputation.Conflict { // the same message was sent before
			o.logger.InfoContext(ctx, "the outcome of this message is stored already",
				"request_id", out.message, "type", out.entries[i].Type, "position", result.Position)
		}
	}
	return nil
}

// name makes the events of an outcome, when it is known whom they count for. Once
// made they stay as they are, so that storing them again is no conflict.
func (o *outcomes) name(ctx context.Context, out *outcome) error {
	nft, err := o.primary(ctx, out.wallet)
	if err != nil || nft.ID == "" {
		return err
	}
	known, err := o.collection(ctx, nft.ID)
	if err != nil {
		return err
	}
	if known != "" {
		nft.Collection = known
	}
	events, err := out.events(nft)
	if err != nil {
		o.logger.WarnContext(ctx, "the outcome of a chat is not whole", "error", err, "request_id", out.message, "nft_id", nft.ID)
	}
	for _, event := range events {
		out.entries = append(out.entries, reputation.NewEntry(nft.ID, event))
	}
	return nil
}

// close stores what is not stored yet, until ctx ends. It says so when something
// was lost.
func (o *outcomes) close(ctx context.Context) error {
	o.mu.Lock()
	o.stopped = true
	o.mu.Unlock()
	o.stopping()
	stored := make(chan struct{})
	go func() {
		o.running.Wait()
		close(stored)
	}()
	select {
	case <-stored:
		return nil
	case <-ctx.Done():
	}
	lost := len(o.places)
	o.end()
	<-stored
	return fmt.Errorf("%d outcomes of chats are not stored: %w", lost, ctx.Err())
}

// reply is what finn's answer to a message says of itself. Whoever routed the
// message names the kind of task, not the model that did it.
type reply struct {
	Response    *string        `json:"response"`
	TaskType    string         `json:"task_type"`
	ModelID     string         `json:"model_id"`
	Provider    string         `json:"provider"`
	PoolID      string         `json:"pool_id"`
	Observation jsontext.Value `json:"quality_observation"` // protocol §3.1; nil when absent
}

func parseReply(value jsontext.Value) (reply, error) {
	var r reply
	err := json.Unmarshal(value, &r)
	return r, err
}

// outcome is what a chat told of an agent.
type outcome struct {
	wallet  string
	message string // id
	at      time.Time
	took    time.Duration
	reply   reply
	entries []reputation.Entry // nil until it is known whom they count for
}

// lines are the events as a bulk import takes them, for whoever has to bring them
// back from the log of the process.
func (out *outcome) lines() string {
	var text strings.Builder
	for _, e := range out.entries {
		fmt.Fprintf(&text, "{\"nft_id\":%q,\"event\":%s}\n", e.NFT, e.JSON)
	}
	return text.String()
}

// outcomeSpace is the namespace of the ids of events that chats tell of.
var outcomeSpace = uuid.MustParse("9f0b6a0e-6a35-5c0f-8f8e-5d3f6b0a7c21")

// id is the same whenever the same wallet sends the same message (RFC 9562 §5.5).
func (out *outcome) id(kind reputation.Type) string {
	name := strings.ToLower(out.wallet) + "/" + out.message + "/" + string(kind)
	return uuid.NewSHA1(outcomeSpace, []byte(name)).String()
}

// events are those of an outcome that are valid. The error says why some are not.
func (out *outcome) events(nft NFT) ([]*reputation.Event, error) {
	completed := out.completed(nft)
	if err := completed.Validate(); err != nil {
		return nil, fmt.Errorf("task_completed: %w", err)
	}
	events := []*reputation.Event{completed}
	if len(out.reply.Observation) == 0 || out.reply.Observation.Kind() == 'n' {
		return events, nil
	}
	performance, err := out.performance(nft)
	if err != nil {
		return events, fmt.Errorf("model_performance: %w", err)
	}
	return append(events, performance), nil
}

func (out *outcome) completed(nft NFT) *reputation.Event {
	took := min(out.took, time.Hour).Milliseconds()
	return &reputation.Event{
		ID: out.id(reputation.TypeTaskCompleted), AgentID: nft.ID, CollectionID: nft.Collection,
		Timestamp: reputation.TimestampOf(out.at),
		Body:      reputation.TaskCompleted{TaskType: out.taskType(), Success: true, DurationMS: &took},
	}
}

func (out *outcome) taskType() reputation.TaskType {
	if task := reputation.TaskType(out.reply.TaskType); task.Valid() {
		return task
	}
	return reputation.TaskUnspecified
}

// performance is the event of finn's quality observation, decoded like one from
// outside.
func (out *outcome) performance(nft NFT) (*reputation.Event, error) {
	pool := out.reply.PoolID
	if pool == "" {
		pool = "default" // as an agent's before the first observation (protocol §I.3)
	}
	members := map[string]any{
		"type": reputation.TypeModelPerformance, "event_id": out.id(reputation.TypeModelPerformance),
		"agent_id": nft.ID, "collection_id": nft.Collection, "timestamp": reputation.TimestampOf(out.at),
		"model_id": out.reply.ModelID, "provider": out.reply.Provider, "pool_id": pool, "task_type": out.taskType(),
		"quality_observation": out.reply.Observation,
	}
	if _, ok := reputation.ParseUUID(out.message); ok {
		members["request_context"] = map[string]string{"request_id": out.message}
	}
	event, err := reputation.Decode(encode(members))
	return &event, err
}
