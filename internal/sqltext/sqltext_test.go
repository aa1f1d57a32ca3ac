// Package sqltext_test looks at how the SQL of the service is made.
package sqltext_test

import (
	"fmt"
	"go/ast"
	"go/types"
	"maps"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/go/packages"
)

// takesSQL are the methods of pgx, and of interfaces that it implements, that take a
// statement as their first text.
var takesSQL = []string{"Exec", "ExecParams", "ExecPrepared", "Query", "QueryRow", "Queue", "Prepare", "SendBatch", "CopyFrom", "CopyTo", "ExecBatch"}

// composed are the functions that give the database a statement which is not a constant
// or the name of a table (pgx.Identifier.Sanitize) within constants, with what it is
// made of. Values that callers or rows bring are never among it: they are parameters.
var composed = map[string]string{
	"migrations.queryOne": "passes constants of its callers on",
	"migrations.apply":    "runs the embedded files",
	"migrations.Roles":    "runs an embedded file",

	"projections.queueAgents":               "the table's name is a constant, or one that pgx has quoted",
	"projections.queueCollections":          "the table's name is a constant, or one that pgx has quoted",
	"projections.queueMembers":              "the table's name is a constant, or one that pgx has quoted",
	"projections.queueCohorts":              "the table's name is a constant, or one that pgx has quoted",
	"projections.queueCleared":              "the table's name is a constant",
	"projections.loader.copyRows":           "the table's name is quoted by pgx, and its columns are constants",
	"projections.aside.merge":               "the table's name is quoted by pgx",
	"projections.rebuild.prepare":           "names of tables, quoted by pgx",
	"projections.rebuild.clear":             "names of tables, quoted by pgx",
	"projections.rebuild.replace":           "names of tables, quoted by pgx",
	"projections.runAll":                    "statements about tables, whose names PostgreSQL (format with %I, %L and its own definitions) or pgx has quoted",
	"projections.texts":                     "passes constants of its callers on, and statements that PostgreSQL has made with format, %I and %L",
	"projections.Postgres.listAggregates":   "one of two constants",
	"projections.Postgres.decodeRow":        "passes constants of its callers on",
	"projections.Postgres.LastRebuilds":     "constants that holdsLock puts together",
	"projections.Postgres.tenures":          "constants that holdsLock puts together",
	"projections.rebuild.secureLoading":     "constants that holdsLock puts together",
	"projections.logPipeline.read":          "COPY takes no parameters: two numbers and constants",
	"projections.snapshot.open":             "SET TRANSACTION takes no parameters: the name of a snapshot, which PostgreSQL has made",
	"projections.verification.compareTable": "passes constants of its callers on",
}

// TestStatementsAreConstant: SQL has what it is about in parameters. A statement that
// is put together stands in the list above, by the function that does it, with the
// reason why nobody can put something else into it.
func TestStatementsAreConstant(t *testing.T) {
	t.Parallel()
	const mode = packages.NeedName | packages.NeedFiles | packages.NeedSyntax | packages.NeedTypes | packages.NeedTypesInfo
	loaded, err := packages.Load(&packages.Config{Mode: mode, Dir: "../.."},
		"./auth/...", "./cmd/...", "./eventstore", "./http", "./identity", "./migrations", "./projections", "./reputation", "./internal/nats", "./internal/telemetry")
	if err != nil || packages.PrintErrors(loaded) > 0 {
		t.Fatal(err)
	}
	found, constant := map[string]bool{}, 0
	for _, p := range loaded {
		for _, file := range p.Syntax {
			for _, declaration := range file.Decls {
				ast.Inspect(declaration, func(n ast.Node) bool {
					call, ok := n.(*ast.CallExpr)
					if !ok {
						return true
					}
					statement := statementOf(p.TypesInfo, call)
					switch {
					case statement == nil:
					case safe(p.TypesInfo, statement):
						constant++
					default:
						where := p.Types.Name() + "." + nameOf(declaration)
						found[where] = true
						if composed[where] == "" {
							t.Errorf("%s: %s gives the database a statement that is not constant: put values into parameters",
								p.Fset.Position(call.Pos()), where)
						}
					}
					return true
				})
			}
		}
	}
	if constant < 60 {
		t.Errorf("only %d constant statements were found: the test looks in the wrong places", constant)
	}
	for _, where := range slices.Sorted(maps.Keys(composed)) {
		if !found[where] {
			t.Errorf("%s puts no statement together any more: remove it from the list", where)
		}
	}
}

// statementOf is the statement of a call that takes one, and nil for other calls.
func statementOf(info *types.Info, call *ast.CallExpr) ast.Expr {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !slices.Contains(takesSQL, selector.Sel.Name) {
		return nil
	}
	method, ok := info.Uses[selector.Sel].(*types.Func)
	if !ok || method.Pkg() == nil || !ofDatabase(method) {
		return nil
	}
	for _, argument := range call.Args {
		if basic, ok := info.TypeOf(argument).Underlying().(*types.Basic); ok && basic.Info()&types.IsString != 0 {
			return argument
		}
	}
	return nil
}

// ofDatabase reports whether a method is pgx's, or of an interface of ours that has
// pgx's types in it.
func ofDatabase(method *types.Func) bool {
	return strings.HasPrefix(method.Pkg().Path(), "github.com/jackc/pgx/") ||
		strings.Contains(method.Signature().String(), "github.com/jackc/pgx/")
}

// safe reports whether a statement is constant, but for names of tables that pgx has
// quoted.
func safe(info *types.Info, statement ast.Expr) bool {
	if value, ok := info.Types[statement]; ok && value.Value != nil {
		return true
	}
	switch e := statement.(type) {
	case *ast.ParenExpr:
		return safe(info, e.X)
	case *ast.BinaryExpr:
		return safe(info, e.X) && safe(info, e.Y)
	case *ast.CallExpr:
		selector, ok := e.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		method, ok := info.Uses[selector.Sel].(*types.Func)
		return ok && method.FullName() == "(github.com/jackc/pgx/v5.Identifier).Sanitize"
	}
	return false
}

// nameOf is the name of a function, with its receiver, or of the first variable.
func nameOf(declaration ast.Decl) string {
	function, ok := declaration.(*ast.FuncDecl)
	switch {
	case !ok:
		return "variable"
	case function.Recv == nil:
		return function.Name.Name
	}
	receiver := function.Recv.List[0].Type
	if pointer, ok := receiver.(*ast.StarExpr); ok {
		receiver = pointer.X
	}
	if generic, ok := receiver.(*ast.IndexExpr); ok {
		receiver = generic.X
	}
	return fmt.Sprint(receiver, ".", function.Name.Name)
}
