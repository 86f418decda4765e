package controlplane

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// Whatever comes, in whatever order: what is published is what was learned, and kept; what is counted is what there is; nothing is learned of what is frozen, and nothing of what attacked.
func TestLearningThroughAnything(t *testing.T) {
	t.Parallel()
	seeds, steps := uint64(4), 600
	if testing.Short() {
		seeds, steps = 1, 80
	}
	for seed := range seeds {
		throughAnything(t, seed, steps)
	}
}

func throughAnything(t *testing.T, seed uint64, steps int) {
	lab := newLab(t)
	random := rand.New(rand.NewPCG(seed, 3))
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	k := &keeper{client: lab.client, reader: lab.client, namespace: lab.namespace}
	models := map[int]*detector.Model{} // by budget: one is as good as another
	for _, budget := range []int{10_000, 50_000} {
		var rows []detector.Row
		for i := range 40 {
			row := detector.Row{Session: fmt.Sprint(i % 8)}
			for f := range row.Vector {
				row.Vector[f] = float32(random.NormFloat64())
			}
			rows = append(rows, row)
		}
		var err error
		models[budget], err = detector.Train(rows, detector.Options{FalsePositivesPerMillion: budget, MinCalls: 16, MinSessions: 2})
		must(t, err)
	}
	published := map[xds.Workload]string{}
	var l *Learner
	lead := func() {
		published = map[xds.Workload]string{}
		l = lab.learner(k, &now)
		var mu sync.Mutex
		l.publish = func(w xds.Workload, m *xdsv1.DetectorModel) error {
			mu.Lock()
			defer mu.Unlock()
			if delete(published, w); m != nil {
				published[w] = m.GetDigest()
			}
			return nil
		}
		l.fit = func(rows []detector.Row, o detector.Options) (*detector.Model, error) {
			for _, row := range rows {
				for _, label := range o.Feedback {
					if label.Attack && label.Row.Session == row.Session {
						t.Errorf("seed %d: a session that attacked is learned from", seed)
					}
				}
			}
			if len(rows)+len(o.Prior) < 8 {
				return nil, fmt.Errorf("%d calls", len(rows))
			}
			return models[o.FalsePositivesPerMillion], nil
		}
		l.room.most, l.room.bound, l.room.least = 700<<10, func() int { return 700 << 10 }, 64<<10
		must(t, l.restore(lab.ctx, salted(7)))
	}
	lead()
	settings := map[string]learning{}
	frozen := map[types.NamespacedName]bool{}
	again := func() { // what the control plane tells a leader
		for namespace, s := range settings {
			l.configure(namespace, s)
		}
		for name := range frozen {
			l.freeze(name, true)
		}
	}
	var all []xds.Identity
	for i := range 14 {
		all = append(all, xds.Identity{Namespace: fmt.Sprint("agents-", i%3), Kind: "Deployment", Name: fmt.Sprint("agent-", i)})
	}
	calls, step, most := 0, 0, 0
	texts := make([][]byte, 20)
	for i := range texts {
		texts[i] = wordy(random)
	}
	check := func(what string) {
		t.Helper()
		sum := 0
		for w, have := range l.workloads {
			sum += have.bytes
			before := have.bytes
			if l.weigh(have); have.bytes != before {
				t.Fatalf("seed %d, step %d, %s: %v takes %d bytes and is counted as %d", seed, step, what, w, have.bytes, before)
			}
			if published[w] != have.model.Digest() || (have.model == nil) != (have.source == "") {
				t.Fatalf("seed %d, step %d, %s: of %v %q is published, not %q (%s)", seed, step, what, w, published[w], have.model.Digest(), have.source)
			}
		}
		if sum != l.taken() {
			t.Fatalf("seed %d, step %d, %s: %d bytes are counted, %d are taken", seed, step, what, sum, l.taken())
		}
		for w := range published {
			if l.workloads[w] == nil {
				t.Fatalf("seed %d, step %d, %s: a model of %v is published, of which nothing is known", seed, step, what, w)
			}
		}
	}
	work := func() {
		for n := 0; l.doOne(lab.ctx); n++ {
			if check("training"); n > 3*len(all) {
				t.Fatalf("seed %d, step %d: there is no end to it", seed, step)
			}
		}
	}
	for step = range steps {
		id := all[random.IntN(len(all))]
		w := id.Workload()
		switch what := random.IntN(100); {
		case what < 60:
			before := l.state(w)
			for range 1 + random.IntN(60) {
				calls++
				l.Record(id, record(random, calls, func(r *telemetry.Record) {
					r.Session.ID = fmt.Sprint("session-", calls/(1+random.IntN(9)))
					r.Session.Tainted = random.IntN(30) == 0
					if random.IntN(3) == 0 {
						r.Evidence = texts[random.IntN(len(texts))]
					}
					r.Anomaly = policy.Anomaly{Ready: published[w] != "", ModelDigest: published[w], Exceeds: published[w] != "" && random.IntN(15) == 0}
					if r.Anomaly.Exceeds {
						r.Outcome, r.Action, r.Reasons = telemetry.OutcomeRefused, policy.ActionDeny, []policy.Reason{{Rule: "ANOM-001"}}
					}
				}))
				if most = max(most, l.room.taken); most > l.room.most/2*3 { // models, and blocks that are open
					t.Fatalf("seed %d, step %d: %d bytes are taken, of %d", seed, step, l.room.taken, l.room.most)
				}
				now = now.Add(time.Duration(random.IntN(20)) * time.Second)
			}
			if after := l.state(w); frozen[baselineOf(w)] && (after.Calls != before.Calls || after.Rejected != before.Rejected) {
				t.Fatalf("seed %d, step %d: of a frozen baseline is learned: %+v", seed, step, after)
			}
			check("records")
		case what < 65:
			spec := v1alpha1.DetectorSpec{MinCalls: []int32{16, 40, 150}[random.IntN(3)], MinSessions: 2, FalsePositivesPerMillion: []int32{10_000, 50_000}[random.IntN(2)], RetrainCalls: 100}
			spec.SharedPrior, spec.PriorScope = random.IntN(2) == 0, []v1alpha1.PriorScope{"", v1alpha1.PriorNamespace}[random.IntN(2)]
			settings[id.Namespace] = learningOf(&spec)
			l.configure(id.Namespace, settings[id.Namespace])
			check("settings")
		case what < 69:
			name := baselineOf(w)
			if frozen[name] = !frozen[name]; !frozen[name] {
				delete(frozen, name)
			}
			l.freeze(name, frozen[name])
		case what < 75:
			label := []string{v1alpha1.LabelAttack, v1alpha1.LabelFalsePositive}[random.IntN(2)]
			if err := l.label(w, said{fmt.Sprint(calls - random.IntN(200)), label}); err == nil {
				before := l.state(w)
				must(t, l.keepNow(lab.ctx, w))
				if before.Attacks+before.FalsePositives == 0 {
					t.Fatalf("seed %d, step %d: a label is lost", seed, step)
				}
			}
			check("label")
		case what < 80:
			var connected []xds.Workload
			for _, id := range all[:random.IntN(len(all))] {
				connected = append(connected, id.Workload())
			}
			must(t, l.meet(lab.ctx, connected))
			check("meet")
		case what < 83:
			must(t, l.forget(lab.ctx, w))
			if s := l.state(w); s.Calls != 0 || s.Model != "" || published[w] != "" {
				t.Fatalf("seed %d, step %d: forgotten, and %+v", seed, step, s)
			}
			check("deletion")
		case what < 90:
			now = now.Add(time.Duration(random.IntN(7200)) * time.Second)
			l.tidy()
			l.flush(lab.ctx, false)
			check("time")
		case what < 98:
			work()
		default:
			orderly := random.IntN(2) == 0
			if orderly {
				l.flush(lab.ctx, true)
			}
			before, states := published, map[xds.Workload]LearnedState{}
			for _, w := range l.known() {
				states[w] = l.state(w)
			}
			lead()
			again()
			check("another leader")
			for w, digest := range before {
				if published[w] != digest {
					t.Fatalf("seed %d, step %d: of %v another leader publishes %q, not %q", seed, step, w, published[w], digest)
				}
			}
			for w, was := range states {
				is := l.state(w)
				if orderly && (is.Calls != was.Calls || is.Attacks != was.Attacks || is.FalsePositives != was.FalsePositives || is.Source != was.Source || is.Unheard != was.Unheard) || is.Attacks < was.Attacks {
					t.Fatalf("seed %d, step %d: of %v another leader knows %+v, not %+v", seed, step, w, is, was)
				}
			}
		}
	}
	work()
	t.Logf("seed %d: %d calls of %d workloads, %d with a model, at most %d bytes of %d", seed, calls, len(l.workloads), len(published), most, l.room.most)
}
