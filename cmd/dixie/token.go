package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"dixie/auth"
)

type keygenCmd struct {
	Out string `type:"path" placeholder:"FILE" help:"New file for the private key, readable by its owner alone. Without it the key is printed."`
}

// Run makes a key pair. The private key is all that goes to out when no file is given,
// so that it can be piped.
func (k *keygenCmd) Run(c *console) error {
	key, err := auth.NewSigningKey()
	if err != nil {
		return err
	}
	if k.Out == "" {
		fmt.Fprintf(c.err, "kid: %s\n%s", key.KeyID, key.Public)
		_, err = fmt.Fprint(c.out, key.Private)
		return err
	}
	if err := writeNewFile(k.Out, key.Private); err != nil {
		return fmt.Errorf("write the private key: %w", err)
	}
	_, err = fmt.Fprintf(c.out, "kid: %s\n%s", key.KeyID, key.Public)
	return err
}

// writeNewFile writes a file that its owner alone may read. It replaces none: a key
// that is lost is lost.
func writeNewFile(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.WriteString(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		_ = os.Remove(path)
	}
	return err
}

type tokenCmd struct {
	Wallet string        `required:"" help:"Wallet that the token is for: 0x and 40 hexadecimal digits."`
	Tokens tokenSettings `embed:""`
}

// Run issues a token. Only the allowlist of the server decides what it opens.
func (t *tokenCmd) Run(c *console) error {
	wallet, err := auth.ParseAddress(t.Wallet)
	if err != nil {
		err = fmt.Errorf("wallet: %w", err)
	}
	tokens, tokensErr := t.Tokens.open()
	if err := errors.Join(err, tokensErr); err != nil {
		return err
	}
	token, expires, err := tokens.Issue(wallet, time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(c.err, "%s token for %s, valid until %s\n", tokens.Algorithm(), wallet, expires.Format(time.RFC3339))
	_, err = fmt.Fprintln(c.out, token)
	return err
}
