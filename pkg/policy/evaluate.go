package policy

import (
	"context"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// entrypoint is what every decision evaluates.
const entrypoint = "data.sallyport.decision"

// DefaultTimeout bounds one evaluation in wall time. An evaluation takes a fraction of a millisecond of work; the bound is there for
// policies that run away. It is wide because a sidecar on a crowded node may wait for a CPU for several scheduling periods of 100 ms, and
// a call must not be refused for that.
const DefaultTimeout = time.Second

// program is compiled policy, ready to be asked. It is immutable.
type program struct {
	query            rego.PreparedEvalQuery
	store            storage.Store
	revision, digest string
}

// prepare makes a program of compiled modules. txn is the open transaction that store is being written in, or nil.
func prepare(ctx context.Context, c *ast.Compiler, store storage.Store, txn storage.Transaction) (*program, error) {
	if len(c.GetRulesExact(ast.MustParseRef(entrypoint))) == 0 {
		return nil, fmt.Errorf("the bundle does not define %s", entrypoint)
	}
	options := []func(*rego.Rego){
		rego.Query(entrypoint), rego.Compiler(c), rego.Store(store),
		rego.StrictBuiltinErrors(true), rego.SetRegoVersion(ast.RegoV1),
	}
	if txn != nil {
		options = append(options, rego.Transaction(txn))
	}
	q, err := rego.New(options...).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", entrypoint, err)
	}
	return &program{query: q, store: store}, nil
}

// deny is the decision that stands in for one that could not be had.
func (p *program) deny(f Fault) Decision {
	return Decision{Action: ActionDeny, Fault: f, Digest: p.digest, Revision: p.revision}
}

// decide checks the input and evaluates the entry point with it.
func (p *program) decide(ctx context.Context, in *Input, timeout time.Duration, options ...rego.EvalOption) Decision {
	if in == nil || !finite(in) {
		return p.deny(FaultInput)
	}
	return p.evaluate(ctx, document(in), timeout, options...)
}

// evaluate evaluates the entry point with any document. It never fails: what is no decision is a denial that says why.
func (p *program) evaluate(ctx context.Context, doc ast.Value, timeout time.Duration, options ...rego.EvalOption) (d Decision) {
	defer func() {
		if recover() != nil {
			d = p.deny(FaultError)
		}
	}()

	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	txn, err := p.store.NewTransaction(ctx)
	if err != nil {
		return p.deny(FaultError)
	}
	defer p.store.Abort(ctx, txn)

	var fired topdown.EvaluatedRuleTracker
	rs, err := p.query.Eval(ctx, append([]rego.EvalOption{
		rego.EvalTransaction(txn),
		rego.EvalParsedInput(doc),
		rego.EvalGenerateJSON(asValue),
		rego.EvalEvaluatedRuleTracker(&fired),
		rego.EvalMetrics(metrics.NoOp()),
	}, options...)...)
	switch {
	case ctx.Err() != nil || topdown.IsCancel(err):
		return p.deny(FaultTimeout)
	case err != nil:
		return p.deny(FaultError)
	case len(rs) == 0:
		return p.deny(FaultUndefined)
	case len(rs) != 1 || len(rs[0].Expressions) != 1:
		return p.deny(FaultMalformed)
	}

	value, ok := rs[0].Expressions[0].Value.(ast.Value)
	if !ok {
		return p.deny(FaultMalformed)
	}
	if d, err = readDecision(value); err != nil {
		return p.deny(FaultMalformed)
	}
	d.Rules = rules(fired.Labels)
	d.Digest, d.Revision = p.digest, p.revision
	return d
}

// asValue keeps a result in the evaluator's own form.
func asValue(t *ast.Term, _ *rego.EvalContext) (any, error) { return t.Value, nil }
