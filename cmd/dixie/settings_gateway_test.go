package main

import (
	"log/slog"
	"strings"
	"testing"

	"dixie/http"
)

// TestLimits: one setting limits everybody; without it API keys are free.
func TestLimits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		all, keys *int
		dev       bool
		want      http.RateLimits
	}{
		"nothing set":                 {nil, nil, false, http.RateLimits{Clients: 100, SignIn: 100}},
		"nothing set, in development": {nil, nil, true, http.RateLimits{}},
		"one for all":                 {new(7), nil, false, http.RateLimits{Clients: 7, Keys: 7, SignIn: 7}},
		"one for all, in development": {new(7), nil, true, http.RateLimits{Clients: 7, Keys: 7, SignIn: 7}},
		"another for keys":            {new(7), new(9), false, http.RateLimits{Clients: 7, Keys: 9, SignIn: 7}},
		"none for keys":               {new(7), new(0), false, http.RateLimits{Clients: 7, SignIn: 7}},
		"only for keys":               {nil, new(9), false, http.RateLimits{Clients: 100, Keys: 9, SignIn: 100}},
		"none":                        {new(0), nil, false, http.RateLimits{}},
		"more than the greatest":      {new(20_000), nil, false, http.RateLimits{Clients: 10_000, Keys: 10_000, SignIn: 10_000}},
		"many for keys":               {nil, new(1_000_000), false, http.RateLimits{Clients: 100, Keys: 1_000_000, SignIn: 100}},
	} {
		settings := gatewaySettings{RequestLimit: tt.all, KeyLimit: tt.keys}
		if got := settings.limits(t.Context(), tt.dev, slog.New(slog.DiscardHandler)); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

func TestCheckOrigin(t *testing.T) {
	t.Parallel()
	for origin, sound := range map[string]bool{
		"*": true, "https://dixie.example": true, "http://localhost:3001": true, "http://[::1]:3001": true, "app://dixie": true,
		"": false, "dixie.example": false, "https://": false, "https://dixie.example/": false, "https://dixie.example/path": false,
		"https://*.example": false, "//dixie.example": false, "https://me@dixie.example": false, "https://dixie.example?a": false,
		"https://dixie.example#a": false, "https://a b": false, "null": false,
	} {
		if err := checkOrigin(origin); (err == nil) != sound {
			t.Errorf("%q: %v", origin, err)
		}
	}
}

// TestNearest: a setting that is meant is found, and none where none is.
func TestNearest(t *testing.T) {
	t.Parallel()
	known := variables{"DIXIE_ADMIN_KEY", "DIXIE_CORS_ORIGINS", "DIXIE_HOST", "DIXIE_PORT", "DIXIE_RATE_LIMIT_RPM"}
	for name, want := range map[string]string{
		"DIXIE_CORS_ORIGIN": "DIXIE_CORS_ORIGINS", "DIXIE_ADMINKEY": "DIXIE_ADMIN_KEY", "DIXIE_RATE_LIMIT": "DIXIE_RATE_LIMIT_RPM",
		"DIXIE_PROT": "DIXIE_PORT", "DIXIE_CONVICTION_TIER_TTL": "", "DIXIE_X": "",
	} {
		if got := known.nearest(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var log strings.Builder
	known.warnUnknown(t.Context(), []string{"DIXIE_HOST=a", "DIXIE_HSOT=hidden", "HOME=b", "DIXIE_"}, slog.New(slog.NewTextHandler(&log, nil)))
	if text := log.String(); strings.Count(text, "variable=") != 2 || !strings.Contains(text, "variable=DIXIE_HSOT did_you_mean=DIXIE_HOST") || strings.Contains(text, "hidden") {
		t.Errorf("the log says %s", text)
	}
}

// TestRedisIsNotUsed: whoever sets REDIS_URL learns that it does nothing, and the log
// does not learn its password.
func TestRedisIsNotUsed(t *testing.T) {
	t.Parallel()
	for url, told := range map[string]bool{"": false, "redis://:hidden@redis:6379": true} {
		var log strings.Builder
		gatewaySettings{Redis: url}.limits(t.Context(), false, slog.New(slog.NewTextHandler(&log, nil)))
		if text := log.String(); strings.Contains(text, "REDIS_URL is not used") != told || strings.Contains(text, "hidden") {
			t.Errorf("with %q the log says %q", url, text)
		}
	}
}
