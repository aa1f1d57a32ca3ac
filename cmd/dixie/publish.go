package main

import (
	"context"
	"fmt"

	"dixie/eventstore"
	"dixie/projections"
	"dixie/reputation"
)

type publishCmd struct {
	From  int64 `required:"" placeholder:"POSITION" help:"First position to publish."`
	Until int64 `placeholder:"POSITION" help:"Last position to publish; the end of the log when it is not given."`

	URL      string     `name:"nats-url" env:"NATS_URL" secret:"" placeholder:"URL" help:"NATS server to publish to."`
	Stream   natsStream `embed:""`
	Database database   `embed:""`
	Scoring  scoring    `embed:""`
	Logging  logging    `embed:""`
}

// Help is shown by publish --help.
func (*publishCmd) Help() string {
	return `Events, and the changes of state that they make, are sent with the same ids as before: what the stream has received
within its window of duplicates it does not store again. The publisher of a running server and its checkpoint are not
touched. Events before --from are read as well, to know the states that change.`
}

// Run publishes a part of the log of a database.
func (p *publishCmd) Run(ctx context.Context, c *console) error {
	params, err := p.Scoring.params()
	if err != nil {
		return err
	}
	publisher, err := p.Stream.publisher(p.URL, p.Logging.logger())
	if err != nil {
		return err
	}
	defer closeNATS(publisher)
	pool, err := p.Database.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	log := eventstore.ReadPostgres(pool)
	until, err := p.end(ctx, log)
	if err != nil {
		return err
	}
	bar := startProgress(c.err, "publish", "events", until)
	sent, err := projections.Resend(ctx, projections.ResendConfig{
		Log: log, Broker: publisher, Params: params, From: p.From, Until: until,
		Progress: func(done int64) { bar.reach(done, until) },
	})
	if err != nil {
		bar.clear()
		if sent.Position > 0 {
			return fmt.Errorf("%w; everything up to position %d was sent, go on with --from %d", err, sent.Position, sent.Position+1)
		}
		return err
	}
	bar.finish(fmt.Sprintf("positions %d to %d", p.From, until))
	fmt.Fprintf(c.out, "%d events and %d changes of state sent to stream %s, %d rows that are no events left out\n",
		sent.Events, sent.StateChanges, p.Stream.Stream, sent.SetAside)
	return nil
}

// end is the last position to publish, checked against the log.
func (p *publishCmd) end(ctx context.Context, log reputation.Log) (int64, error) {
	head, err := log.Head(ctx)
	if err != nil {
		return 0, err
	}
	until := p.Until
	if until == 0 {
		until = head
	}
	if p.From < 1 || until < p.From || until > head {
		return 0, fmt.Errorf("--from and --until must be positions of the log, 1 to %d, in this order; found %d and %d", head, p.From, until)
	}
	return until, nil
}
