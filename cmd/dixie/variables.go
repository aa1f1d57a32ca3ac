package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/alecthomas/kong"
)

// variablePrefix begins the variables that are this program's alone.
const variablePrefix = "DIXIE_"

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
	near, least := "", len(name)/3+1
	for _, known := range v {
		if distance := levenshtein.ComputeDistance(name, known); distance < least {
			near, least = known, distance
		}
	}
	return near
}
