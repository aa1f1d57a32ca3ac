package main

import "time"

// past are the settings of reading what reputations were.
type past struct {
	MaxEvents   int64         `name:"history-max-events" env:"DIXIE_HISTORY_MAX_EVENTS" default:"500000" help:"Most events that one answer about the past may be folded from."`
	Concurrency int           `name:"history-concurrency" env:"DIXIE_HISTORY_CONCURRENCY" default:"2" help:"Most requests that read the past at the same time."`
	Timeout     time.Duration `name:"history-timeout" env:"DIXIE_HISTORY_TIMEOUT" default:"30s" help:"How long a request may read the past."`
}
