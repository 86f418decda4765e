package controlplane

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"time"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// Bounds of learning. A full reservoir takes about half a megabyte of memory besides its evidence; it holds enough calls to set a threshold for a budget of
// 500 false positives in a million and more.
const (
	reservoirCapacity   = 2048
	maxLearnedWorkloads = 1024
	// maxLearnedBytes is how much all baselines may have together, as they are kept unzipped, before no further workloads are learned and of the others no further
	// evidence. In memory they take about twice that.
	maxLearnedBytes = 128 << 20
	// maxBaselineBytes is that of one workload.
	maxBaselineBytes = 4 << 20
	// lookEvery is how often it is looked for what is due because time has passed.
	lookEvery = 10 * time.Second
	// retryAfter is how long a training that failed is not tried again.
	retryAfter = 5 * time.Minute
	// forgottenAfter is how long a workload that never called is remembered without a sidecar.
	forgottenAfter = time.Hour
	// flushTimeout is how long keeping everything may take when the controller stops.
	flushTimeout = 20 * time.Second
)

// A baseline is written at each training and each label, when the controller stops, and in between no more often than this: what is written goes through etcd,
// and what a crash of the controller loses are calls, of which there will be more.
const (
	keepYoungEvery = 10 * time.Minute // while there is no model of its own
	keepEvery      = time.Hour
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

	wake chan struct{}
	// keeping is held while something is kept or dropped, so that what was forgotten is not kept after all.
	keeping sync.Mutex

	mu        sync.Mutex
	salt      func(xds.Workload) uint64
	workloads map[xds.Workload]*learned
	settings  map[string]learning // by namespace
	frozen    map[xds.Workload]bool
	bytes     int // of all baselines as they were kept last
}

// learning is how the workloads of a namespace are learned: a DetectorSpec with its defaults.
type learning struct {
	budget, minCalls, minSessions int
	retrainCalls                  uint64
	retrainInterval               time.Duration
	prior                         v1alpha1.PriorScope // "" for none
	refuseCold                    bool
}

// learningOf takes the default for what is absent or wrong.
func learningOf(s *v1alpha1.DetectorSpec) learning {
	out := learning{
		budget: inRange(s.FalsePositivesPerMillion, 999_999, v1alpha1.DefaultFalsePositivesPerMillion), minCalls: inRange(s.MinCalls, reservoirCapacity, v1alpha1.DefaultMinCalls),
		minSessions: inRange(s.MinSessions, reservoirCapacity, v1alpha1.DefaultMinSessions), retrainCalls: uint64(inRange(s.RetrainCalls, maxRetrainCalls, v1alpha1.DefaultRetrainCalls)),
		retrainInterval: v1alpha1.DefaultRetrainInterval, refuseCold: refusesCold(s),
	}
	if d := s.RetrainInterval; d != nil && d.Duration >= v1alpha1.ShortestRetrainInterval && d.Duration <= v1alpha1.LongestRetrainInterval {
		out.retrainInterval = d.Duration
	}
	if s.SharedPrior {
		out.prior = v1alpha1.PriorNamespace
		if s.PriorScope == "" || s.PriorScope == v1alpha1.PriorCluster {
			out.prior = v1alpha1.PriorCluster
		}
	}
	return out
}

// refusesCold takes what it does not know for the stricter.
func refusesCold(s *v1alpha1.DetectorSpec) bool {
	return s.Cold != "" && s.Cold != v1alpha1.ColdAbstain
}

// learned is what was learned of one workload. Learner.mu guards it.
type learned struct {
	reservoir *detector.Reservoir
	model     *detector.Model
	source    v1alpha1.ModelSource // of the model
	trainedAt time.Time
	admitted  uint64 // when the model was trained
	own       int    // rows that the model was trained on
	lent      int    // and such of others
	recent    recent
	labels    []recentCall // what feedback was given on, the oldest first
	said      string       // what became of the last feedback

	spoken, heard uint64 // how often feedback was given, and how much of it the model was trained with
	dirty         bool   // something is not kept yet
	keptAt        time.Time
	metAt         time.Time // when it had a sidecar last
	bytes         int       // as it was kept last
	training      bool
	drifting      bool      // when it was looked last
	retryAt       time.Time // training failed, and is not tried again before
}

// LearnedState is where learning of a workload stands.
type LearnedState struct {
	Frozen     bool
	RefuseCold bool
	Calls      int64
	Sessions   int64
	Rejected   int64
	Model      string
	Source     v1alpha1.ModelSource
	TrainedOn  int64
	PriorRows  int64
	TrainedAt  time.Time
	// Judged and Exceeded count calls since the model is in use.
	Judged, Exceeded int64
	Drift            *drift // nil where there are too few calls to tell
	// FalsePositives and Attacks count labels.
	FalsePositives, Attacks int64
	Said                    string
	// LastExceeded are calls that exceeded, the latest first.
	LastExceeded []v1alpha1.ExceededCall
}

func newLearner(publish func(xds.Workload, *xdsv1.DetectorModel) error, k *keeper, now func() time.Time, changed, counted func(), m *metrics, report func(error, string)) *Learner {
	return &Learner{
		publish: publish, keeper: k, now: now, changed: changed, counted: counted, metrics: m, report: report,
		wake:      make(chan struct{}, 1),
		salt:      saltOf(nil),
		workloads: map[xds.Workload]*learned{},
		settings:  map[string]learning{},
		frozen:    map[xds.Workload]bool{},
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
			return
		}
	}
	if l.salt(w) == 0 || l.bytes > maxLearnedBytes || have.bytes > maxBaselineBytes {
		row.Evidence = nil
	}
	if have.attacks()[row.Session] {
		admission.Tainted = true
	}
	have.recent.note(&r, row, admission, have.model.Digest(), l.now())
	if !l.frozen[w] {
		have.reservoir.Add(row, admission)
	}
	have.dirty = true
	if l.due(w, have) != nothing {
		l.tell()
	}
	l.counted()
}

// begin makes room for a workload; nil where there is none. The lock is held by the caller.
func (l *Learner) begin(w xds.Workload) *learned {
	if len(l.workloads) >= maxLearnedWorkloads || l.bytes > maxLearnedBytes {
		return nil
	}
	have := &learned{reservoir: detector.NewReservoir(reservoirCapacity, seed(w)), keptAt: l.now(), metAt: l.now()}
	l.workloads[w] = have
	return have
}

// meet is told which workloads have sidecars, so that one that has not called yet may have a shared prior. Those that never called and have had no sidecar for a while are
// forgotten.
func (l *Learner) meet(ctx context.Context, connected []xds.Workload) error {
	var gone []xds.Workload
	l.mu.Lock()
	for _, w := range connected {
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
	for w, have := range l.workloads {
		counts := have.reservoir.Counts()
		if counts.Seen == 0 && counts.Refused == 0 && len(have.labels) == 0 && !l.frozen[w] && l.now().Sub(have.metAt) > forgottenAfter {
			gone = append(gone, w)
		}
	}
	l.mu.Unlock()
	var errs []error
	for _, w := range gone {
		errs = append(errs, l.forget(ctx, w))
	}
	return errors.Join(errs...)
}

// task is what is to be done about a workload's model.
type task int

const (
	nothing task = iota
	trainOwn
	trainPrior
	withdraw
)

// youngest is the least number of calls whose doubling is worth a training.
const youngest = 16

// due says what is to be done about a workload's model now. It is trained of its own calls when there are enough of them, then whenever the number of admitted
// calls has doubled, and from retrainCalls on after that many; when it has become old, and when the budget or the labels have changed. While there are
// not enough, it is trained of a shared prior where the settings say so and there is one. The lock is held by the caller.
func (l *Learner) due(w xds.Workload, have *learned) task {
	s, known := l.settings[w.Namespace]
	if have.training || l.frozen[w] || !known || l.now().Before(have.retryAt) {
		return nothing
	}
	counts := have.reservoir.Counts()
	enough := counts.Calls >= s.minCalls && counts.Sessions >= s.minSessions
	stale := have.model != nil && (have.spoken != have.heard || have.model.Info().FalsePositivesPerMillion != s.budget ||
		counts.Seen >= have.admitted+max(youngest, min(have.admitted, s.retrainCalls)) ||
		counts.Seen > have.admitted && l.now().Sub(have.trainedAt) >= s.retrainInterval)
	switch {
	case have.source == v1alpha1.ModelOwn:
		if stale && enough {
			return trainOwn
		}
	case enough:
		return trainOwn
	case have.model != nil && s.prior == "":
		return withdraw
	case s.prior != "" && (have.model == nil || stale) && l.prior(w, s) != nil:
		return trainPrior
	}
	return nothing
}

// run trains and keeps until ctx is done, then keeps what is not kept yet.
func (l *Learner) run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			l.flush(last, true)
			return nil
		case <-l.wake:
		case <-tick.C:
			l.flush(ctx, false)
		}
		for l.doOne(ctx) {
		}
	}
}

// doOne does what is due of one workload and says whether there was one.
func (l *Learner) doOne(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	l.mu.Lock()
	var w xds.Workload
	var have *learned
	what := nothing
	for candidate, state := range l.workloads {
		if what = l.due(candidate, state); what != nothing {
			w, have = candidate, state
			break
		}
	}
	if have == nil {
		l.mu.Unlock()
		return false
	}
	if what == withdraw {
		have.model, have.source, have.dirty = nil, "", true
		have.recent.renew()
		l.mu.Unlock()
		if err := l.publish(w, nil); err != nil {
			l.report(err, "model of "+workloadName(w)+" is not withdrawn")
		}
		l.changed()
		return true
	}
	have.training = true
	s := l.settings[w.Namespace]
	j := l.job(w, have, what, s)
	l.mu.Unlock()

	began := l.now()
	model, err := detector.Train(j.rows, j.options)
	l.metrics.trainingSeconds.Observe(l.now().Sub(began).Seconds())

	l.mu.Lock()
	have.training = false
	if err != nil {
		have.retryAt = l.now().Add(retryAfter)
		l.mu.Unlock()
		l.report(err, "no model of "+workloadName(w))
		return true
	}
	if l.workloads[w] != have || l.frozen[w] { // forgotten, or frozen meanwhile
		l.mu.Unlock()
		return true
	}
	have.model, have.source, have.trainedAt, have.admitted, have.retryAt = model, j.source, l.now(), j.admitted, time.Time{}
	have.own, have.lent = len(j.rows), len(j.options.Prior)
	have.heard, have.dirty = j.heard, true
	have.recent.renew()
	l.mu.Unlock()

	// Kept before it is published: a model that sidecars have must not be lost.
	if err := l.keep(ctx, w, have); err != nil {
		l.report(err, "model of "+workloadName(w)+" is not kept")
	}
	if err := l.send(w, model); err != nil {
		l.report(err, "model of "+workloadName(w)+" is not published")
	}
	l.metrics.trained.Inc()
	l.changed()
	return true
}

func (l *Learner) send(w xds.Workload, model *detector.Model) error {
	b, err := model.MarshalBinary()
	if err != nil {
		return err
	}
	return l.publish(w, &xdsv1.DetectorModel{Model: b, Digest: model.Digest(), Schema: features.SchemaID})
}

// flush keeps what has changed, if it is time; all of it where the controller stops.
func (l *Learner) flush(ctx context.Context, last bool) {
	l.mu.Lock()
	dirty := map[xds.Workload]*learned{}
	for w, have := range l.workloads {
		every := keepEvery
		if have.source != v1alpha1.ModelOwn {
			every = keepYoungEvery
		}
		if have.dirty && (last || l.now().Sub(have.keptAt) >= every) {
			dirty[w] = have
		}
	}
	l.mu.Unlock()
	for w, have := range dirty {
		save := l.keeper.save
		if last {
			save = l.keeper.saveLast
		}
		if err := l.keepBy(ctx, w, have, save); err != nil {
			l.report(err, "baseline of "+workloadName(w)+" is not kept")
		}
	}
}

// keptVersion is the version of a kept baseline's encoding.
const keptVersion = 2

// keptLearned is the head of a kept baseline; the reservoir, the model, and the calls that feedback may name or has named follow it, each with its length before it.
type keptLearned struct {
	Version   int                  `json:"version"`
	Workload  xds.Workload         `json:"workload"`
	Salt      uint64               `json:"salt"` // a hash of it
	Source    v1alpha1.ModelSource `json:"source,omitempty"`
	TrainedAt time.Time            `json:"trainedAt"`
	Admitted  uint64               `json:"admitted"`
	Own       int                  `json:"own"`
	Lent      int                  `json:"lent,omitempty"`
	Tally     tally                `json:"tally"`
	Stale     bool                 `json:"stale,omitempty"` // labels are not trained with yet
	Said      string               `json:"said,omitempty"`
}

func (l *Learner) keep(ctx context.Context, w xds.Workload, have *learned) error {
	return l.keepBy(ctx, w, have, l.keeper.save)
}

func (l *Learner) keepBy(ctx context.Context, w xds.Workload, have *learned, save func(ctx context.Context, kind, id string, content []byte) error) error {
	l.keeping.Lock()
	defer l.keeping.Unlock()
	l.mu.Lock()
	if l.workloads[w] != have {
		l.mu.Unlock()
		return nil
	}
	content, err := encodeLearned(w, l.salt(w), have)
	have.dirty, have.keptAt = false, l.now()
	l.bytes += len(content) - have.bytes
	have.bytes = len(content)
	l.mu.Unlock()
	if err == nil {
		err = save(ctx, keptBaseline, workloadName(w), content)
	}
	if err != nil {
		l.mu.Lock()
		have.dirty = true
		l.mu.Unlock()
	}
	return err
}

func encodeLearned(w xds.Workload, salt uint64, have *learned) ([]byte, error) {
	head, err := json.Marshal(keptLearned{
		Version: keptVersion, Workload: w, Salt: saltMark(salt), Source: have.source, TrainedAt: have.trainedAt, Admitted: have.admitted,
		Own: have.own, Lent: have.lent, Tally: have.recent.tally, Stale: have.spoken != have.heard, Said: have.said,
	})
	if err != nil {
		return nil, err
	}
	rows, err := have.reservoir.MarshalBinary()
	if err != nil {
		return nil, err
	}
	var model []byte
	if have.model != nil {
		if model, err = have.model.MarshalBinary(); err != nil {
			return nil, err
		}
	}
	calls := appendCalls(appendCalls(appendCalls(nil, have.recent.exceeded), have.recent.others), have.labels)
	var out []byte
	for _, part := range [][]byte{head, rows, model, calls} {
		out = binary.AppendUvarint(out, uint64(len(part)))
		out = append(out, part...)
	}
	return out, nil
}

// saltMark tells salts apart without telling them.
func saltMark(salt uint64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(binary.LittleEndian.AppendUint64([]byte("kept under"), salt))
	return h.Sum64() >> 32
}

func decodeLearned(b []byte, salt func(xds.Workload) uint64) (xds.Workload, *learned, error) {
	var parts [4][]byte
	for i := range parts {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return xds.Workload{}, nil, errors.New("ends too early")
		}
		parts[i], b = b[size:size+int(n)], b[size+int(n):]
	}
	if len(b) > 0 {
		return xds.Workload{}, nil, errors.New("bytes after the end")
	}
	var head keptLearned
	if err := json.Unmarshal(parts[0], &head); err != nil {
		return xds.Workload{}, nil, err
	}
	if head.Version != keptVersion {
		return xds.Workload{}, nil, fmt.Errorf("version %d", head.Version)
	}
	if head.Salt != saltMark(salt(head.Workload)) {
		return xds.Workload{}, nil, errors.New("learned under another salt")
	}
	have := &learned{
		reservoir: detector.NewReservoir(reservoirCapacity, seed(head.Workload)), source: head.Source, trainedAt: head.TrainedAt, admitted: head.Admitted,
		own: head.Own, lent: head.Lent, said: head.Said,
	}
	if head.Stale {
		have.spoken = 1
	}
	have.recent.tally = head.Tally
	if err := have.reservoir.UnmarshalBinary(parts[1]); err != nil {
		return xds.Workload{}, nil, err
	}
	if len(parts[2]) > 0 {
		model, err := detector.Load(parts[2])
		if err != nil {
			return xds.Workload{}, nil, err
		}
		have.model = model
	}
	if (have.model == nil) != (have.source == "") {
		return xds.Workload{}, nil, errors.New("a model without its source, or the reverse")
	}
	rest := parts[3]
	for _, list := range []struct {
		calls *[]recentCall
		most  int
	}{{&have.recent.exceeded, maxExceeded}, {&have.recent.others, maxSampled}, {&have.labels, maxLabels}} {
		var err error
		if *list.calls, rest, err = decodeCalls(rest, list.most); err != nil {
			return xds.Workload{}, nil, err
		}
	}
	if len(rest) > 0 {
		return xds.Workload{}, nil, errors.New("bytes after the last call")
	}
	return head.Workload, have, nil
}

// restore takes up what was kept and publishes the models. What cannot be read, such as what was learned with another feature
// schema or under another salt, is learned anew.
func (l *Learner) restore(ctx context.Context, salt func(xds.Workload) uint64) error {
	l.mu.Lock()
	l.salt = salt
	l.mu.Unlock()
	all, unusable, err := l.keeper.load(ctx, keptBaseline)
	if err != nil {
		return err
	}
	for _, err := range unusable {
		l.report(err, "kept baseline is not used")
	}
	for _, k := range all {
		w, have, err := decodeLearned(k.content, salt)
		if err == nil && workloadName(w) != k.id {
			err = errors.New("of another workload")
		}
		if err != nil {
			l.report(err, "kept baseline "+k.id+" is not used")
			continue
		}
		have.keptAt, have.metAt, have.bytes = l.now(), l.now(), len(k.content)
		l.mu.Lock()
		l.workloads[w] = have
		l.bytes += have.bytes
		l.mu.Unlock()
		if have.model != nil {
			if err := l.send(w, have.model); err != nil {
				return fmt.Errorf("publish the model of %s: %w", k.id, err)
			}
		}
	}
	return nil
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
			have.retryAt = time.Time{}
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

// tell wakes run.
func (l *Learner) tell() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// freeze stops learning of a workload, or takes it up again.
func (l *Learner) freeze(w xds.Workload, frozen bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if frozen {
		l.frozen[w] = true
	} else {
		delete(l.frozen, w)
	}
}

// forget drops everything learned of a workload and withdraws its model.
func (l *Learner) forget(ctx context.Context, w xds.Workload) error {
	l.mu.Lock()
	if have := l.workloads[w]; have != nil {
		l.bytes -= have.bytes
	}
	delete(l.workloads, w)
	delete(l.frozen, w)
	l.mu.Unlock()
	if err := l.publish(w, nil); err != nil {
		return err
	}
	l.changed()
	l.keeping.Lock()
	defer l.keeping.Unlock()
	return l.keeper.remove(ctx, keptBaseline, workloadName(w))
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

// phases counts workloads by where learning stands.
func (l *Learner) phases() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int{"learning": 0, "prior": 0, "ready": 0, "drifting": 0, "frozen": 0}
	for w, have := range l.workloads {
		switch {
		case l.frozen[w]:
			out["frozen"]++
		case have.source == v1alpha1.ModelOwn && have.drifting:
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

// state says where learning of a workload stands.
func (l *Learner) state(w xds.Workload) LearnedState {
	l.mu.Lock()
	settings := l.settings[w.Namespace]
	s := LearnedState{Frozen: l.frozen[w], RefuseCold: settings.refuseCold}
	have := l.workloads[w]
	if have == nil {
		l.mu.Unlock()
		return s
	}
	counts := have.reservoir.Counts()
	s.Calls, s.Sessions, s.Rejected = int64(counts.Seen), int64(counts.Sessions), int64(counts.Refused)
	model := have.model
	var window []features.Vector
	var beyond bool
	if model != nil {
		beyond = have.recent.tally.beyond(model.Info().FalsePositivesPerMillion)
		s.Model, s.Source, s.TrainedOn, s.PriorRows, s.TrainedAt = model.Digest(), have.source, int64(have.own), int64(have.lent), have.trainedAt
		s.Judged, s.Exceeded = have.recent.tally.Judged, have.recent.tally.Exceeded
		window = slices.Clone(have.recent.window)
	}
	for i := range have.labels {
		if have.labels[i].label == v1alpha1.LabelAttack {
			s.Attacks++
		} else {
			s.FalsePositives++
		}
	}
	s.Said = have.said
	for i := len(have.recent.exceeded) - 1; i >= 0 && len(s.LastExceeded) < shownExceeded; i-- {
		call := &have.recent.exceeded[i]
		s.LastExceeded = append(s.LastExceeded, v1alpha1.ExceededCall{ID: call.id, Label: call.label})
	}
	l.mu.Unlock()
	if len(window) >= minWindow {
		s.Drift = driftOf(model, window)
		s.Drift.drifting = s.Drift.drifting && beyond
	}
	l.mu.Lock()
	have.drifting = s.Drift != nil && s.Drift.drifting
	l.mu.Unlock()
	return s
}

// workloadName is namespace/Kind/name.
func workloadName(w xds.Workload) string { return w.Namespace + "/" + w.Kind + "/" + w.Name }

// baselineName is the name of the workload's Baseline.
func baselineName(w xds.Workload) string {
	return v1alpha1.BaselineName(w.Kind, w.Name)
}

// seed makes what is random about a workload's learning repeatable.
func seed(w xds.Workload) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(workloadName(w)))
	return h.Sum64()
}
