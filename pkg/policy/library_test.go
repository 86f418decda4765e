package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/format"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"
)

var update = flag.Bool("update", false, "rewrite golden files")

var libraryDir = filepath.Join("..", "..", "deploy", "policy")

// minCoverage is the share of each bundle's lines, in percent, that its tests must reach.
const minCoverage = 90

// bundles are the directories of the policy library that hold Rego.
func bundles(t *testing.T) []Source {
	t.Helper()
	dirs, err := os.ReadDir(libraryDir)
	if err != nil {
		t.Fatal(err)
	}
	var found []Source
	for _, d := range dirs {
		if d.IsDir() && d.Name() != "schemas" {
			found = append(found, library(t, d.Name()))
		}
	}
	if len(found) == 0 {
		t.Fatal("the policy library is empty")
	}
	return found
}

func TestLibraryPassesItsOwnCheck(t *testing.T) {
	all := bundles(t)
	for _, src := range all {
		if err := Check(src); err != nil {
			t.Errorf("%s: %v", src.Name, err)
		}
	}
	if _, err := Assemble(all, ""); err != nil {
		t.Errorf("all together: %v", err)
	}
}

func TestLibraryIsFormatted(t *testing.T) {
	check := func(file, text string) {
		formatted, err := format.SourceWithOpts(file, []byte(text), format.Opts{RegoVersion: ast.RegoV1})
		if err != nil {
			t.Errorf("%s: %v", file, err)
		} else if string(formatted) != text {
			t.Errorf("%s is not formatted; want\n%s", file, formatted)
		}
	}
	check("system.rego", systemModule)
	for _, src := range bundles(t) {
		for file, text := range src.Modules {
			check(src.Name+"/"+file, text)
		}
	}
}

func TestLibraryIsCovered(t *testing.T) {
	for _, src := range bundles(t) {
		parsed, err := parse(src.Modules)
		if err != nil {
			t.Fatal(err)
		}
		ctx, coverage, store := context.Background(), cover.New(), inmem.New()
		txn, err := store.NewTransaction(ctx)
		if err != nil {
			t.Fatal(err)
		}
		results, err := tester.NewRunner().SetCompiler(newCompiler()).SetStore(store).SetModules(parsed).
			SetCoverageQueryTracer(coverage).RaiseBuiltinErrors(true).RunTests(ctx, txn)
		if err != nil {
			t.Fatal(err)
		}
		tests := 0
		for r := range results {
			tests++
			if !r.Pass() {
				t.Errorf("%s", r)
			}
		}
		store.Abort(ctx, txn)
		policies := served(src.Modules)
		modules := map[string]*ast.Module{}
		for file := range policies {
			modules[file] = parsed[file]
		}
		report := coverage.Report(modules)
		for file := range policies {
			f := report.Files[file]
			if f == nil || f.Coverage < minCoverage {
				t.Errorf("%s/%s: coverage %+v, want %d %%", src.Name, file, f, minCoverage)
			} else {
				t.Logf("%s/%s: %d tests, coverage %.1f %%", src.Name, file, tests, f.Coverage)
			}
		}
	}
}

// TestRulesHaveIDs holds every denial, ours and the library's, to a title, a description and the label that is its reason's rule.
func TestRulesHaveIDs(t *testing.T) {
	all := map[string]string{"system.rego": systemModule}
	for _, src := range bundles(t) {
		for file, text := range served(src.Modules) {
			all[src.Name+"/"+file] = text
		}
	}
	parsed, err := parse(all)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for file, m := range parsed {
		set, errs := ast.BuildAnnotationSet([]*ast.Module{m})
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		for _, r := range m.Rules {
			name := r.Head.Ref().String()
			if name != "deny" && name != "denials" {
				continue
			}
			a := set.GetRuleScope(r)
			if len(a) != 1 || a[0].Title == "" || a[0].Description == "" {
				t.Errorf("%s: a denial without title and description", r.Location)
				continue
			}
			id, _ := a[0].Labels["rule"].(string)
			reason, ok := r.Head.Key.Value.(ast.Object)
			if id == "" || !ok || !reason.Get(ast.StringTerm("rule")).Equal(ast.StringTerm(id)) {
				t.Errorf("%s: label %q, reason %v", r.Location, id, r.Head.Key)
			}
			if other, ok := seen[id]; ok {
				t.Errorf("%s: %s is taken by %s", r.Location, id, other)
			}
			seen[id] = file
		}
	}
	if len(seen) < 12 {
		t.Errorf("only %d rules: %v", len(seen), seen)
	}
}

// TestReadmeExamplesPass checks every module that the library's documentation shows.
func TestReadmeExamplesPass(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(libraryDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(raw), "```rego\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("no example")
	}
	for _, b := range blocks {
		module, _, _ := strings.Cut(b, "```")
		if err := Check(Source{Name: "my-name", Modules: map[string]string{"readme.rego": module}}); err != nil {
			t.Error(err)
		}
		if formatted, err := format.Source("readme.rego", []byte(module)); err != nil || string(formatted) != module {
			t.Errorf("not formatted (%v); want\n%s", err, formatted)
		}
	}
}

func TestGoldenFiles(t *testing.T) {
	caps := Capabilities()
	for i, b := range caps.Builtins {
		caps.Builtins[i] = b.Minimal()
	}
	for file, content := range map[string]any{
		filepath.Join("schemas", "input.json"): InputSchema(),
		"capabilities.json":                    caps,
	} {
		var want bytes.Buffer
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(content); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(libraryDir, file)
		if *update {
			if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%s is not what the code says: run go test ./pkg/policy -run TestGoldenFiles -update and review the difference", path)
		}
	}
}

// TestCapabilitiesFileServesAuthors compiles the library as an author would: with the files alone.
func TestCapabilitiesFileServesAuthors(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(libraryDir, "capabilities.json"))
	if err != nil {
		t.Fatal(err)
	}
	caps, err := ast.LoadCapabilitiesJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	raw, err = os.ReadFile(filepath.Join(libraryDir, "schemas", "input.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema any
	if err := json.Unmarshal(raw, &schema); err != nil {
		t.Fatal(err)
	}
	compile := func(modules map[string]string) error {
		parsed, err := parse(modules)
		if err != nil {
			return err
		}
		schemas := ast.NewSchemaSet()
		schemas.Put(ast.SchemaRootRef, schema)
		c := ast.NewCompiler().WithCapabilities(caps).WithStrict(true).WithSchemas(schemas)
		if c.Compile(parsed); c.Failed() {
			return c.Errors
		}
		return nil
	}
	for _, src := range bundles(t) {
		if err := compile(src.Modules); err != nil {
			t.Errorf("%s: %v", src.Name, err)
		}
	}
	for _, bad := range []string{"allow if time.now_ns() > 0", "allow if input.anomly.score < 1"} {
		if err := compile(map[string]string{"x.rego": "package x\n\n" + bad + "\n"}); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// TestSchemaNamesEveryField compares the schema with the document that is evaluated.
func TestSchemaNamesEveryField(t *testing.T) {
	var missing []string
	var visit func(path string, schema map[string]any, v ast.Value)
	visit = func(path string, schema map[string]any, v ast.Value) {
		obj, ok := v.(ast.Object)
		if !ok {
			return
		}
		properties := schema["properties"].(map[string]any)
		if obj.Len() != len(properties) {
			t.Errorf("%s has %d fields, the schema %d", path, obj.Len(), len(properties))
		}
		obj.Foreach(func(k, v *ast.Term) {
			name := string(k.Value.(ast.String))
			p, ok := properties[name].(map[string]any)
			if !ok {
				missing = append(missing, path+"."+name)
				return
			}
			visit(path+"."+name, p, v.Value)
		})
	}
	visit("input", InputSchema(), document(ordinary()))
	if len(missing) > 0 {
		slices.Sort(missing)
		t.Errorf("not in the schema: %s", strings.Join(missing, ", "))
	}
}
