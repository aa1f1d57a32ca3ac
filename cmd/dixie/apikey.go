package main

import (
	"fmt"
	"time"

	"dixie/auth"
)

type apiKeyCmd struct {
	New apiKeyNewCmd `cmd:"" help:"Make an API key, print it once, and store its hash."`
}

type apiKeyNewCmd struct {
	Name      string `required:"" help:"Name of the key's holder, for the log."`
	Scopes    string `default:"read" help:"What the holder may do: read, append and admin, separated by commas."`
	Allowlist string `name:"allowlist-path" env:"DIXIE_ALLOWLIST_PATH" default:"/data/allowlist.json" type:"path" help:"File to store the key's hash in. A running server reads it when it starts."`
}

// Run makes a key.
func (a *apiKeyNewCmd) Run(c *console) error {
	scopes, err := auth.ParseScopes(a.Scopes)
	if err != nil {
		return err
	}
	secret, key := auth.NewKey(a.Name, scopes, time.Now())
	if err := auth.AddToFile(a.Allowlist, key); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, secret)
	return err
}
