package projections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"dixie/reputation"
)

// Overview is all that is known of a projection's operation.
type Overview = reputation.ProjectionOverview

// thisProcess is how a process is called when others ask who does something: its
// host and its number there.
func thisProcess() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s, process %d", host, os.Getpid())
}

// tenure is who is the projector of a projection, and what went wrong last.
type tenure struct {
	holder      string // or the last one
	since       *time.Time
	held        bool // now
	lastError   string
	lastErrorAt *time.Time
}

// newOverview puts together what is known of a projection. refused is why whoever
// asks could not continue it, or nil.
func newOverview(status Status, wanted string, t tenure, refused error, rebuild *reputation.ProjectionRebuild) Overview {
	o := Overview{
		ProjectionStatus: status, Wanted: wanted, State: reputation.ProjectionStopped,
		Holder: t.holder, HeldSince: deref(t.since), LastError: t.lastError, LastErrorAt: deref(t.lastErrorAt),
		Rebuild: rebuild,
	}
	if refused != nil {
		o.Remedy = remedy(status.Projection, t.held, refused)
	}
	switch {
	case rebuild != nil:
		o.State = reputation.ProjectionRebuilding
	case t.held:
		o.State = reputation.ProjectionRunning // by a process that has the rows' version
	case refused != nil:
		o.State = reputation.ProjectionNeedsRebuild
	}
	return o
}

// remedy is what to do when whoever asks could not continue a projection. If somebody
// else does, the rows may well be what they should be.
func remedy(projection string, held bool, refused error) string {
	var version *VersionError
	if !held || projection == Publisher || !errors.As(refused, &version) {
		return refused.Error()
	}
	return fmt.Sprintf("the projector folds with version %s, and this process would with version %s: it has other scoring settings or is another release; "+
		"give it the settings of the projector, or change over to its own with `dixie rebuild %s`", version.Stored, version.Running, projection)
}

func deref(at *time.Time) time.Time {
	if at == nil {
		return time.Time{}
	}
	return at.UTC()
}

// Overview implements [Reader].
func (p *Postgres) Overview(ctx context.Context, params reputation.Params) ([]Overview, error) {
	statuses, err := p.Status(ctx)
	if err != nil {
		return nil, err
	}
	refusals, err := p.refusals(ctx, params)
	if err != nil {
		return nil, err
	}
	tenures, err := p.tenures(ctx)
	if err != nil {
		return nil, err
	}
	rebuilds, err := p.Rebuilds(ctx)
	if err != nil {
		return nil, err
	}
	running := map[string]*reputation.ProjectionRebuild{}
	for _, r := range rebuilds {
		running[r.Projection] = &reputation.ProjectionRebuild{
			Version: r.Version, Holder: r.Holder, StartedAt: r.StartedAt.UTC(), Position: r.Position, Head: r.Head,
		}
	}
	all := make([]Overview, len(statuses))
	for i, s := range statuses {
		all[i] = newOverview(s, versionOf(s.Projection, params), tenures[s.Projection], refusals[s.Projection], running[s.Projection])
	}
	return all, nil
}

// refusals are why projections could not be continued with some parameters.
func (p *Postgres) refusals(ctx context.Context, params reputation.Params) (map[string]error, error) {
	rows, err := p.pool.Query(ctx, checkpointsInLog, append(slices.Clone(Names), Publisher))
	if err != nil {
		return nil, unavailable("read the checkpoints", err)
	}
	found, err := pgx.CollectRows(rows, scanCheckpoint)
	if err != nil {
		return nil, unavailable("read the checkpoints", err)
	}
	refused := map[string]error{}
	for _, c := range found {
		refused[c.projection] = errors.Join(c.inLog(), c.ofVersion(versionOf(c.projection, params)))
	}
	return refused, nil
}

// tenures reads who is the projector of each projection that has a checkpoint.
func (p *Postgres) tenures(ctx context.Context) (map[string]tenure, error) {
	rows, err := p.pool.Query(ctx, `
		SELECT c.projection, coalesce(c.holder, ''), c.held_since, coalesce(c.last_error, ''), c.last_error_at,
		       `+holdsLock(projectorLock, `c.projection`, `c.holder_pid`)+`
		  FROM projection_checkpoints AS c`)
	if err != nil {
		return nil, unavailable("read who projects", err)
	}
	tenures := map[string]tenure{}
	var name string
	var t tenure
	_, err = pgx.ForEachRow(rows, []any{&name, &t.holder, &t.since, &t.lastError, &t.lastErrorAt, &t.held}, func() error {
		tenures[name] = t
		return nil
	})
	return tenures, unavailable("read who projects", err)
}

// maxError bounds the text of an error that is kept.
const maxError = 1000

// legible is a text that every backend can keep.
func legible(message string) string {
	message = strings.ReplaceAll(strings.ToValidUTF8(message, "\uFFFD"), "\x00", "\uFFFD")
	if len(message) > maxError {
		message = strings.ToValidUTF8(message[:maxError], "") + "…"
	}
	return message
}

func (p *Postgres) noteError(ctx context.Context, projection, message string) error {
	_, err := p.pool.Exec(ctx, `
		UPDATE projection_checkpoints SET last_error = $2, last_error_at = now() WHERE projection = $1`, projection, message)
	return unavailable("note an error", err)
}

// Overview implements [Reader].
func (m *Memory) Overview(ctx context.Context, params reputation.Params) ([]Overview, error) {
	statuses, err := m.Status(ctx)
	if err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	all := make([]Overview, len(statuses))
	for i, s := range statuses {
		var t tenure
		var refused error
		if c, ok := m.checkpoints[s.Projection]; ok {
			t = c.tenure()
			if c.version != versionOf(s.Projection, params) {
				refused = &VersionError{Projection: s.Projection, Stored: c.version, Running: versionOf(s.Projection, params)}
			}
		}
		all[i] = newOverview(s, versionOf(s.Projection, params), t, refused, nil)
	}
	return all, nil
}

func (c *memoryCheckpoint) tenure() tenure {
	t := tenure{holder: thisProcess(), since: &c.heldSince, held: c.held, lastError: c.lastError}
	if !c.lastErrorAt.IsZero() {
		t.lastErrorAt = &c.lastErrorAt
	}
	return t
}
