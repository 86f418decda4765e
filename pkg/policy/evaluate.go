package policy

import (
	"context"
	"fmt"
	"slices"
	"sync"
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
	query            rego.PreparedEvalQuery // the entry point
	releases         *releases              // nil to ask the entry point alone
	store            storage.Store
	revision, digest string
}

// prepare makes a program of compiled modules. txn is the open transaction that store is being written in, or nil.
func prepare(ctx context.Context, c *ast.Compiler, store storage.Store, txn storage.Transaction) (*program, error) {
	if len(c.GetRulesExact(ast.MustParseRef(entrypoint))) == 0 {
		return nil, fmt.Errorf("the bundle does not define %s", entrypoint)
	}
	options := []func(*rego.Rego){
		rego.Compiler(c), rego.Store(store), rego.StrictBuiltinErrors(true), rego.SetRegoVersion(ast.RegoV1),
	}
	if txn != nil {
		options = append(options, rego.Transaction(txn))
	}
	q, err := rego.New(append(slices.Clone(options), rego.Query(entrypoint))...).PrepareForEval(ctx)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", entrypoint, err)
	}
	r, err := newReleases(ctx, c, options)
	if err != nil {
		return nil, err
	}
	return &program{query: q, releases: r, store: store}, nil
}

// deny is the decision that stands in for one that could not be had.
func (p *program) deny(f Fault) Decision {
	return Decision{Action: ActionDeny, Fault: f, Digest: p.digest, Revision: p.revision}
}

// allow is a release. Each has obligations of its own, which its user may change.
func (p *program) allow(o Obligations) Decision {
	o.Redact = slices.Clone(o.Redact)
	return Decision{Action: ActionAllow, Obligations: o, Digest: p.digest, Revision: p.revision}
}

// decide checks the input and evaluates the bundles with it, and, unless they release the call, the entry point.
func (p *program) decide(ctx context.Context, in *Input, timeout time.Duration, options ...rego.EvalOption) Decision {
	if in == nil || !finite(in) {
		return p.deny(FaultInput)
	}
	if p.releases != nil && p.releases.sensitive && in.Scan != nil {
		in.Call.Sensitive, in.Scan = in.Scan(), nil
	}
	var buffer [512]byte
	obligations, key, ok := p.releases.remembered(in, buffer[:0])
	if ok && ctx.Err() == nil && len(options) == 0 {
		return p.allow(obligations)
	}
	return p.run(ctx, timeout, func(txn storage.Transaction, cancel topdown.Cancel) Decision {
		if obligations, ok := p.releases.release(ctx, txn, in, cancel, options); ok {
			if key != nil {
				p.releases.known.put(key, obligations)
			}
			return p.allow(obligations)
		}
		return p.ask(ctx, txn, document(in), cancel, options)
	})
}

// evaluate evaluates the entry point with any document.
func (p *program) evaluate(ctx context.Context, doc ast.Value, timeout time.Duration) Decision {
	return p.run(ctx, timeout, func(txn storage.Transaction, cancel topdown.Cancel) Decision {
		return p.ask(ctx, txn, doc, cancel, nil)
	})
}

// run leads an evaluation. It never fails: what is no decision is a denial that says why.
func (p *program) run(ctx context.Context, timeout time.Duration, evaluation func(storage.Transaction, topdown.Cancel) Decision) (d Decision) {
	defer func() {
		if recover() != nil {
			d = p.deny(FaultError)
		}
	}()
	if ctx.Err() != nil {
		return p.deny(FaultTimeout)
	}
	txn, err := p.store.NewTransaction(ctx)
	if err != nil {
		return p.deny(FaultError)
	}
	defer p.store.Abort(ctx, txn)
	a := setAlarm(timeout)
	defer a.off()
	return evaluation(txn, a.cancel)
}

// ask evaluates the entry point.
func (p *program) ask(ctx context.Context, txn storage.Transaction, doc ast.Value, cancel topdown.Cancel, options []rego.EvalOption) (d Decision) {
	var fired topdown.EvaluatedRuleTracker
	rs, err := p.query.Eval(ctx, append([]rego.EvalOption{
		rego.EvalTransaction(txn),
		rego.EvalParsedInput(doc),
		rego.EvalGenerateJSON(asValue),
		rego.EvalEvaluatedRuleTracker(&fired),
		rego.EvalMetrics(metrics.NoOp()),
		rego.EvalExternalCancel(cancel),
	}, options...)...)
	switch {
	case ctx.Err() != nil || cancel.Cancelled() || topdown.IsCancel(err):
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

// alarm cancels an evaluation that takes too long. A context with a deadline would do the same for a goroutine and ten allocations a call.
type alarm struct {
	cancel topdown.Cancel
	timer  *time.Timer
}

// alarms are those that have not rung.
var alarms sync.Pool

func setAlarm(after time.Duration) *alarm {
	if a, ok := alarms.Get().(*alarm); ok {
		a.timer.Reset(after)
		return a
	}
	a := &alarm{cancel: topdown.NewCancel()}
	a.timer = time.AfterFunc(after, a.cancel.Cancel)
	return a
}

// off ends the alarm's use. One that has rung cannot be set again.
func (a *alarm) off() {
	if a.timer.Stop() {
		alarms.Put(a)
	}
}
