package main

import (
	"strings"
	"testing"
)

func TestObserveSettings(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		settings observeSettings
		wrong    []string // parts of the message; none: nothing is wrong
	}{
		"nothing":            {},
		"loopback":           {settings: observeSettings{MetricsAddr: ":9464", PprofAddr: "127.0.0.1:6060"}},
		"another loopback":   {settings: observeSettings{MetricsAddr: "10.0.0.7:9464", PprofAddr: "127.8.9.10:0"}},
		"loopback by name":   {settings: observeSettings{PprofAddr: "localhost:6060"}},
		"loopback of IPv6":   {settings: observeSettings{PprofAddr: "[::1]:6060"}},
		"no port":            {settings: observeSettings{MetricsAddr: "10.0.0.7", PprofAddr: "localhost"}, wrong: []string{`metrics-addr must be HOST:PORT, found "10.0.0.7"`, `pprof-addr must be HOST:PORT, found "localhost"`}},
		"all addresses":      {settings: observeSettings{PprofAddr: ":6060"}, wrong: []string{"loopback", `":6060"`}},
		"all of IPv4":        {settings: observeSettings{PprofAddr: "0.0.0.0:6060"}, wrong: []string{"loopback"}},
		"all of IPv6":        {settings: observeSettings{PprofAddr: "[::]:6060"}, wrong: []string{"loopback"}},
		"a private network":  {settings: observeSettings{PprofAddr: "192.168.1.2:6060"}, wrong: []string{"loopback"}},
		"a name":             {settings: observeSettings{PprofAddr: "example.com:6060"}, wrong: []string{"loopback"}},
		"a name that begins": {settings: observeSettings{PprofAddr: "localhost.example.com:6060"}, wrong: []string{"loopback"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tt.settings.check()
			if (err != nil) != (len(tt.wrong) > 0) {
				t.Fatalf("error %v", err)
			}
			for _, part := range tt.wrong {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %v, want one with %q", err, part)
				}
			}
		})
	}
}
