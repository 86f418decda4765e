package controlplane

import (
	"hash/fnv"
	"math"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// reservoirCapacity is how many calls of a workload are held: enough to set a threshold for a budget of 500 false positives in a million and more.
const reservoirCapacity = 2048

// learned is what was learned of one workload. Learner.mu guards it.
type learned struct {
	baseline  types.UID // of the Baseline that this is of; "" before it was seen
	reservoir *detector.Reservoir
	model     *encodedModel
	source    v1alpha1.ModelSource // of the model
	trainedAt time.Time
	admitted  uint64              // when the model was trained
	own       int                 // rows that the model was trained on
	lent      int                 // and such of others
	scope     v1alpha1.PriorScope // where from
	recent    recent
	labels    calls           // what feedback was given on
	attacked  map[string]bool // sessions of calls that were said to be attacks
	said      string          // what became of the last feedback

	drift   *drift // as it was found last
	driftAt int    // how many calls had come into the window then

	spoken, heard uint64 // how often feedback was given, and how much of it the model was trained with
	dirty         bool   // something is not kept yet
	keptAt        time.Time
	metAt         time.Time // when it had a sidecar last
	calledAt      time.Time // when a record came last
	settled       bool      // what came last is packed
	bytes         int       // of memory, as it was weighed last
	limited       bool      // it gave up some of what it had learned, for others
	capacity      int       // of its reservoir
	words         int       // how many bytes of evidence that may hold

	training bool
	waiting  time.Time // since when something is due
	failed   failure
}

// failure is what is known of trainings that failed, one after the other.
type failure struct {
	times   int
	retryAt time.Time // it is not tried again before
	message string
}

// encodedModel is a model as sidecars are sent it. It takes an eighth of what it does when it is ready to judge, which nothing in the controller does but finding drift.
type encodedModel struct {
	encoded []byte
	digest  string
	info    detector.Info
}

func encodeModel(model *detector.Model) (*encodedModel, error) {
	b, err := model.MarshalBinary()
	if err != nil {
		return nil, err
	}
	return &encodedModel{encoded: b, digest: model.Digest(), info: model.Info()}, nil
}

// Digest is the model's digest; "" where there is none.
func (m *encodedModel) Digest() string {
	if m == nil {
		return ""
	}
	return m.digest
}

// sent is the model as sidecars are sent it.
func (m *encodedModel) sent() *xdsv1.DetectorModel {
	return &xdsv1.DetectorModel{Model: m.encoded, Digest: m.digest, Schema: features.SchemaID}
}

// newLearned knows nothing yet.
func newLearned(w xds.Workload, now time.Time) *learned {
	return &learned{reservoir: detector.NewReservoir(reservoirCapacity, seed(w)), capacity: reservoirCapacity, words: math.MaxInt, keptAt: now, metAt: now, calledAt: now}
}

// seenAt is when it called or had a sidecar last.
func (have *learned) seenAt() time.Time {
	if have.calledAt.After(have.metAt) {
		return have.calledAt
	}
	return have.metAt
}

// attacks finds the sessions of calls that were said to be attacks: nothing of them is learned as benign.
func (have *learned) attacks() {
	have.attacked = nil
	for i := range have.labels.list {
		if have.labels.list[i].label == v1alpha1.LabelAttack {
			if have.attacked == nil {
				have.attacked = map[string]bool{}
			}
			have.attacked[have.labels.rows.Session(i)] = true
		}
	}
}

// workloadName is namespace/Kind/name.
func workloadName(w xds.Workload) string { return w.Namespace + "/" + w.Kind + "/" + w.Name }

// baselineOf is the name of the workload's Baseline.
func baselineOf(w xds.Workload) types.NamespacedName {
	return types.NamespacedName{Namespace: w.Namespace, Name: v1alpha1.BaselineName(w.Kind, w.Name)}
}

// seed makes what is random about a workload's learning repeatable.
func seed(w xds.Workload) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(workloadName(w)))
	return h.Sum64()
}
