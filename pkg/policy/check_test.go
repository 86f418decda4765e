package policy

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

func TestCheck(t *testing.T) {
	const head = "package sallyport.bundle.my_name\n\n"
	good := head + "allow if input.call.model == \"gpt-4o\"\n"
	for _, tc := range []struct {
		name    string
		modules map[string]string
		want    []string // in the error; nil for none
	}{
		{"good", map[string]string{"a.rego": good}, nil},
		{"default false", map[string]string{"a.rego": good + "\ndefault allow := false\n"}, nil},
		{"deny only", map[string]string{"a.rego": head + "deny contains {\"rule\": \"A\", \"message\": \"m\"} if input.version == 2\n"}, nil},
		{"package below", map[string]string{"a.rego": good, "lib.rego": "package sallyport.bundle.my_name.lib\n\nx := 1\n"}, nil},
		{"import of its own", map[string]string{
			"a.rego":   "package sallyport.bundle.my_name\n\nimport data.sallyport.bundle.my_name.lib\n\nallow if lib.x == input.version\n",
			"lib.rego": "package sallyport.bundle.my_name.lib\n\nx := 1\n",
		}, nil},
		{"passing test", map[string]string{
			"a.rego":      good,
			"a_test.rego": "package sallyport.bundle.my_name_test\n\ntest_a if data.sallyport.bundle.my_name.allow with input as {\"call\": {\"model\": \"gpt-4o\"}}\n",
		}, nil},
		{"test through the system rules", map[string]string{
			"a.rego":      good,
			"a_test.rego": "package sallyport.bundle.my_name_test\n\ntest_a if data.sallyport.decision.action == \"deny\" with input as {\"version\": 2, \"call\": {\"findings\": []}}\n",
		}, nil},

		{"nothing", nil, []string{"no module but tests"}},
		{"tests only", map[string]string{"a_test.rego": "package sallyport.bundle.my_name_test\n\ntest_a if true\n"}, []string{"no module but tests"}},
		{"not Rego", map[string]string{"a.rego": "allow everything"}, []string{"a.rego:1", "parse"}},
		{"empty file", map[string]string{"a.rego": ""}, []string{"a.rego"}},
		{"file of another kind", map[string]string{"a.txt": good}, []string{`"a.txt"`}},
		{"path", map[string]string{"../a.rego": good}, []string{`"../a.rego"`}},
		{"too large", map[string]string{"a.rego": good + strings.Repeat("# x\n", maxSourceBytes/4)}, []string{"bytes of modules"}},
		{"another's package", map[string]string{"a.rego": "package sallyport.bundle.other\n\nallow := true\n"}, []string{"a.rego:1", "sallyport.bundle.my_name"}},
		{"name as written, not as package", map[string]string{"a.rego": "package sallyport.bundle[\"my-name\"]\n\nallow := true\n"}, []string{"a.rego:1", "sallyport.bundle.my_name"}},
		{"our package", map[string]string{"a.rego": "package sallyport\n\nin_order := true\n"}, []string{"a.rego:1"}},
		{"rules of all bundles", map[string]string{"a.rego": "package sallyport.bundle\n\nmy_name.allow := true\n"}, []string{"a.rego:1"}},
		{"package elsewhere", map[string]string{"a.rego": "package x\n\nallow := true\n"}, []string{"a.rego:1"}},
		{"name as a prefix", map[string]string{"a.rego": "package sallyport.bundle.my_names\n\nallow := true\n"}, []string{"a.rego:1"}},
		{"import of another", map[string]string{"a.rego": "package sallyport.bundle.my_name\n\nimport data.sallyport.bundle.my_names\n\nallow if my_names.x\n"}, []string{"a.rego:3", "its own package"}},
		{"reference to another", map[string]string{"a.rego": head + "allow if data.sallyport.bundle.other.allow\n"}, []string{"a.rego:3", "its own package"}},
		{"reference to any", map[string]string{"a.rego": head + "allow if {\n\tsome name\n\tdata.sallyport.bundle[name].allow\n}\n"}, []string{"a.rego:5", "its own package"}},
		{"reference to all data", map[string]string{"a.rego": head + "allow if count(data) > 0\n"}, []string{"a.rego:3", "its own package"}},
		{"allow below", map[string]string{"a.rego": good, "lib.rego": "package sallyport.bundle.my_name.lib\n\nallow := true\n"}, []string{"lib.rego:3", "never asked"}},
		{"deny below", map[string]string{"a.rego": good, "lib.rego": "package sallyport.bundle.my_name.lib\n\ndeny contains \"x\" if input.version == 1\n"}, []string{"lib.rego:3", "never asked"}},
		{"deny as a boolean", map[string]string{"a.rego": head + "deny if input.version == 2\n"}, []string{"a.rego:3", "deny must be a set"}},
		{"deny as a list", map[string]string{"a.rego": head + "deny := [\"x\"]\n"}, []string{"a.rego:3", "deny must be a set"}},
		{"deny as an object", map[string]string{"a.rego": head + "deny[k] := 1 if some k in [\"x\"]\n"}, []string{"a.rego:3"}},
		{"deny as a function", map[string]string{"a.rego": head + "deny(x) := x\n"}, []string{"a.rego:3"}},
		{"deny by keys", map[string]string{"a.rego": head + "deny.x contains \"y\" if input.version == 1\n"}, []string{"a.rego:3"}},
		{"allow as a set", map[string]string{"a.rego": head + "allow contains \"x\" if input.version == 1\n"}, []string{"a.rego:3", "allow must be true"}},
		{"allow as text", map[string]string{"a.rego": head + "allow := \"yes\"\n"}, []string{"a.rego:3", "allow must be true"}},
		{"allow as a value", map[string]string{"a.rego": head + "allow := input.call.stream\n"}, []string{"a.rego:3", "allow must be true"}},
		{"default true", map[string]string{"a.rego": head + "default allow := true\n"}, []string{"a.rego:3", "allow must be true"}},
		{"typo in an object", map[string]string{"a.rego": head + "allow if input.anomly.score < 1\n"}, []string{"a.rego:3", "undefined ref: input.anomly.score"}},
		{"typo in a field", map[string]string{"a.rego": head + "allow if input.anomaly.scroe < 1\n"}, []string{"a.rego:3", "undefined ref: input.anomaly.scroe"}},
		{"typo in brackets", map[string]string{"a.rego": head + "allow if input[\"anomaly\"][\"scroe\"] < 1\n"}, []string{"a.rego:3", "undefined ref"}},
		{"wrong type", map[string]string{"a.rego": head + "allow if count(input.anomaly.score) < 1\n"}, []string{"a.rego:3", "count"}},
		{"comparison of types that never match", map[string]string{"a.rego": head + "allow if input.call.model == 1\n"}, []string{"a.rego:3", "match error"}},
		{"network", map[string]string{"a.rego": head + "allow if http.send({\"url\": \"x\", \"method\": \"get\"}).status_code == 200\n"}, []string{"a.rego:3", "undefined function http.send"}},
		{"environment", map[string]string{"a.rego": head + "allow if opa.runtime().env.X == \"1\"\n"}, []string{"a.rego:3", "undefined function opa.runtime"}},
		{"unused variable", map[string]string{"a.rego": head + "allow if {\n\tx := input.version\n\tinput.mode == \"enforce\"\n}\n"}, []string{"a.rego:4", "unused"}},
		{"recursion", map[string]string{"a.rego": head + "allow if x\n\nx if allow\n"}, []string{"a.rego:3", "recursive"}},
		{"failing test", map[string]string{
			"a.rego":      good,
			"a_test.rego": "package sallyport.bundle.my_name_test\n\ntest_passes if true\n\ntest_fails if data.sallyport.bundle.my_name.allow with input as {}\n",
		}, []string{"a_test.rego:5", "test_fails"}},
		{"failing case of a test", map[string]string{
			"a.rego":      good,
			"a_test.rego": "package sallyport.bundle.my_name_test\n\ntest_cases[name] if {\n\tsome name, model in {\"one\": \"gpt-4o\", \"two\": \"x\"}\n\tdata.sallyport.bundle.my_name.allow with input as {\"call\": {\"model\": model}}\n}\n",
		}, []string{"a_test.rego:3", "test_cases", "two"}},
		{"test with an error", map[string]string{
			"a.rego":      good,
			"a_test.rego": "package sallyport.bundle.my_name_test\n\ntest_error if 1 / 0 == 1\n",
		}, []string{"a_test.rego:3", "test_error", "divide by zero"}},
		{"test that does not compile", map[string]string{
			"a.rego":      good,
			"a_test.rego": "package sallyport.bundle.my_name_test\n\ntest_a if nothing\n",
		}, []string{"a_test.rego:3", "unsafe"}},
		{"test in the policy's package", map[string]string{
			"a.rego":      good,
			"a_test.rego": "package sallyport.bundle.my_name\n\ndeny contains {\"rule\": \"A\", \"message\": \"never served\"} if true\n",
		}, []string{"a_test.rego:1", "my_name_test"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Check(Source{Name: "my-name", Modules: tc.modules})
			if tc.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v\nlacks %q", err, w)
				}
			}
		})
	}
	for _, name := range []string{"", "My", "a.b", "a_b", "-a", "a-", strings.Repeat("a", 64), "a/b", "a\n"} {
		if err := Check(Source{Name: name, Modules: map[string]string{"a.rego": "package sallyport.bundle.a\n\nallow := true\n"}}); err == nil {
			t.Errorf("name %q: no error", name)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("package sallyport.bundle.a\n\nallow if input.call.model == \"x\"\n")
	f.Add("package sallyport.bundle.a\n\ndeny contains {\"rule\": \"A\", \"message\": \"m\"} if input.anomaly.exceeds\n")
	f.Add("package sallyport.bundle.a\n\ndeny[x][y] if { x := 1; y := 2 }\n")
	f.Add("package a[\"b\"]\n")
	f.Add("package sallyport.bundle[1]\nallow := true")
	f.Fuzz(func(t *testing.T, text string) {
		src := Source{Name: "a", Modules: map[string]string{"a.rego": text}}
		if Check(src) != nil {
			return
		}
		// What passes can be assembled, and never touches what the system decides.
		if _, err := Assemble([]Source{src}, ""); err != nil {
			t.Errorf("checked, but: %v", err)
		}
		e, err := NewStatic(src.Modules)
		if err != nil {
			t.Fatalf("checked, but: %v", err)
		}
		if d := e.Decide(t.Context(), with(func(in *Input) { in.KillSwitch = true })); d.Action != ActionDeny {
			t.Errorf("%+v", d)
		}
	})
}

func TestCapabilities(t *testing.T) {
	caps := Capabilities()
	known := map[string]bool{}
	for _, b := range caps.Builtins {
		known[b.Name] = true
		if b.Nondeterministic {
			t.Errorf("%s is nondeterministic", b.Name)
		}
	}
	for _, name := range []string{"http.send", "net.lookup_ip_addr", "opa.runtime", "rego.parse_module", "trace", "time.now_ns", "rand.intn", "uuid.rfc4122", "io.jwt.decode_verify", "json.match_schema"} {
		if known[name] {
			t.Errorf("%s is allowed", name)
		}
	}
	for _, name := range []string{"count", "sprintf", "regex.match", "glob.match", "net.cidr_contains", "startswith", "time.clock", "is_number"} {
		if !known[name] {
			t.Errorf("%s is not allowed", name)
		}
	}
	if caps.AllowNet == nil || len(caps.AllowNet) != 0 {
		t.Errorf("network: %v", caps.AllowNet)
	}
	caps.Builtins = nil
	if len(Capabilities().Builtins) == 0 || len(capabilities().Builtins) == 0 || len(ast.CapabilitiesForThisVersion().Builtins) == 0 {
		t.Error("the copies share")
	}
}
