package controlplane

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// Bounds of learning. A full reservoir takes about half a megabyte of memory; it holds enough calls to set a threshold for a budget of
// 500 false positives in a million and more.
const (
	reservoirCapacity   = 2048
	maxLearnedWorkloads = 1024
	// retrainEvery is how many further admitted calls a model is trained anew after, once doubling has grown beyond it.
	retrainEvery = 8192
	flushEvery   = time.Minute
	// flushTimeout is how long keeping everything may take when the controller stops.
	flushTimeout = 20 * time.Second
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
	workloads map[xds.Workload]*learned
	settings  map[string]v1alpha1.DetectorSpec // by namespace
	frozen    map[xds.Workload]bool
}

// learned is what was learned of one workload. Learner.mu guards it.
type learned struct {
	reservoir *detector.Reservoir
	model     *detector.Model
	trainedAt time.Time
	admitted  uint64 // when the model was trained
	dirty     bool   // something is not kept yet
	training  bool
	failed    uint64 // admitted when training failed; not tried again before there are more
}

// LearnedState is where learning of a workload stands.
type LearnedState struct {
	Frozen    bool
	Calls     int64
	Sessions  int64
	Rejected  int64
	Model     string
	TrainedOn int64
	TrainedAt time.Time
}

func newLearner(publish func(xds.Workload, *xdsv1.DetectorModel) error, k *keeper, now func() time.Time, changed, counted func(), m *metrics, report func(error, string)) *Learner {
	return &Learner{
		publish: publish, keeper: k, now: now, changed: changed, counted: counted, metrics: m, report: report,
		wake:      make(chan struct{}, 1),
		workloads: map[xds.Workload]*learned{},
		settings:  map[string]v1alpha1.DetectorSpec{},
		frozen:    map[xds.Workload]bool{},
	}
}

// learnable is the part of a decision record that is learned from.
type learnable struct {
	Outcome  telemetry.Outcome `json:"outcome"`
	Schema   string            `json:"schema"`
	Features []float32         `json:"features"`
	Words    []byte            `json:"words"`
	Session  struct {
		ID      string `json:"id"`
		Tainted bool   `json:"tainted"`
	} `json:"session"`
	Anomaly struct {
		Exceeds bool `json:"exceeds"`
	} `json:"anomaly"`
}

// Record takes a decision record in. The workload is the sidecar's as it was authenticated, whatever the record says.
func (l *Learner) Record(id xds.Identity, record []byte) {
	var r learnable
	if err := json.Unmarshal(record, &r); err != nil {
		l.metrics.records.WithLabelValues("malformed").Inc()
		return
	}
	l.metrics.records.WithLabelValues("received").Inc()
	if len(r.Features) == 0 {
		return
	}
	if r.Schema != features.SchemaID || len(r.Features) != features.Size {
		l.metrics.records.WithLabelValues("foreign_schema").Inc()
		return
	}
	row := detector.Row{Session: r.Session.ID, Words: r.Words}
	copy(row.Vector[:], r.Features)
	admission := detector.Admission{
		Released: r.Outcome == telemetry.OutcomeReleased,
		Exceeds:  r.Anomaly.Exceeds,
		Tainted:  r.Session.Tainted,
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	w := id.Workload()
	if l.frozen[w] {
		return
	}
	have := l.workloads[w]
	if have == nil {
		if len(l.workloads) >= maxLearnedWorkloads {
			l.metrics.records.WithLabelValues("no_room").Inc()
			return
		}
		have = &learned{reservoir: detector.NewReservoir(reservoirCapacity, seed(w))}
		l.workloads[w] = have
	}
	have.reservoir.Add(row, admission)
	have.dirty = true
	if l.due(w, have) {
		l.tell()
	}
	l.counted()
}

// due says whether a workload's model should be trained now: for the first time when there is enough to learn from, then whenever the number of admitted
// calls has doubled, and from retrainEvery on after that many; and when the budget has changed. The lock is held by the caller.
func (l *Learner) due(w xds.Workload, have *learned) bool {
	settings, known := l.settings[w.Namespace]
	if have.training || l.frozen[w] || !known {
		return false
	}
	counts := have.reservoir.Counts()
	minCalls, minSessions := int(settings.MinCalls), int(settings.MinSessions)
	if minCalls == 0 {
		minCalls = detector.DefaultMinCalls
	}
	if minSessions == 0 {
		minSessions = detector.DefaultMinSessions
	}
	admitted := counts.Seen
	if have.failed > 0 && admitted < 2*have.failed {
		return false
	}
	if have.model == nil {
		return counts.Calls >= minCalls && counts.Sessions >= minSessions
	}
	budget := int(settings.FalsePositivesPerMillion)
	if budget == 0 {
		budget = detector.DefaultFalsePositivesPerMillion
	}
	return have.model.Info().FalsePositivesPerMillion != budget || admitted >= have.admitted+min(have.admitted, retrainEvery)
}

// run trains and keeps until ctx is done, then keeps what is not kept yet.
func (l *Learner) run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			l.flush(last)
			return nil
		case <-l.wake:
			for l.trainOne(ctx) {
			}
		case <-tick.C:
			l.flush(ctx)
		}
	}
}

// trainOne trains one workload that is due and says whether there was one.
func (l *Learner) trainOne(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	l.mu.Lock()
	var w xds.Workload
	var have *learned
	for candidate, state := range l.workloads {
		if l.due(candidate, state) {
			w, have = candidate, state
			break
		}
	}
	if have == nil {
		l.mu.Unlock()
		return false
	}
	have.training = true
	rows := append([]detector.Row(nil), have.reservoir.Rows()...)
	counts := have.reservoir.Counts()
	at := counts.Seen
	s := l.settings[w.Namespace]
	l.mu.Unlock()

	began := l.now()
	model, err := detector.Train(rows, detector.Options{
		FalsePositivesPerMillion: int(s.FalsePositivesPerMillion), MinCalls: int(s.MinCalls), MinSessions: int(s.MinSessions), Seed: seed(w),
		Trimmed: counts.Trimmed(),
	})
	l.metrics.trainingSeconds.Observe(l.now().Sub(began).Seconds())

	l.mu.Lock()
	have.training = false
	forgotten := l.workloads[w] != have
	if err != nil {
		have.failed = at
		l.mu.Unlock()
		if !errors.Is(err, detector.ErrTooFew) {
			l.report(err, "no model of "+workloadName(w))
		}
		return true
	}
	if forgotten || l.frozen[w] {
		l.mu.Unlock()
		return true
	}
	have.model, have.trainedAt, have.admitted, have.failed, have.dirty = model, l.now(), at, 0, true
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

// flush keeps what has changed.
func (l *Learner) flush(ctx context.Context) {
	l.mu.Lock()
	dirty := map[xds.Workload]*learned{}
	for w, have := range l.workloads {
		if have.dirty {
			dirty[w] = have
		}
	}
	l.mu.Unlock()
	for w, have := range dirty {
		if err := l.keep(ctx, w, have); err != nil {
			l.report(err, "baseline of "+workloadName(w)+" is not kept")
		}
	}
}

// keptLearned is the head of a kept baseline; the reservoir and the model follow it, each with its length before it.
type keptLearned struct {
	Workload  xds.Workload `json:"workload"`
	TrainedAt time.Time    `json:"trainedAt"`
	Admitted  uint64       `json:"admitted"`
}

func (l *Learner) keep(ctx context.Context, w xds.Workload, have *learned) error {
	l.keeping.Lock()
	defer l.keeping.Unlock()
	l.mu.Lock()
	if l.workloads[w] != have {
		l.mu.Unlock()
		return nil
	}
	content, err := encodeLearned(w, have)
	have.dirty = false
	l.mu.Unlock()
	if err == nil {
		err = l.keeper.save(ctx, keptBaseline, workloadName(w), content)
	}
	if err != nil {
		l.mu.Lock()
		have.dirty = true
		l.mu.Unlock()
	}
	return err
}

func encodeLearned(w xds.Workload, have *learned) ([]byte, error) {
	head, err := json.Marshal(keptLearned{Workload: w, TrainedAt: have.trainedAt, Admitted: have.admitted})
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
	var out []byte
	for _, part := range [][]byte{head, rows, model} {
		out = binary.AppendUvarint(out, uint64(len(part)))
		out = append(out, part...)
	}
	return out, nil
}

func decodeLearned(b []byte) (xds.Workload, *learned, error) {
	var parts [3][]byte
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
	have := &learned{reservoir: detector.NewReservoir(reservoirCapacity, seed(head.Workload)), trainedAt: head.TrainedAt, admitted: head.Admitted}
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
	return head.Workload, have, nil
}

// restore takes up what was kept and publishes the models. What cannot be read, such as what was learned with another feature
// schema, is learned anew.
func (l *Learner) restore(ctx context.Context) error {
	all, unusable, err := l.keeper.load(ctx, keptBaseline)
	if err != nil {
		return err
	}
	for _, err := range unusable {
		l.report(err, "kept baseline is not used")
	}
	for _, k := range all {
		w, have, err := decodeLearned(k.content)
		if err == nil && workloadName(w) != k.id {
			err = errors.New("of another workload")
		}
		if err != nil {
			l.report(err, "kept baseline "+k.id+" is not used")
			continue
		}
		l.mu.Lock()
		l.workloads[w] = have
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
func (l *Learner) configure(namespace string, s v1alpha1.DetectorSpec) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old, ok := l.settings[namespace]; ok && old == s {
		return
	}
	l.settings[namespace] = s
	for w, have := range l.workloads {
		if w.Namespace == namespace {
			have.failed = 0
		}
	}
	l.tell()
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

// state says where learning of a workload stands.
func (l *Learner) state(w xds.Workload) LearnedState {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := LearnedState{Frozen: l.frozen[w]}
	have := l.workloads[w]
	if have == nil {
		return s
	}
	counts := have.reservoir.Counts()
	s.Calls, s.Sessions, s.Rejected = int64(counts.Seen), int64(counts.Sessions), int64(counts.Refused)
	if have.model != nil {
		s.Model, s.TrainedOn, s.TrainedAt = have.model.Digest(), int64(have.model.Info().Calls), have.trainedAt
	}
	return s
}

// workloadName is namespace/Kind/name.
func workloadName(w xds.Workload) string { return w.Namespace + "/" + w.Kind + "/" + w.Name }

// baselineName is the name of the workload's Baseline.
func baselineName(w xds.Workload) string {
	return bounded(strings.ToLower(w.Kind) + "-" + w.Name)
}

// seed makes what is random about a workload's learning repeatable.
func seed(w xds.Workload) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(workloadName(w)))
	return h.Sum64()
}
