package controlplane

import (
	"slices"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/xds"
)

// job is a training: all that it needs, so that it runs without the lock.
type job struct {
	source   v1alpha1.ModelSource
	scope    v1alpha1.PriorScope // of a prior
	rows     []detector.Row      // the workload's own
	admitted uint64
	heard    uint64
	options  detector.Options
}

// job gathers what a training needs. The lock is held by the caller.
func (l *Learner) job(w xds.Workload, have *learned, what task, s learning) *job {
	counts := have.reservoir.Counts()
	j := &job{
		source: v1alpha1.ModelOwn, rows: have.reservoir.Rows(), admitted: counts.Seen, heard: have.spoken,
		// That there are enough was seen to; of sessions that were labelled attacks, fewer may be left.
		options: detector.Options{FalsePositivesPerMillion: s.budget, MinCalls: 1, MinSessions: 1, Seed: seed(w), Trimmed: counts.Trimmed()},
	}
	if have.model != nil {
		j.options.Earlier = have.model.info
	}
	if len(have.attacked) > 0 {
		j.rows = slices.DeleteFunc(j.rows, func(row detector.Row) bool { return have.attacked[row.Session] })
	}
	if what == trainPrior {
		j.source, j.scope = v1alpha1.ModelPrior, s.prior
		pool := l.prior(w, s)
		j.options.Prior = mixed(pool, max(0, s.minCalls-len(j.rows)))
		j.options.MinCalls = s.minCalls // below which the detector trusts a workload's own words with nothing
	}
	rows := have.labels.rows.All()
	for k := range rows {
		i := have.labels.index(k)
		j.options.Feedback = append(j.options.Feedback, detector.Labelled{Row: rows[i], Attack: have.labels.list[i].label == v1alpha1.LabelAttack})
	}
	return j
}
