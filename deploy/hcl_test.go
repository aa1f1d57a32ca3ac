package deploy_test

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// terraform is a configuration, read without Terraform and without a provider.
// What only the cloud would know is a text that says what it is:
// "aws_security_group.dixie.id".
type terraform struct {
	t      testing.TB
	files  []string
	blocks []*hclsyntax.Block
	scope  *hcl.EvalContext
}

// readTerraform reads the configuration with values of variables; the others have
// their defaults.
func readTerraform(t testing.TB, variables map[string]cty.Value) *terraform {
	t.Helper()
	files, err := filepath.Glob("terraform/*.tf")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	tf := &terraform{t: t, files: files, scope: &hcl.EvalContext{Functions: functions, Variables: map[string]cty.Value{}}}
	parser := hclparse.NewParser()
	for _, name := range files {
		file, problems := parser.ParseHCLFile(name)
		if problems.HasErrors() {
			t.Fatal(problems)
		}
		tf.blocks = append(tf.blocks, file.Body.(*hclsyntax.Body).Blocks...)
	}
	tf.setVariables(variables)
	tf.setUnknown()
	tf.setLocals()
	return tf
}

// all are the blocks of a type, and of these first labels if any.
func (tf *terraform) all(kind string, labels ...string) (found []*hclsyntax.Block) {
	for _, block := range tf.blocks {
		if block.Type == kind && len(block.Labels) >= len(labels) && slices.Equal(block.Labels[:len(labels)], labels) {
			found = append(found, block)
		}
	}
	return found
}

// one is a block that must be there once.
func (tf *terraform) one(kind string, labels ...string) *hclsyntax.Block {
	tf.t.Helper()
	found := tf.all(kind, labels...)
	if len(found) != 1 {
		tf.t.Fatalf("%s %v is there %d times", kind, labels, len(found))
	}
	return found[0]
}

// inner is a block within one.
func (tf *terraform) inner(block *hclsyntax.Block, kind string) *hclsyntax.Block {
	tf.t.Helper()
	at := slices.IndexFunc(block.Body.Blocks, func(b *hclsyntax.Block) bool { return b.Type == kind })
	if at < 0 {
		tf.t.Fatalf("%s %v has no %s", block.Type, block.Labels, kind)
	}
	return block.Body.Blocks[at]
}

func (tf *terraform) value(expression hcl.Expression, scope *hcl.EvalContext) cty.Value {
	tf.t.Helper()
	value, problems := expression.Value(scope)
	if problems.HasErrors() {
		tf.t.Fatal(problems)
	}
	return value
}

// attribute is the value of one, and null when the block has none.
func (tf *terraform) attribute(block *hclsyntax.Block, name string) cty.Value {
	tf.t.Helper()
	attribute := block.Body.Attributes[name]
	if attribute == nil {
		return cty.NullVal(cty.DynamicPseudoType)
	}
	return tf.value(attribute.Expr, tf.scope)
}

// text is an attribute as text; "" when there is none.
func (tf *terraform) text(block *hclsyntax.Block, name string) string {
	tf.t.Helper()
	return asText(tf.attribute(block, name))
}

func asText(value cty.Value) string {
	text, err := convert.Convert(value, cty.String)
	if err != nil || text.IsNull() {
		return ""
	}
	return text.AsString()
}

// texts are the elements of an attribute that is a list.
func (tf *terraform) texts(block *hclsyntax.Block, name string) (texts []string) {
	tf.t.Helper()
	value := tf.attribute(block, name)
	for it := value.ElementIterator(); it.Next(); {
		_, element := it.Element()
		texts = append(texts, asText(element))
	}
	return texts
}

func (tf *terraform) setVariables(given map[string]cty.Value) {
	tf.t.Helper()
	values := maps.Clone(given)
	for _, block := range tf.all("variable") {
		name := block.Labels[0]
		if _, ok := values[name]; ok {
			continue
		}
		value := cty.NullVal(cty.DynamicPseudoType)
		if fallback := block.Body.Attributes["default"]; fallback != nil {
			value = tf.value(fallback.Expr, tf.scope)
		}
		values[name] = value
	}
	tf.scope.Variables["var"] = cty.ObjectVal(values)
}

// references are all that expressions name.
func (tf *terraform) references() (all []hcl.Traversal) {
	for _, block := range tf.blocks {
		_ = hclsyntax.VisitAll(block.Body, func(node hclsyntax.Node) hcl.Diagnostics {
			if expression, ok := node.(*hclsyntax.ScopeTraversalExpr); ok {
				all = append(all, expression.Traversal)
			}
			return nil
		})
	}
	return all
}

// namesOf is a reference as far as it has names.
func namesOf(reference hcl.Traversal) (names []string) {
	for _, step := range reference {
		switch step := step.(type) {
		case hcl.TraverseRoot:
			names = append(names, step.Name)
		case hcl.TraverseAttr:
			names = append(names, step.Name)
		default:
			return names
		}
	}
	return names
}

// setUnknown gives everything that is not known here a text.
func (tf *terraform) setUnknown() {
	tree := map[string]any{}
	for _, reference := range tf.references() {
		names := namesOf(reference)
		if names[0] != "data" && !strings.HasPrefix(names[0], "aws_") {
			continue
		}
		branch := tree
		for i, name := range names {
			if i == len(names)-1 && i >= 2 && !(names[0] == "data" && i == 2) {
				branch[name] = strings.Join(names, ".")
				break
			}
			if branch[name] == nil {
				branch[name] = map[string]any{}
			}
			branch = branch[name].(map[string]any)
		}
	}
	for name, branch := range tree {
		tf.scope.Variables[name] = toValue(branch)
	}
}

func toValue(v any) cty.Value {
	if text, ok := v.(string); ok {
		return cty.StringVal(text)
	}
	members := map[string]cty.Value{}
	for name, member := range v.(map[string]any) {
		members[name] = toValue(member)
	}
	return cty.ObjectVal(members)
}

// setLocals evaluates what may refer to each other until all is known.
func (tf *terraform) setLocals() {
	tf.t.Helper()
	known, left := map[string]cty.Value{}, map[string]hcl.Expression{}
	for _, block := range tf.all("locals") {
		for name, attribute := range block.Body.Attributes {
			left[name] = attribute.Expr
		}
	}
	for range len(left) + 1 {
		tf.scope.Variables["local"] = cty.ObjectVal(known)
		for name, expression := range left {
			if value, problems := expression.Value(tf.scope); !problems.HasErrors() {
				known[name] = value
				delete(left, name)
			}
		}
	}
	for name, expression := range left {
		_, problems := expression.Value(tf.scope)
		tf.t.Fatalf("local.%s: %v", name, problems)
	}
}

// functions are those of Terraform's that are used.
var functions = map[string]function.Function{
	"can": tryfunc.CanFunc, "try": tryfunc.TryFunc, "regex": stdlib.RegexFunc, "join": stdlib.JoinFunc,
	"jsonencode": stdlib.JSONEncodeFunc, "merge": stdlib.MergeFunc, "values": stdlib.ValuesFunc, "length": stdlib.LengthFunc,
	"contains": stdlib.ContainsFunc, "floor": stdlib.FloorFunc,
	"tostring": stdlib.MakeToFunc(cty.String), "tonumber": stdlib.MakeToFunc(cty.Number), "toset": stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
	"startswith": textTest(strings.HasPrefix), "endswith": textTest(strings.HasSuffix), "strcontains": textTest(strings.Contains),
	"alltrue": function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for it := args[0].ElementIterator(); it.Next(); {
				if _, value := it.Element(); value.False() {
					return cty.False, nil
				}
			}
			return cty.True, nil
		},
	}),
	"cidrnetmask": function.New(&function.Spec{ // which here only tells whether it is a network
		Params: []function.Parameter{{Name: "prefix", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			prefix, err := netip.ParsePrefix(args[0].AsString())
			if err == nil && !prefix.Addr().Is4() {
				err = fmt.Errorf("not IPv4: %s", prefix)
			}
			return args[0], err
		},
	}),
}

func textTest(test func(s, part string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "text", Type: cty.String}, {Name: "part", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(test(args[0].AsString(), args[1].AsString())), nil
		},
	})
}
