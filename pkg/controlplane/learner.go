package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

const (
	// lookEvery is how often it is looked for what is due because time has passed.
	lookEvery = 10 * time.Second
	// forgottenAfter is how long a workload that never called is remembered without a sidecar, and how long one that neither calls nor has a sidecar keeps the room that others have none for.
	forgottenAfter = time.Hour
	// settledAfter is how long a workload does not call before what came of it last is packed as well.
	settledAfter = 5 * time.Minute
)

// Learner learns a model of each workload from the decision records of its sidecars.
type Learner struct {
	publish func(xds.Workload, *xdsv1.DetectorModel) error
	keeper  *keeper
	now     func() time.Time
	changed func() // a model came or went
	counted func() // a call was counted
	metrics *metrics
	report  func(error, string)
	fit     func([]detector.Row, detector.Options) (*detector.Model, error)

	wake chan struct{}
	// keeping is held while something is kept, published or dropped, so that what was forgotten is not kept or published after all.
	keeping workloadLocks

	mu        sync.Mutex
	salt      func(xds.Workload) uint64
	workloads map[xds.Workload]*learned
	settings  map[string]learning           // by namespace
	frozen    map[types.NamespacedName]bool // by the name of the Baseline: what is to be frozen may not be known yet
	room      room
}

func newLearner(publish func(xds.Workload, *xdsv1.DetectorModel) error, k *keeper, now func() time.Time, changed, counted func(), m *metrics, report func(error, string)) *Learner {
	return &Learner{
		publish: publish, keeper: k, now: now, changed: changed, counted: counted, metrics: m, report: report, fit: detector.Train,
		wake:      make(chan struct{}, 1),
		salt:      saltOf(nil),
		workloads: map[xds.Workload]*learned{},
		settings:  map[string]learning{},
		frozen:    map[types.NamespacedName]bool{},
		room:      room{most: defaultMemory.learned(0), bound: func() int { return defaultMemory.learned(0) }, least: leastShare, turnedAway: map[xds.Workload]bool{}},
	}
}

// Record takes a decision record in. The workload is the sidecar's as it was authenticated, whatever the record says. What a record may teach is for
// detector.FromRecord and the reservoir to say.
func (l *Learner) Record(id xds.Identity, record []byte) {
	var r telemetry.Record
	if err := json.Unmarshal(record, &r); err != nil {
		l.metrics.records.WithLabelValues("malformed").Inc()
		return
	}
	l.metrics.records.WithLabelValues("received").Inc()
	row, admission, err := detector.FromRecord(&r)
	switch {
	case errors.Is(err, detector.ErrNoFeatures):
		return
	case errors.Is(err, detector.ErrSchema):
		l.metrics.records.WithLabelValues("foreign_schema").Inc()
		return
	case err != nil:
		l.metrics.records.WithLabelValues("malformed").Inc()
		return
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	w := id.Workload()
	have := l.workloads[w]
	if have == nil {
		if have = l.begin(w); have == nil {
			l.metrics.records.WithLabelValues("no_room").Inc()
			l.counted()
			return
		}
	}
	if l.salt(w) == 0 {
		row.Evidence = nil
	}
	if have.attacked[row.Session] {
		admission.Tainted = true
	}
	full := l.full()
	have.recent.note(&r, row, admission, have.model.Digest(), l.now(), full)
	switch {
	case l.isFrozen(w):
	case full && have.reservoir.Counts().Calls < have.capacity:
		l.metrics.records.WithLabelValues("no_room").Inc()
	default:
		have.reservoir.Add(row, admission)
	}
	have.dirty, have.settled, have.calledAt = true, false, l.now()
	l.grew(have)
	if l.due(w, have) != nothing {
		l.tell()
	}
	l.counted()
}

// meet is told which workloads have sidecars, so that one that has not called yet may have a shared prior. Those that never called and have had no sidecar for a while are
// forgotten, and those whose namespace is gone; of the others that are gone without having come to a model, as jobs with a name for each run are, as many as there is no room for.
func (l *Learner) meet(ctx context.Context, connected []xds.Workload) error {
	var gone, idle []xds.Workload
	l.mu.Lock()
	there := make(map[xds.Workload]bool, len(connected))
	for _, w := range connected {
		there[w] = true
		have := l.workloads[w]
		if have == nil && l.settings[w.Namespace].prior != "" {
			if have = l.begin(w); have != nil {
				l.tell()
			}
		}
		if have != nil {
			have.metAt = l.now()
		}
	}
	for w := range l.room.turnedAway {
		if !there[w] {
			delete(l.room.turnedAway, w)
		}
	}
	for w, have := range l.workloads {
		counts := have.reservoir.Counts()
		_, somewhere := l.settings[w.Namespace]
		switch {
		case there[w] || l.now().Sub(have.seenAt()) <= forgottenAfter || len(have.labels.list) > 0 || l.isFrozen(w):
		case counts.Seen == 0 && counts.Refused == 0 || !somewhere:
			gone = append(gone, w)
		case have.source != v1alpha1.ModelOwn:
			idle = append(idle, w)
		}
	}
	slices.SortFunc(idle, func(a, b xds.Workload) int { return l.workloads[a].seenAt().Compare(l.workloads[b].seenAt()) })
	gone = append(gone, idle[:min(len(idle), max(0, len(l.room.turnedAway)-len(gone)))]...)
	l.mu.Unlock()
	var errs []error
	for _, w := range gone {
		errs = append(errs, l.forget(ctx, w))
	}
	return errors.Join(errs...)
}

// configure sets how the workloads of a namespace are learned.
func (l *Learner) configure(namespace string, s learning) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.settings[namespace]; ok && old == s {
		return
	}
	l.settings[namespace] = s
	for w, have := range l.workloads {
		if w.Namespace == namespace {
			have.failed = failure{}
			have.widen(l.leastCalls(w))
		}
	}
	l.changed() // a prior may be for workloads that were not met
	l.tell()
}

// saltOf is the workload's feature salt.
func (l *Learner) saltOf(w xds.Workload) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.salt(w)
}

// tell wakes a worker.
func (l *Learner) tell() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// freeze stops learning of the workload that has a Baseline of this name, or takes it up again.
func (l *Learner) freeze(baseline types.NamespacedName, frozen bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if frozen == l.frozen[baseline] {
		return
	}
	if frozen {
		l.frozen[baseline] = true
	} else {
		delete(l.frozen, baseline)
		l.tell() // what has waited
	}
}

// isFrozen says whether nothing is to be learned of a workload. The lock is held by the caller.
func (l *Learner) isFrozen(w xds.Workload) bool { return len(l.frozen) > 0 && l.frozen[baselineOf(w)] }

// belongs is told which Baseline a workload has, and says which it had when that is another. What was learned is that Baseline's until it is forgotten, also when it is kept: who deletes a Baseline while
// nobody leads has it forgotten by the next leader.
func (l *Learner) belongs(w xds.Workload, baseline types.UID) (another types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	have := l.workloads[w]
	switch {
	case have == nil || have.baseline == baseline:
		return ""
	case have.baseline != "":
		return have.baseline
	}
	have.baseline, have.dirty, have.keptAt = baseline, true, time.Time{} // soon: a deletion may come while nobody leads
	return ""
}

// forget drops everything learned of a workload and withdraws its model.
func (l *Learner) forget(ctx context.Context, w xds.Workload) error {
	defer l.keeping.lock(w)() // before anything else: what is learned anew from here on is kept and published after this
	l.mu.Lock()
	l.leave(w)
	l.mu.Unlock()
	if err := l.publish(w, nil); err != nil {
		return err
	}
	l.changed()
	return errors.Join(l.keeper.remove(ctx, keptBaseline, workloadName(w)), l.keeper.remove(ctx, keptWordless, workloadName(w)))
}

// forgetNamespace drops everything learned in a namespace that is gone.
func (l *Learner) forgetNamespace(ctx context.Context, namespace string) error {
	var errs []error
	for _, w := range l.known() {
		if w.Namespace == namespace {
			errs = append(errs, l.forget(ctx, w))
		}
	}
	l.mu.Lock()
	delete(l.settings, namespace)
	l.mu.Unlock()
	return errors.Join(errs...)
}

// known are the workloads of which anything was learned.
func (l *Learner) known() []xds.Workload {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make([]xds.Workload, 0, len(l.workloads))
	for w := range l.workloads {
		all = append(all, w)
	}
	return all
}

// knows says whether anything was learned of a workload.
func (l *Learner) knows(w xds.Workload) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.workloads[w] != nil
}

// tidy does what time alone asks for: it packs what came last of workloads that do not call, has workloads give something up where less may be learned than before, and those that gave
// something up learn as before where there is room.
func (l *Learner) tidy() {
	l.mu.Lock()
	bound := l.room.bound
	l.mu.Unlock()
	most := bound() // which may want locks that are held where this one is asked for

	l.mu.Lock()
	defer l.mu.Unlock()
	l.room.most = most
	for _, have := range l.workloads {
		if !have.settled && l.now().Sub(have.calledAt) >= settledAfter {
			have.settled = true
			have.reservoir.Settle()
			have.recent.settle()
			l.weigh(have)
		}
	}
	if l.full() {
		l.share(0)
	}
	l.spread()
}

// phases counts workloads by where learning stands.
func (l *Learner) phases() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int{"learning": 0, "prior": 0, "ready": 0, "drifting": 0, "frozen": 0, "no_room": len(l.room.turnedAway)}
	for w, have := range l.workloads {
		switch {
		case l.isFrozen(w):
			out["frozen"]++
		case have.source == v1alpha1.ModelOwn && have.drift.beyond():
			out["drifting"]++
		case have.source == v1alpha1.ModelOwn:
			out["ready"]++
		case have.source == v1alpha1.ModelPrior:
			out["prior"]++
		default:
			out["learning"]++
		}
	}
	return out
}
