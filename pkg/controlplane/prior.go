package controlplane

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strconv"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/xds"
)

// lends says whether a workload may learn from another: one with a model of its own, in the settings' scope.
func lends(w, other xds.Workload, have *learned, s learning) bool {
	return other != w && have.source == v1alpha1.ModelOwn && (s.prior != v1alpha1.PriorNamespace || other.Namespace == w.Namespace)
}

// lent is how many calls there are that a workload may learn from. The lock is held by the caller.
func (l *Learner) lent(w xds.Workload, s learning) int {
	calls := 0
	for other, have := range l.workloads {
		if lends(w, other, have, s) {
			calls += have.reservoir.Counts().Calls
		}
	}
	return calls
}

// prior returns the workloads that w may learn from. The lock is held by the caller.
func (l *Learner) prior(w xds.Workload, s learning) []lender {
	var pool []lender
	for other, have := range l.workloads {
		if lends(w, other, have, s) {
			pool = append(pool, lender{other, have})
		}
	}
	slices.SortFunc(pool, func(a, b lender) int { return cmp.Compare(workloadName(a.workload), workloadName(b.workload)) })
	return pool
}

// lender is a workload that others learn from.
type lender struct {
	workload xds.Workload
	have     *learned
}

// mixed takes so many rows from the pool, of each workload as many as of the others as far as it has them, evenly over its reservoir. Their evidence stays behind: words are
// told apart by the workload's own salt, and are nobody else's business. Sessions get names that are the workload's.
func mixed(pool []lender, most int) []detector.Row {
	slices.SortStableFunc(pool, func(a, b lender) int {
		return cmp.Compare(a.have.reservoir.Counts().Calls, b.have.reservoir.Counts().Calls)
	})
	var out []detector.Row
	for i, from := range pool {
		h := fnv.New64a()
		_, _ = h.Write([]byte(workloadName(from.workload)))
		lender := strconv.FormatUint(h.Sum64(), 36)
		for _, row := range from.have.reservoir.Spread((most-len(out))/(len(pool)-i), from.have.attacked) {
			out = append(out, detector.Row{Vector: row.Vector, Session: lender + "/" + row.Session, Lender: lender})
		}
	}
	return out
}
