package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dixie/http"
	"dixie/internal/telemetry"
	"dixie/migrations"
	"dixie/reputation"
)

// connectTimeout bounds the first contact with the database.
const connectTimeout = 5 * time.Second

// database are the settings of the connection to PostgreSQL.
type database struct {
	URL      string `name:"database-url" env:"DATABASE_URL" secret:"" placeholder:"URL" help:"PostgreSQL database that keeps the log. It may be written as a URL or as key=value pairs."`
	PoolSize int32  `name:"database-pool-size" env:"DATABASE_POOL_SIZE" default:"10" help:"Most connections to the database, 1 to 100. Serving takes three more: one that listens, and one for each projector; publishing to NATS takes a fourth."`
}

var errNoDatabase = errors.New("no database is configured: set DATABASE_URL or give --database-url")

// open connects to a database whose schema is current.
func (d database) open(ctx context.Context) (*pgxpool.Pool, error) {
	pool, err := d.connect(ctx, nil)
	if err != nil {
		return nil, err
	}
	if err := migrations.Check(ctx, pool); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// connect connects to the database, whatever its schema. tracer may be nil.
func (d database) connect(ctx context.Context, tracer pgx.QueryTracer) (*pgxpool.Pool, error) {
	config, err := d.config()
	if err != nil {
		return nil, err
	}
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.ConnConfig.Tracer = tracer
	params := config.ConnConfig.RuntimeParams
	if params["application_name"] == "" {
		params["application_name"] = "dixie"
	}
	// The log's statements rely on seeing what was committed when each began.
	params["default_transaction_isolation"] = "read committed"
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	pinging, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	if err := pool.Ping(pinging); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	return pool, nil
}

// config reads the settings, and reports all that is wrong with them.
func (d database) config() (*pgxpool.Config, error) {
	if d.URL == "" {
		return nil, errNoDatabase
	}
	var sizeErr error
	if d.PoolSize < 1 || d.PoolSize > 100 {
		sizeErr = fmt.Errorf("database-pool-size must be between 1 and 100, found %d", d.PoolSize)
	}
	config, err := pgxpool.ParseConfig(d.URL)
	if err != nil {
		err = fmt.Errorf("database-url: %w", err) // the driver leaves the password out
	}
	if err := errors.Join(sizeErr, err); err != nil {
		return nil, err
	}
	config.MaxConns = d.PoolSize
	return config, nil
}

// migrate applies pending migrations.
func migrate(ctx context.Context, pool *pgxpool.Pool) ([]migrations.Migration, error) {
	var applied []migrations.Migration
	err := pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) (err error) {
		applied, err = migrations.Up(ctx, conn.Conn())
		return err
	})
	return applied, err
}

// scoring are the settings of the formulas. What is not set keeps the preset's
// value.
type scoring struct {
	Preset              string   `name:"scoring-preset" env:"DIXIE_SCORING_PRESET" enum:"protocol,dixie" default:"protocol" help:"Scoring parameters to start from: those of the protocol, or of the service before this one (dixie)."`
	PseudoCount         *int64   `name:"scoring-pseudo-count" env:"DIXIE_SCORING_PSEUDO_COUNT" help:"Strength of the prior, in observations."`
	MinSampleCount      *int64   `name:"scoring-min-sample-count" env:"DIXIE_SCORING_MIN_SAMPLE_COUNT" help:"Observations that make an agent established."`
	AuthoritativeWeight *float64 `name:"scoring-authoritative-weight" env:"DIXIE_SCORING_AUTHORITATIVE_WEIGHT" help:"Personal weight above which an agent is authoritative, 0 to 1."`
	AlphaMin            *float64 `name:"scoring-alpha-min" env:"DIXIE_SCORING_ALPHA_MIN" help:"Least learning rate, 0 to 1."`
	AlphaMax            *float64 `name:"scoring-alpha-max" env:"DIXIE_SCORING_ALPHA_MAX" help:"Greatest learning rate, 0 to 1."`
	RampSamples         *int64   `name:"scoring-ramp-samples" env:"DIXIE_SCORING_RAMP_SAMPLES" help:"Observations over which the learning rate moves."`
	Ramp                string   `name:"scoring-ramp" env:"DIXIE_SCORING_RAMP" enum:",ascending,descending" default:"" help:"Direction of the learning rate: ascending or descending."`
	ColdStart           string   `name:"scoring-cold-start" env:"DIXIE_SCORING_COLD_START" enum:",direct,bayesian" default:"" help:"What becomes of the first score: direct or bayesian."`
	NeutralPrior        *float64 `name:"scoring-neutral-prior" env:"DIXIE_SCORING_NEUTRAL_PRIOR" help:"Prior of a collection without other members, 0 to 1."`
	HalfLifeDays        *float64 `name:"scoring-half-life-days" env:"DIXIE_SCORING_HALF_LIFE_DAYS" help:"Days in which a sample loses half its weight for decisions."`
	ConfidenceThreshold *int64   `name:"scoring-confidence-threshold" env:"DIXIE_SCORING_CONFIDENCE_THRESHOLD" help:"Samples at which a task cohort is fully trusted."`
	ReliableSamples     *int64   `name:"scoring-reliable-samples" env:"DIXIE_SCORING_RELIABLE_SAMPLES" help:"Least observations of a reliable reputation."`
	StaleAfterDays      *float64 `name:"scoring-stale-after-days" env:"DIXIE_SCORING_STALE_AFTER_DAYS" help:"Days after the last observation from which a reputation is not reliable."`
}

// params are the preset with what was set, checked.
func (s scoring) params() (reputation.Params, error) {
	p := reputation.DefaultParams()
	if s.Preset == "dixie" {
		p = reputation.DixieParams()
	}
	override(&p.PseudoCount, s.PseudoCount)
	override(&p.MinSampleCount, s.MinSampleCount)
	override(&p.AuthoritativeWeight, s.AuthoritativeWeight)
	override(&p.Damping.AlphaMin, s.AlphaMin)
	override(&p.Damping.AlphaMax, s.AlphaMax)
	override(&p.Damping.RampSamples, s.RampSamples)
	override(&p.NeutralPrior, s.NeutralPrior)
	override(&p.HalfLifeDays, s.HalfLifeDays)
	override(&p.ConfidenceThreshold, s.ConfidenceThreshold)
	override(&p.ReliableSamples, s.ReliableSamples)
	override(&p.StaleAfterDays, s.StaleAfterDays)
	if s.Ramp != "" {
		p.Damping.Ramp = reputation.Ramp(s.Ramp)
	}
	if s.ColdStart != "" {
		p.Damping.ColdStart = reputation.ColdStart(s.ColdStart)
	}
	if err := p.Validate(); err != nil {
		return p, fmt.Errorf("scoring parameters: %w", err)
	}
	return p, nil
}

func override[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// logging are the settings of the log of this process.
type logging struct {
	Level  slog.Level `name:"log-level" env:"LOG_LEVEL" default:"info" help:"Least level of log lines: debug, info, warn or error."`
	Format string     `name:"log-format" env:"LOG_FORMAT" enum:"json,text" default:"json" help:"Format of log lines: json or text."`
}

func (l logging) logger() *slog.Logger {
	options := &slog.HandlerOptions{Level: l.Level, ReplaceAttr: withUnits}
	var handler slog.Handler = slog.NewJSONHandler(os.Stderr, options)
	if l.Format == "text" {
		handler = slog.NewTextHandler(os.Stderr, options)
	}
	return slog.New(telemetry.NewLogHandler(handler, http.RequestID))
}

// withUnits writes durations like 1.5ms, in JSON too, where slog writes a number of
// nanoseconds that nothing says the unit of.
func withUnits(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
