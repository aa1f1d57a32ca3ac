package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"dixie/auth"
)

type apiKeyCmd struct {
	New    apiKeyNewCmd    `cmd:"" help:"Make an API key, print it once, and store its hash."`
	List   apiKeyListCmd   `cmd:"" help:"List the API keys: names, scopes, dates."`
	Rotate apiKeyRotateCmd `cmd:"" help:"Give an API key another secret and print it once. The former one stops working."`
	Remove apiKeyRemoveCmd `cmd:"" help:"Remove an API key, which stops working."`
}

// keyFile is the allowlist of a command. Servers that run take over what is changed.
type keyFile struct {
	Allowlist allowlistSettings `embed:""`
}

// open reads the allowlist; what is noteworthy about it goes to err.
func (f keyFile) open(c *console) (*auth.Allowlist, error) {
	return f.Allowlist.open(slog.New(slog.NewTextHandler(c.err, nil)))
}

type apiKeyNewCmd struct {
	keyFile
	Name   string `required:"" help:"Name of the key's holder, for the log."`
	Scopes string `default:"read" help:"What the holder may do: read, append and admin, separated by commas."`
}

// Run makes a key.
func (a *apiKeyNewCmd) Run(ctx context.Context, c *console) error {
	scopes, err := auth.ParseScopes(a.Scopes)
	if err != nil {
		return err
	}
	list, err := a.open(c)
	if err != nil {
		return err
	}
	now := time.Now()
	secret, key := auth.NewKey(a.Name, scopes, now)
	if err := list.AddKey(ctx, key, now); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, secret)
	return err
}

type apiKeyListCmd struct {
	keyFile
}

// Run lists the keys.
func (a *apiKeyListCmd) Run(c *console) error {
	list, err := a.open(c)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tSCOPES\tCREATED\tSHA-256")
	for _, key := range list.Entries().Keys {
		var scopes []string
		for _, scope := range key.Scopes {
			scopes = append(scopes, string(scope))
		}
		digest := strings.TrimPrefix(key.Hash, "sha256:")
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", key.Name, strings.Join(scopes, ","), key.CreatedAt.UTC().Format(time.RFC3339), digest[:8])
	}
	return table.Flush()
}

type apiKeyRotateCmd struct {
	keyFile
	Name string `arg:"" help:"Name of the key."`
}

// Run gives a key another secret.
func (a *apiKeyRotateCmd) Run(ctx context.Context, c *console) error {
	list, err := a.open(c)
	if err != nil {
		return err
	}
	secret, _, err := list.RotateKey(ctx, a.Name, time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, secret)
	return err
}

type apiKeyRemoveCmd struct {
	keyFile
	Name string `arg:"" help:"Name of the key."`
}

// Run removes a key.
func (a *apiKeyRemoveCmd) Run(ctx context.Context, c *console) error {
	list, err := a.open(c)
	if err != nil {
		return err
	}
	if err := list.RemoveKey(ctx, a.Name, time.Now()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "removed %q\n", a.Name)
	return err
}
