package main

import (
	"errors"
	"fmt"
	"net"
)

// observeSettings say where operators can look. Traces have further settings, the
// standard variables OTEL_….
type observeSettings struct {
	MetricsAddr string `name:"metrics-addr" env:"DIXIE_METRICS_ADDR" placeholder:"HOST:PORT" help:"Address to serve /metrics on, instead of the port of the API."`
	PprofAddr   string `name:"pprof-addr" env:"DIXIE_PPROF_ADDR" placeholder:"HOST:PORT" help:"Loopback address to serve profiles on, below /debug/pprof/; none when empty."`
	OTLP        string `name:"otlp-endpoint" env:"OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" help:"Collector that takes traces over OTLP/HTTP, such as http://localhost:4318; no traces when empty."`
}

// check tells all that is wrong with the addresses.
func (o observeSettings) check() error {
	var errs []error
	if _, _, err := net.SplitHostPort(o.MetricsAddr); o.MetricsAddr != "" && err != nil {
		errs = append(errs, fmt.Errorf("metrics-addr must be HOST:PORT, found %q", o.MetricsAddr))
	}
	host, _, err := net.SplitHostPort(o.PprofAddr)
	switch {
	case o.PprofAddr == "":
	case err != nil:
		errs = append(errs, fmt.Errorf("pprof-addr must be HOST:PORT, found %q", o.PprofAddr))
	case host != "localhost" && !net.ParseIP(host).IsLoopback():
		errs = append(errs, fmt.Errorf("pprof-addr must be a loopback address such as localhost:6060, as profiles show the process' memory, found %q", o.PprofAddr))
	}
	return errors.Join(errs...)
}
