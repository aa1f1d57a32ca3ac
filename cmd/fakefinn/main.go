// Command fakefinn runs a stand-in for finn, the upstream service, to try and test
// the service with. It is well, slow, down or broken as its settings say, and as
// its control routes say later: see [fakefinn.Server.Control].
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/go-json-experiment/json"

	"dixie/internal/fakefinn"
)

type command struct {
	Serve       serveCmd       `cmd:"" default:"withargs" help:"Answer as finn does. The default."`
	Healthcheck healthcheckCmd `cmd:"" help:"Exit with status 0 when one serves on this machine, in whatever trouble, and else with 1."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fakefinn:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var cmd command
	parser, err := kong.New(&cmd,
		kong.Name("fakefinn"),
		kong.Description("A stand-in for finn, for tests."),
		kong.Writers(out, os.Stderr),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(out, (*io.Writer)(nil)),
	)
	if err != nil {
		return err
	}
	chosen, err := parser.Parse(args)
	if err != nil {
		return err
	}
	return chosen.Run()
}

type serveCmd struct {
	Addr    string           `env:"FAKEFINN_ADDR" default:":3000" help:"Address to listen on."`
	NFTs    []string         `name:"nft" env:"FAKEFINN_NFTS" placeholder:"WALLET=COLLECTION:TOKEN" help:"NFTs of wallets, separated by commas."`
	Shape   fakefinn.Shape   `env:"FAKEFINN_SHAPE" default:"lists" help:"Form of the identity routes: lists, as finn is today, objects or names."`
	Trouble fakefinn.Trouble `env:"FAKEFINN_TROUBLE" default:"well" help:"What is wrong: well, slow, down, broken (500), rubbish (no JSON) or flapping."`
	Only    string           `env:"FAKEFINN_ONLY" placeholder:"TEXT" help:"Paths that the trouble is limited to: those that contain the text."`
	Delay   time.Duration    `env:"FAKEFINN_DELAY" default:"2s" help:"How late the answers of a slow finn are."`
	Pause   time.Duration    `env:"FAKEFINN_PAUSE" help:"Time between two pieces of a stream."`
	Token   string           `env:"FINN_AUTH_TOKEN" placeholder:"TOKEN" help:"Bearer token to ask for."`
	Reply   string           `env:"FAKEFINN_REPLY" default:"{}" placeholder:"JSON" help:"Further members of the answer to a message."`
}

// Run serves until ctx ends.
func (s serveCmd) Run(ctx context.Context, out io.Writer) error {
	finn, err := s.finn()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.Addr)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "fakefinn is ready at", listener.Addr())
	mux := http.NewServeMux()
	mux.Handle("/", finn)
	mux.Handle("/control", finn.Control())
	mux.Handle("/control/", finn.Control())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stopped := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stopped()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// finn is one as the settings say.
func (s serveCmd) finn() (*fakefinn.Server, error) {
	finn := fakefinn.New()
	reply := map[string]any{}
	if err := json.Unmarshal([]byte(s.Reply), &reply); err != nil {
		return nil, fmt.Errorf("reply: %w", err)
	}
	finn.Change(func(b *fakefinn.Behaviour) {
		*b = fakefinn.Behaviour{
			Shape: s.Shape, Trouble: s.Trouble, Only: s.Only, Delay: s.Delay, Pause: s.Pause, Token: s.Token, Reply: reply,
		}
	})
	owned, err := parseNFTs(s.NFTs)
	for wallet, nfts := range owned {
		finn.Give(wallet, nfts...)
	}
	return finn, err
}

// parseNFTs reads WALLET=COLLECTION:TOKEN.
func parseNFTs(texts []string) (map[string][]fakefinn.NFT, error) {
	owned := map[string][]fakefinn.NFT{}
	for _, text := range texts {
		wallet, id, _ := strings.Cut(text, "=")
		collection, token, ok := strings.Cut(id, ":")
		if !ok {
			return nil, fmt.Errorf("nft: must be WALLET=COLLECTION:TOKEN, found %q", text)
		}
		owned[wallet] = append(owned[wallet], fakefinn.NFT{Collection: collection, Token: token})
	}
	return owned, nil
}

// healthcheckCmd asks a control route, which answers in any trouble: whoever waits
// for this process to be there may have put it in trouble from the start.
type healthcheckCmd struct {
	URL string `default:"http://localhost:3000" help:"Where it serves."`
}

// Run fails when nothing serves.
func (h healthcheckCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.URL+"/control", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}
