package main

import (
	"fmt"
	"log/slog"
	"time"

	"dixie/http"
	"dixie/identity"
)

// finnSettings say where finn is, and what it may see.
type finnSettings struct {
	URL              string        `name:"finn-url" env:"FINN_URL" placeholder:"URL" help:"Where finn is, which knows who owns which NFT and runs the agents' sessions. Without it the routes that need it answer 503."`
	Token            string        `name:"finn-auth-token" env:"FINN_AUTH_TOKEN" secret:"" placeholder:"TOKEN" help:"Bearer token that finn asks for."`
	Timeout          time.Duration `name:"finn-timeout" env:"FINN_TIMEOUT" default:"5s" help:"How long a request to finn may take."`
	ChatTimeout      time.Duration `name:"finn-chat-timeout" env:"FINN_CHAT_TIMEOUT" help:"How long finn may take to answer a message, or to begin with it when it streams; as long as any request when 0."`
	OwnershipWallets int           `name:"ownership-wallets" env:"DIXIE_OWNERSHIP_WALLETS" default:"10000" help:"Wallets whose NFTs are remembered, for five minutes each."`
	PublicReputation bool          `name:"public-reputation" env:"DIXIE_PUBLIC_REPUTATION" help:"Let anyone read GET /reputation/{nftId}, which finn asks without a key."`
}

// check reports what is wrong with the settings.
func (f finnSettings) check() error {
	finn, err := f.open(nil, slog.New(slog.DiscardHandler))
	finn.close()
	return err
}

// open connects to finn; nil without an error where there is none. seen, which may
// be nil, sees what is asked and what was remembered.
func (f finnSettings) open(seen *observation, logger *slog.Logger) (*finn, error) {
	if f.URL == "" {
		return nil, nil
	}
	config := identity.Config{BaseURL: f.URL, Token: f.Token, Timeout: f.Timeout, Outgoing: http.Outgoing, Logger: logger}
	remember := identity.ResolverConfig{Wallets: f.OwnershipWallets}
	if seen != nil {
		config.Transport = seen.FinnTransport(seen.traces.Transport(identity.NewTransport()))
		remember.Looked = seen.FinnCache
	}
	client, err := identity.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("finn-url, finn-auth-token: %w", err)
	}
	if seen != nil {
		seen.WatchBreaker(client.Circuit)
	}
	return &finn{client: client, resolver: identity.NewResolver(client, remember)}, nil
}

// apply adds finn, which may be nil, to a server's configuration.
func (f finnSettings) apply(c *http.Config, finn *finn) {
	c.ChatTimeout, c.PublicReputation = f.ChatTimeout, f.PublicReputation
	if finn != nil {
		c.Upstream, c.Ownership = finn, finn
	}
}
