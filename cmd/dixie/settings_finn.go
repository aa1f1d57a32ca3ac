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

// open connects to finn; nil without an error where there is none.
func (f finnSettings) open(logger *slog.Logger) (*finn, error) {
	if f.URL == "" {
		return nil, nil
	}
	client, err := identity.NewClient(identity.Config{
		BaseURL: f.URL, Token: f.Token, Timeout: f.Timeout, Outgoing: http.Outgoing, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("finn-url, finn-auth-token: %w", err)
	}
	resolver := identity.NewResolver(client, identity.ResolverConfig{Wallets: f.OwnershipWallets})
	return &finn{client: client, resolver: resolver}, nil
}

// apply adds finn, which may be nil, to a server's configuration.
func (f finnSettings) apply(c *http.Config, finn *finn) {
	c.ChatTimeout, c.PublicReputation = f.ChatTimeout, f.PublicReputation
	if finn != nil {
		c.Upstream, c.Ownership = finn, finn
	}
}
