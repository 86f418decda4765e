package policy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// releases is how an ordinary call is released without evaluating the entry point: what the system module states of the input is
// checked in Go, and the bundles are asked by their names, with a document of those fields that they read. It says yes or
// nothing: whatever it does not release, the entry point decides on. So every denial and each of its reasons are the entry point's, and what is here
// can only be wrong by releasing what the entry point would not; TestShortcutReleasesWhatTheEntryPointDoes compares the two.
type releases struct {
	tunnel, model rego.PreparedEvalQuery
	reads         []member // of the whole document
	sensitive     bool     // they read how much sensitive text there is
	known         memory
}

// memory holds what calls that the bundles have released before were bound to, by everything that the bundles read of them. Rules have no clock, no chance and
// no network (Capabilities), so that the same fields lead to the same answer for as long as a program lives. Only releases are kept, under their
// whole fields and not a hash of them.
type memory struct {
	mu   sync.RWMutex
	held map[string]Obligations
}

// Bounds of a memory: at most 1 MiB of keys.
const (
	maxKnown    = 1 << 10
	maxKeyBytes = 1 << 10
)

func (m *memory) get(key []byte) (Obligations, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	o, ok := m.held[string(key)]
	return o, ok
}

func (m *memory) put(key []byte, o Obligations) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held == nil || len(m.held) >= maxKnown {
		m.held = map[string]Obligations{} // what is asked often comes back soon
	}
	m.held[string(key)] = o
}

// obligationsVar is what the queries bind the bundles' obligations to.
const obligationsVar = "obligations"

// newReleases prepares the queries for the bundles that a compiler holds.
func newReleases(ctx context.Context, c *ast.Compiler, options []func(*rego.Rego)) (*releases, error) {
	var denies, allows, obligations []string
	all := reads{}
	for _, file := range slices.Sorted(maps.Keys(c.Modules)) {
		m := c.Modules[file]
		name, below := bundleOf(m)
		if name == "" {
			continue
		}
		all.of(m)
		if below {
			continue
		}
		for _, r := range m.Rules {
			word, _ := r.Head.Ref()[0].Value.(ast.Var)
			ref := "data." + bundlePackage + "[" + strconv.Quote(name) + "]." + string(word)
			switch word {
			case "deny":
				denies = append(denies, ref+" == set()")
			case "allow":
				allows = append(allows, ref+" == true")
			case "obligations":
				obligations = append(obligations, ref)
			}
		}
	}
	once := func(s *[]string) {
		slices.Sort(*s)
		*s = slices.Compact(*s)
	}
	once(&denies)
	once(&allows)
	once(&obligations)

	conditions := append(slices.Clone(denies), obligationsVar+" := ["+strings.Join(obligations, ", ")+"]")
	prepare := func(conditions []string) (rego.PreparedEvalQuery, error) {
		q, err := rego.New(append(slices.Clone(options), rego.Query(strings.Join(conditions, "; ")))...).PrepareForEval(ctx)
		if err != nil {
			return q, fmt.Errorf("prepare the bundles' rules: %w", err)
		}
		return q, nil
	}
	r := &releases{reads: all.members(wholeDocument), sensitive: all.has("call.sensitive")}
	var err error
	if r.tunnel, err = prepare(conditions); err != nil {
		return nil, err
	}
	switch len(allows) {
	case 0:
		allows = []string{"false"}
	case 1:
	default: // any of them
		for i := range allows {
			allows[i] = "{true | " + allows[i] + "}"
		}
		allows = []string{strings.Join(allows, " | ") + " == {true}"}
	}
	r.model, err = prepare(append(allows, conditions...))
	return r, err
}

// remembered says whether calls with the same fields were released before, and what they were bound to. The key is what to remember a release under; nil where
// there is none.
func (r *releases) remembered(in *Input, buffer []byte) (o Obligations, key []byte, ok bool) {
	if r == nil || !inOrder(in) || r.queryFor(in) == nil {
		return o, nil, false
	}
	key, ok = exactly(r.reads, in, append(buffer, in.Destination.Kind...))
	if !ok || len(key) > maxKeyBytes {
		return o, nil, false
	}
	o, ok = r.known.get(key)
	return o, key, ok
}

// queryFor is what an input that is in order is released by, nil where nothing does.
func (r *releases) queryFor(in *Input) *rego.PreparedEvalQuery {
	switch {
	case in.Destination.Kind == DestinationPassthrough:
		return &r.tunnel
	case in.Destination.Kind == DestinationModel && knownSurface(in):
		return &r.model
	default:
		return nil
	}
}

// release says whether the call is released, and what the release is bound to.
func (r *releases) release(ctx context.Context, txn storage.Transaction, in *Input, cancel topdown.Cancel, options []rego.EvalOption) (o Obligations, ok bool) {
	if r == nil || !inOrder(in) {
		return o, false
	}
	query := r.queryFor(in)
	if query == nil {
		return o, false
	}
	rs, err := query.Eval(ctx, append([]rego.EvalOption{
		rego.EvalTransaction(txn),
		rego.EvalParsedInput(build(r.reads, in)),
		rego.EvalGenerateJSON(asValue),
		rego.EvalMetrics(metrics.NoOp()),
		rego.EvalExternalCancel(cancel),
	}, options...)...)
	if err != nil || len(rs) != 1 {
		return o, false
	}
	sets, ok := rs[0].Bindings[obligationsVar].(*ast.Array)
	if !ok {
		return o, false
	}
	for i := range sets.Len() {
		if !each(sets.Elem(i), o.read) {
			return Obligations{}, false
		}
	}
	o.Response = o.Response.Stricter(ResponseObserve)
	return o, true
}

// inOrder is in_order of the system module. What that module asks of types, Input's own types see to.
func inOrder(in *Input) bool {
	return in.Version == InputVersion &&
		!in.KillSwitch &&
		len(in.Call.Findings) == 0 &&
		len(in.Call.Canaries) == 0 &&
		(in.Mode == "enforce" || in.Mode == "observe") &&
		(in.Phase == PhaseRequest || in.Phase == PhaseResponse) &&
		in.Anomaly.Score >= 0 && in.Anomaly.Score <= 1 &&
		in.Anomaly.Percentile >= 0 && in.Anomaly.Percentile <= 1 &&
		(in.Anomaly.Exceeds || !in.Anomaly.Ready || in.Anomaly.Score <= in.Anomaly.Threshold)
}

// knownSurface is known_surface of the system module.
func knownSurface(in *Input) bool {
	switch in.Call.Class {
	case "model", "auxiliary", "dead_drop", "tool":
	default:
		return false
	}
	return in.Call.Surface != "" && in.Call.Surface != "unknown" && in.Destination.Method != ""
}
