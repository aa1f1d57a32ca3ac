// Command dixie runs and operates the reputation service.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // TZ works in images that have no files

	"github.com/alecthomas/kong"
)

// command is the command line. A setting is declared once: its flag, its
// variable, its default and its help are one field.
type command struct {
	Serve    serveCmd    `cmd:"" help:"Answer requests and project events."`
	Migrate  migrateCmd  `cmd:"" help:"Bring the database schema up to date, or show its state."`
	Import   importCmd   `cmd:"" help:"Append the events of an NDJSON file, to a database or through a server."`
	Export   exportCmd   `cmd:"" help:"Write the log as NDJSON, which import reads back to the same log."`
	Replay   replayCmd   `cmd:"" help:"Fold the history of a file or a database and show the reputations."`
	Status   statusCmd   `cmd:"" help:"Show how far the projections of a database have come, and who projects."`
	Failures failuresCmd `cmd:"" help:"List, show and try again the events that projections have set aside."`
	Rebuild  rebuildCmd  `cmd:"" help:"Fold the log anew beside the stored rows of a database and put the result in their place."`
	Publish  publishCmd  `cmd:"" help:"Publish a part of the log to NATS again."`
	Verify   verifyCmd   `cmd:"" help:"Fold the log beside the stored rows of a database and tell what differs."`
	APIKey   apiKeyCmd   `cmd:"" name:"apikey" help:"Manage API keys."`
	Keygen   keygenCmd   `cmd:"" help:"Make a key that signs tokens."`
	Token    tokenCmd    `cmd:"" help:"Issue a token for a wallet, to try the service with."`
	Version  versionCmd  `cmd:"" help:"Print the version."`

	Healthcheck healthcheckCmd `cmd:"" help:"Ask a server whether it can serve: exit status 0 or 1."`
}

// console is where a command reads and writes. Results go to out; everything
// else, progress included, to err.
type console struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills the process
	err := run(ctx, os.Args[1:], &console{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "dixie:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, c *console) error {
	var cmd command
	parser, err := kong.New(&cmd,
		kong.Name("dixie"),
		kong.Description("An event-sourced reputation service for agents that are owned as NFTs."),
		kong.Writers(c.out, c.err),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(c),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return err
	}
	known := variablesOf(parser.Model)
	known.unsetEmpty()
	unreadable := unsetUnreadable(parser, args)
	chosen, err := parser.Parse(args)
	if err != nil {
		return fmt.Errorf("%w; see dixie --help", errors.Join(unreadable, err))
	}
	if unreadable != nil {
		return errors.Join(unreadable, checkSettings(ctx, chosen.Selected()))
	}
	err = chosen.Run(known)
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

// checkSettings reports what else is wrong with the settings of a command that
// cannot run.
func checkSettings(ctx context.Context, chosen *kong.Node) error {
	if command, ok := chosen.Target.Addr().Interface().(interface{ check(context.Context) error }); ok {
		return command.check(ctx)
	}
	return nil
}

type versionCmd struct{}

func (versionCmd) Run(c *console) error {
	_, err := fmt.Fprintln(c.out, "dixie", version())
	return err
}

// buildVersion is the version that a build was given:
// -ldflags '-X main.buildVersion=v1.2.3'.
var buildVersion string

// version is what the build was given, else that of the module, or of the commit
// that was built.
func version() string {
	if buildVersion != "" {
		return buildVersion
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			return "devel-" + setting.Value[:min(12, len(setting.Value))]
		}
	}
	return "devel"
}
