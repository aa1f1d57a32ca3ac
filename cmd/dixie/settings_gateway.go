package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"dixie/http"
)

const (
	// minAdminKey is the least length of the administrators' key.
	minAdminKey = 16
	// defaultRequests and maxRequests are limits of requests a minute.
	defaultRequests = 100
	maxRequests     = 10_000
	// maxConnections is the greatest limit of connections: more need settings of the
	// operating system as well.
	maxConnections = 1_000_000
)

// gatewaySettings are who may call the service, and how often.
type gatewaySettings struct {
	AdminKey       string         `name:"admin-key" env:"DIXIE_ADMIN_KEY" secret:"" placeholder:"KEY" help:"Administrators' key, sent in X-Admin-Key; at least 16 characters. API keys with the scope admin work without it."`
	Origins        []string       `name:"cors-origins" env:"DIXIE_CORS_ORIGINS" placeholder:"ORIGIN" help:"Origins whose pages may use the API, such as https://dixie.example, or *; http://localhost and the port when not set."`
	TrustedProxies []netip.Prefix `name:"trusted-proxies" env:"DIXIE_TRUSTED_PROXIES" placeholder:"CIDR" help:"Networks of the proxies whose X-Forwarded-For is believed, such as 10.0.0.0/8; none when not set."`
	RequestLimit   *int           `name:"rate-limit-rpm" env:"DIXIE_RATE_LIMIT_RPM" placeholder:"100" help:"Requests a minute of each caller: the holder of an API key, a wallet, or else an address; at most 10,000, and any number when 0. When not set it is 100 for wallets and addresses, and any number for API keys and with --dev."`
	KeyLimit       *int           `name:"rate-limit-key-rpm" env:"DIXIE_RATE_LIMIT_KEY_RPM" placeholder:"N" help:"Requests a minute of the holder of an API key, instead; any number when 0. Services that append events one by one need many."`
	Connections    int            `name:"max-connections" env:"DIXIE_MAX_CONNECTIONS" default:"2000" placeholder:"2000" help:"Most open connections, idle ones included; more are answered with 503. Any number when 0."`
	Redis          string         `name:"redis-url" env:"REDIS_URL" secret:"" placeholder:"URL" help:"Taken, as deployments set it for the service before this one, and not used: each replica counts requests for itself."`
	Payment        string         `name:"x402-enabled" env:"DIXIE_X402_ENABLED" default:"false" placeholder:"true" help:"'true' marks every answer with X-Payment-Status: scaffold. No payment is asked for or processed."`
}

// check reports all that is wrong with the settings.
func (g gatewaySettings) check() error {
	var problems []error
	if n := len(g.AdminKey); n > 0 && n < minAdminKey {
		problems = append(problems, fmt.Errorf("DIXIE_ADMIN_KEY: must have at least %d characters, found %d", minAdminKey, n))
	}
	for _, origin := range g.Origins {
		if err := checkOrigin(origin); err != nil {
			problems = append(problems, fmt.Errorf("DIXIE_CORS_ORIGINS: %w", err))
		}
	}
	for name, limit := range map[string]*int{"DIXIE_RATE_LIMIT_RPM": g.RequestLimit, "DIXIE_RATE_LIMIT_KEY_RPM": g.KeyLimit} {
		if limit != nil && *limit < 0 {
			problems = append(problems, fmt.Errorf("%s: must not be negative, found %d", name, *limit))
		}
	}
	if g.Connections < 0 || g.Connections > maxConnections {
		problems = append(problems, fmt.Errorf("DIXIE_MAX_CONNECTIONS: must be between 0 and %d, found %d", maxConnections, g.Connections))
	}
	return errors.Join(problems...)
}

// checkOrigin refuses what no browser sends as an origin (RFC 6454 §6.1).
func checkOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	parsed, err := url.Parse(origin)
	if err != nil || parsed.Host == "" || origin != parsed.Scheme+"://"+parsed.Host || strings.Contains(parsed.Host, "*") {
		return fmt.Errorf("must be an origin such as https://dixie.example, or *, found %q", origin)
	}
	return nil
}

// limits are how often callers may call. API keys are not limited unless someone
// says so: operators hand them out, to services that may append thousands of events
// a second. A limit above the greatest is the greatest, as in the service before
// this one.
func (g gatewaySettings) limits(ctx context.Context, dev bool, logger *slog.Logger) http.RateLimits {
	if g.Redis != "" {
		logger.InfoContext(ctx, "REDIS_URL is not used: each replica counts requests for itself")
	}
	limits := http.RateLimits{Clients: defaultRequests}
	if dev {
		limits.Clients = 0
	}
	if g.RequestLimit != nil {
		if *g.RequestLimit > maxRequests {
			logger.WarnContext(ctx, "DIXIE_RATE_LIMIT_RPM is more than the greatest limit, which is used", "found", *g.RequestLimit, "limit", maxRequests)
		}
		limits.Clients = min(*g.RequestLimit, maxRequests)
		limits.Keys = limits.Clients
	}
	if g.KeyLimit != nil {
		limits.Keys = *g.KeyLimit
	}
	limits.SignIn = limits.Clients // counted apart, by address
	return limits
}

// origins are those of pages that may use the API: the service's own when none
// are configured.
func (g gatewaySettings) origins(port string) []string {
	if len(g.Origins) > 0 {
		return g.Origins
	}
	return []string{"http://localhost:" + port}
}

// named are origins without *, which no sign-in can be asked for from.
func named(origins []string) []string {
	return slices.DeleteFunc(slices.Clone(origins), func(origin string) bool { return origin == "*" })
}
