package controlplane

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"hash/maphash"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/xds"
)

// A baseline is written at each training and each label, when it begins to drift or ends to, when the controller stops, and in between no more often than this: what is written goes through etcd,
// and what a crash of the controller loses are calls, of which there will be more.
const (
	keepYoungEvery = 10 * time.Minute // while there is no model of its own
	keepEvery      = time.Hour
	keepAgain      = time.Minute // what could not be kept
	// flushTimeout is how long keeping everything may take when the controller stops, flushing how many baselines are kept at a time then.
	flushTimeout = 20 * time.Second
	flushing     = 4
)

// workloadLocks are held by workload. Some workloads share one.
type workloadLocks [64]sync.Mutex

var lockSeed = maphash.MakeSeed()

// lock locks a workload's, and returns what unlocks it.
func (k *workloadLocks) lock(w xds.Workload) func() {
	m := &k[maphash.Comparable(lockSeed, w)%uint64(len(k))]
	m.Lock()
	return m.Unlock
}

// flush keeps what has changed, if it is time; all of it where the controller stops.
func (l *Learner) flush(ctx context.Context, last bool) {
	l.mu.Lock()
	dirty := map[xds.Workload]*learned{}
	for w, have := range l.workloads {
		if have.dirty && (last || l.now().Sub(have.keptAt) >= have.keepEvery()) {
			dirty[w] = have
		}
	}
	l.mu.Unlock()
	save, at := l.keeper.save, 1
	if last {
		save, at = l.keeper.saveLast, flushing
	}
	var g errgroup.Group
	g.SetLimit(at)
	for w, have := range dirty {
		g.Go(func() error {
			if err := l.keepBy(ctx, w, have, save); err != nil {
				l.report(err, "baseline of "+workloadName(w)+" is not kept")
			}
			return nil
		})
	}
	_ = g.Wait() // each has said what became of it
}

// keepEvery is how often a baseline that changes is kept.
func (have *learned) keepEvery() time.Duration {
	if have.source != v1alpha1.ModelOwn {
		return keepYoungEvery
	}
	return keepEvery
}

// keptVersion is the version of a kept baseline's encoding.
const keptVersion = 2

// keptLearned is the head of a kept baseline; the reservoir, the model, and the calls that feedback may name or has named follow it, each with its length before it.
type keptLearned struct {
	Version   int                  `json:"version"`
	Workload  xds.Workload         `json:"workload"`
	Salt      uint64               `json:"salt"` // a hash of it
	Baseline  types.UID            `json:"baseline,omitempty"`
	Source    v1alpha1.ModelSource `json:"source,omitempty"`
	TrainedAt time.Time            `json:"trainedAt"`
	Admitted  uint64               `json:"admitted"`
	Own       int                  `json:"own"`
	Lent      int                  `json:"lent,omitempty"`
	Scope     v1alpha1.PriorScope  `json:"scope,omitempty"`
	Tally     tally                `json:"tally"`
	Stale     bool                 `json:"stale,omitempty"` // labels are not trained with yet
	Said      string               `json:"said,omitempty"`
	Drift     *drift               `json:"drift,omitempty"` // so that the next leader says what this one did, until it has seen as much
}

func (l *Learner) keep(ctx context.Context, w xds.Workload, have *learned) error {
	return l.keepBy(ctx, w, have, l.keeper.save)
}

// keepNow keeps what was learned of a workload without waiting.
func (l *Learner) keepNow(ctx context.Context, w xds.Workload) error {
	l.mu.Lock()
	have := l.workloads[w]
	l.mu.Unlock()
	if have == nil {
		return nil
	}
	return l.keep(ctx, w, have)
}

func (l *Learner) keepBy(ctx context.Context, w xds.Workload, have *learned, save func(ctx context.Context, kind, id string, content []byte) error) error {
	defer l.keeping.lock(w)()
	l.mu.Lock()
	if l.workloads[w] != have {
		l.mu.Unlock()
		return nil
	}
	salt := l.salt(w)
	kind := keptKind(salt)
	content, err := encodeLearned(w, salt, have)
	have.dirty, have.keptAt = false, l.now()
	l.mu.Unlock()
	if err == nil {
		err = save(ctx, kind, workloadName(w), content)
	}
	if err != nil {
		l.mu.Lock()
		have.dirty, have.keptAt = true, l.now().Add(keepAgain-have.keepEvery())
		l.mu.Unlock()
	}
	return err
}

// keptKind keeps what is learned without a salt apart from what was learned with one, which is of use again when that comes back.
func keptKind(salt uint64) string {
	if salt == 0 {
		return keptWordless
	}
	return keptBaseline
}

func encodeLearned(w xds.Workload, salt uint64, have *learned) ([]byte, error) {
	head, err := json.Marshal(keptLearned{
		Version: keptVersion, Workload: w, Salt: saltMark(salt), Baseline: have.baseline, Source: have.source, TrainedAt: have.trainedAt, Admitted: have.admitted,
		Own: have.own, Lent: have.lent, Scope: have.scope, Tally: have.recent.tally, Stale: have.spoken != have.heard, Said: have.said, Drift: have.drift,
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
		model = have.model.encoded
	}
	remembered := have.labels.append(have.recent.others.append(have.recent.exceeded.append(nil)))
	out := make([]byte, 0, len(head)+len(rows)+len(model)+len(remembered)+32)
	for _, part := range [][]byte{head, rows, model, remembered} {
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

// decodeLearned reads what encodeLearned wrote. Where it is good but for the model, there is no model in it, and the error wraps errModel.
func decodeLearned(b []byte, salt func(xds.Workload) uint64, now time.Time) (xds.Workload, *learned, error) {
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
		return xds.Workload{}, nil, fmt.Errorf("version %d, not %d", head.Version, keptVersion)
	}
	if head.Salt != saltMark(salt(head.Workload)) {
		return xds.Workload{}, nil, errors.New("learned under another salt")
	}
	have := newLearned(head.Workload, now)
	have.baseline, have.source, have.trainedAt, have.admitted, have.own, have.lent, have.scope, have.said, have.drift = head.Baseline, head.Source, head.TrainedAt, head.Admitted, head.Own, head.Lent, head.Scope, head.Said, head.Drift
	if have.trainedAt.After(now) { // the clock was wrong then, or is now; a model must not stay young until it is right
		have.trainedAt = now
	}
	if head.Stale {
		have.spoken = 1
	}
	have.recent.tally = head.Tally
	if err := have.reservoir.UnmarshalBinary(parts[1]); err != nil {
		return xds.Workload{}, nil, err
	}
	have.unlimit() // should there be too little room, it gives up something again
	var unreadable error
	if len(parts[2]) > 0 {
		if have.model, unreadable = readModel(parts[2]); unreadable != nil {
			have.source = ""
		}
	}
	if (have.model == nil) != (have.source == "") {
		return xds.Workload{}, nil, errors.New("a model without its source, or the reverse")
	}
	rest := parts[3]
	for _, list := range []struct {
		calls *calls
		most  int
	}{{&have.recent.exceeded, maxExceeded}, {&have.recent.others, maxSampled}, {&have.labels, maxLabels}} {
		var err error
		if rest, err = list.calls.decode(rest, list.most); err != nil {
			return xds.Workload{}, nil, err
		}
	}
	if len(rest) > 0 {
		return xds.Workload{}, nil, errors.New("bytes after the last call")
	}
	have.attacks()
	have.recent.settle()
	have.labels.rows.Settle()
	return head.Workload, have, unreadable
}

// errModel says that what was kept is good but for the model, which is trained anew of the rest.
var errModel = errors.New("its model cannot be read")

// readModel reads a model that was kept.
func readModel(b []byte) (*encodedModel, error) {
	model, err := detector.Load(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errModel, err)
	}
	return encodeModel(model)
}

// restore takes up what was kept and publishes the models. What cannot be read, such as what was learned with another feature
// schema or under another salt, is learned anew. It is read and taken up a little at a time, so that it never takes much more memory than what is kept of it.
func (l *Learner) restore(ctx context.Context, salt func(xds.Workload) uint64) error {
	l.mu.Lock()
	l.salt = salt
	l.mu.Unlock()
	g, taking := errgroup.WithContext(ctx)
	g.SetLimit(max(2, min(4, runtime.GOMAXPROCS(0))))
	kind := keptKind(salt(xds.Workload{}))
	unusable, err := l.keeper.each(taking, kind, func(k kept) {
		g.Go(func() error { return l.takeUp(k, salt) })
	})
	if failed := g.Wait(); failed != nil {
		return failed
	}
	for _, err := range unusable {
		l.report(err, "kept baseline is not used")
	}
	if err != nil {
		return err
	}
	if err := l.sweep(ctx, kind); err != nil {
		l.report(err, "what is of no use any more is kept still")
	}
	return nil
}

// sweep drops what was kept and is of no use: what is left of writes that were broken off, and what was learned while there was no salt, where there is one.
func (l *Learner) sweep(ctx context.Context, kind string) error {
	if kind == keptWordless {
		return l.keeper.sweep(ctx, kind, l.now())
	}
	var wordless []string
	if _, err := l.keeper.each(ctx, keptWordless, func(k kept) { wordless = append(wordless, k.id) }); err != nil {
		return err
	}
	errs := []error{l.keeper.sweep(ctx, kind, l.now())}
	for _, id := range wordless {
		errs = append(errs, l.keeper.remove(ctx, keptWordless, id))
	}
	return errors.Join(errs...)
}

// takeUp takes up one baseline.
func (l *Learner) takeUp(k kept, salt func(xds.Workload) uint64) error {
	content, err := k.content()
	var w xds.Workload
	var have *learned
	if err == nil {
		w, have, err = decodeLearned(content, salt, l.now())
	}
	if (err == nil || errors.Is(err, errModel)) && workloadName(w) != k.id {
		err = errors.New("of another workload")
	}
	if errors.Is(err, errModel) {
		l.report(err, "kept baseline "+k.id+" has no model")
		err = nil
	}
	if err != nil {
		l.report(err, "kept baseline "+k.id+" is not used")
		return nil
	}
	l.mu.Lock()
	l.workloads[w] = have
	l.grew(have)
	l.mu.Unlock()
	if have.model != nil {
		if err := l.publish(w, have.model.sent()); err != nil {
			return fmt.Errorf("publish the model of %s: %w", k.id, err)
		}
	}
	return nil
}
