package policy

import (
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// forbidden are built-in functions that policy may not call, by name or, with a final dot, by prefix. They reach out of the process,
// look into it, or make an evaluation cost what an attacker chooses.
var forbidden = []string{
	"crypto.x509.", // heavy, and depends on the current time
	"graphql.",     // heavy parsers that no rule on calls needs
	"http.send",
	"io.jwt.", // signing, and verification against the current time
	"json.match_schema",
	"json.verify_schema", // remote references
	"net.lookup_ip_addr",
	"opa.runtime",
	"providers.",
	"rand.intn",
	"rego.metadata.", // reflection on the module, which differs between a test and a bundle
	"rego.parse_module",
	"time.now_ns",
	"trace",
	"uuid.rfc4122",
}

// Capabilities returns what policy modules may use: OPA's built-ins without those that are nondeterministic, reach the network or
// look into the process. Modules are checked against it by Check and again by each Engine that loads them. Policy that
// needs the time reads input.time_ns. The caller may change the copy it gets.
func Capabilities() *ast.Capabilities {
	caps := ast.CapabilitiesForThisVersion()
	caps.Builtins = slices.DeleteFunc(caps.Builtins, func(b *ast.Builtin) bool {
		return b.Nondeterministic || slices.ContainsFunc(forbidden, func(f string) bool {
			return b.Name == f || strings.HasSuffix(f, ".") && strings.HasPrefix(b.Name, f)
		})
	})
	caps.AllowNet = []string{}
	return caps
}

// capabilities is Capabilities made once; it is only read.
var capabilities = sync.OnceValue(Capabilities)

// parserOptions are those of every module that the package parses.
func parserOptions() ast.ParserOptions {
	return ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1, Capabilities: capabilities()}
}

// newCompiler returns a compiler that knows the capabilities and is strict.
func newCompiler() *ast.Compiler {
	return restrict(ast.NewCompiler())
}

// restrict narrows a compiler that somebody else made.
func restrict(c *ast.Compiler) *ast.Compiler {
	return c.WithCapabilities(capabilities()).WithStrict(true).WithDefaultRegoVersion(ast.RegoV1)
}
