package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/alecthomas/kong"
)

// variablePrefix begins the variables that are this program's alone.
const variablePrefix = "DIXIE_"

// secretTag marks flags whose values are never shown.
const secretTag = "secret"

// variables are the environment variables that some command reads.
type variables []string

// variablesOf collects the variables of all flags of all commands.
func variablesOf(app *kong.Application) variables {
	var known variables
	_ = kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			known = append(known, flag.Envs...)
		}
		return next(nil)
	})
	slices.Sort(known)
	return slices.Compact(known)
}

// warnUnknown names the variables of an environment that look like this program's
// and are not: a setting whose name is misspelt would otherwise be ignored in
// silence. Their values are nobody's business.
func (v variables) warnUnknown(ctx context.Context, environ []string, logger *slog.Logger) {
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, variablePrefix) || slices.Contains(v, name) {
			continue
		}
		if near := v.nearest(name); near != "" {
			logger.WarnContext(ctx, "unknown variable is ignored", "variable", name, "did_you_mean", near)
		} else {
			logger.WarnContext(ctx, "unknown variable is ignored", "variable", name)
		}
	}
}

// nearest is the known name that is least edits away, if they are few for its
// length.
func (v variables) nearest(name string) string {
	near, least := "", len(name)/4+1
	for _, known := range v {
		if distance := levenshtein.ComputeDistance(name, known); distance < least {
			near, least = known, distance
		}
	}
	return near
}

// unsetEmpty makes variables that are empty ones that are not set: templates of
// deployments set what nobody filled in.
func (v variables) unsetEmpty() {
	for _, name := range v {
		if value, set := os.LookupEnv(name); set && value == "" {
			_ = os.Unsetenv(name) // fails only for names that cannot exist
		}
	}
}

// unsetUnreadable reports all variables of the command's that cannot be read, where
// the library would stop at the first, and unsets them, so that whatever else is
// wrong can be found too.
func unsetUnreadable(parser *kong.Kong, args []string) error {
	trace, err := kong.Trace(parser, args)
	if err != nil || trace.Selected() == nil {
		return nil // parsing says what is wrong with the arguments
	}
	var problems []error
	for _, flag := range slices.Concat(trace.Selected().AllFlags(false)...) {
		for _, name := range flag.Envs {
			value, set := os.LookupEnv(name)
			if !set {
				continue
			}
			if err := readable(flag, value); err != nil {
				problems = append(problems, fmt.Errorf("%s: %w", name, err))
				_ = os.Unsetenv(name)
			}
		}
	}
	return errors.Join(problems...)
}

// readable reports what is wrong with the value of a flag.
func readable(flag *kong.Flag, value string) error {
	target := reflect.New(flag.Target.Type()).Elem()
	scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: value})
	err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, target)
	switch {
	case err != nil && flag.Tag.Has(secretTag):
		return errors.New("cannot be read")
	case err != nil:
		return err
	case flag.Enum != "" && !slices.Contains(flag.EnumSlice(), value):
		return fmt.Errorf("must be one of %s, found %q", strings.Trim(flag.Enum, ","), value)
	}
	return nil
}
