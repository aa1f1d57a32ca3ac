package main

import "fmt"

// readSettings are the settings of reading what reputations are.
type readSettings struct {
	AnswerMiB int `name:"answer-cache-mib" env:"DIXIE_ANSWER_CACHE_MIB" default:"32" help:"Memory for answers about single agents that are kept while nothing changes, in MiB, 0 to 4096; an agent takes about 1.5 KiB. 0 keeps none."`
}

func (r readSettings) check() error {
	if r.AnswerMiB < 0 || r.AnswerMiB > 4096 {
		return fmt.Errorf("answer-cache-mib must be between 0 and 4096, found %d", r.AnswerMiB)
	}
	return nil
}

// bytes is the size for [http.Config], where 0 means a default.
func (r readSettings) bytes() int {
	if r.AnswerMiB == 0 {
		return -1
	}
	return r.AnswerMiB << 20
}
