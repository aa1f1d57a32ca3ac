package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

type healthcheckCmd struct {
	URL     string        `name:"url" placeholder:"URL" help:"Where the server is; on this machine, at the address and the port of its settings, when not given."`
	Live    bool          `help:"Ask only whether the process answers, and not whether it can serve."`
	Timeout time.Duration `default:"3s" help:"How long the answer may take."`

	Host string `env:"DIXIE_HOST" hidden:""`
	Port int    `env:"PORT,DIXIE_PORT" default:"3001" hidden:""`
}

// Help is shown by healthcheck --help.
func (*healthcheckCmd) Help() string {
	return `The exit status is 0 when the server can serve, and 1 when it cannot: nothing answers, or its database is away. It is 0
while finn is away, and however far projections are behind. It is made for container images without a shell.`
}

// Run asks a server how it is.
func (h *healthcheckCmd) Run(ctx context.Context, c *console) error {
	address, err := h.address()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	// A proxy of the environment has no part in it, and its answer would be no news.
	client := http.Client{Transport: &http.Transport{}, CheckRedirect: refuseRedirect}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("not healthy: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("not healthy: GET %s answered %s; the log of the server says why", address, response.Status)
	}
	_, err = fmt.Fprintln(c.out, "healthy")
	return err
}

func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// address is what is asked.
func (h *healthcheckCmd) address() (string, error) {
	base, path := h.URL, "/readyz?exclude=lag"
	if base == "" {
		base = "http://" + net.JoinHostPort(h.local(), strconv.Itoa(h.Port))
	}
	if h.Live {
		path = "/livez"
	}
	parsed, err := url.Parse(base)
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return "", fmt.Errorf("url must be one such as http://localhost:3001, found %s", quoteURL(base))
	}
	return strings.TrimSuffix(base, "/") + path, nil
}

// local is where a server that listens on Host can be reached on this machine. It is
// no name, as an image need not have a file that resolves localhost.
func (h *healthcheckCmd) local() string {
	if ip := net.ParseIP(h.Host); h.Host == "" || ip != nil && ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return h.Host
}
