package controlplane

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
)

// recordsOf are records of rows, as sidecars send them.
func recordsOf(t testing.TB, rows []detector.Row, model string) [][]byte {
	t.Helper()
	out := make([][]byte, len(rows))
	for i := range rows {
		r := telemetry.Record{ID: fmt.Sprintf("0198e7a4-0000-7000-8000-%012d", i), Outcome: telemetry.OutcomeReleased, Action: policy.ActionAllow, Schema: features.SchemaID, Features: rows[i].Vector[:], Evidence: rows[i].Evidence}
		r.Anomaly = policy.Anomaly{Ready: model != "", ModelDigest: model}
		r.Session.ID = fmt.Sprintf("0198e7a4-1111-7000-8000-%012d", i/12)
		var err error
		out[i], err = json.Marshal(r)
		must(t, err)
	}
	return out
}

// However much hundreds of workloads have to teach, what is kept of it stays under the bound. Those that came first give up what is more than their share, and no workload is refused for it.
func TestRoomIsShared(t *testing.T) {
	t.Parallel()
	const first, workloads, calls, wanted = 2, 45, 150, 100
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	l := newLearner(nil, nil, func() time.Time { return now }, func() {}, func() {}, newMetrics(), nil)
	l.salt = salted(7)
	l.room.least, l.room.most, l.room.bound = 32<<10, 5<<19, func() int { return 5 << 19 }
	l.configure("agents", learningOf(&v1alpha1.DetectorSpec{MinCalls: wanted, MinSessions: 2}))
	rows := detectortest.Rows(1, reservoirCapacity)
	records := recordsOf(t, rows, "")
	name := func(i int) xds.Identity {
		return xds.Identity{Namespace: "agents", Kind: "Deployment", Name: fmt.Sprint("agent-", i)}
	}
	most := 0
	send := func(i, from, to int) {
		t.Helper()
		for _, record := range records[from:to] {
			now = now.Add(time.Millisecond)
			l.Record(name(i), record)
			if most = max(most, l.room.taken); l.room.taken > l.room.most {
				t.Fatalf("%d bytes are kept, %d may be", l.room.taken, l.room.most)
			}
		}
	}
	for i := range first {
		send(i, 0, len(records))
	}
	have := func(i int) *learned { return l.workloads[name(i).Workload()] }
	before := have(0).bytes
	for i := first; i < workloads; i++ {
		send(i, 0, calls)
		if have(i) == nil {
			t.Fatalf("workload %d is refused, of %d bytes %d are taken", i, l.room.most, l.room.taken)
		}
	}
	largest, least, sum := 0, l.room.most, 0
	for i := range workloads {
		w := have(i)
		if c := w.reservoir.Counts(); c.Calls < wanted {
			t.Errorf("workload %d holds %d calls, %d are wanted", i, c.Calls, wanted)
		}
		if l.due(name(i).Workload(), w) != trainOwn {
			t.Errorf("workload %d can have no model", i)
		}
		largest, least, sum = max(largest, w.bytes), min(least, w.bytes), sum+w.bytes
	}
	if sum != l.room.taken {
		t.Errorf("%d bytes are counted, %d are taken", l.room.taken, sum)
	}
	t.Logf("%d bytes at most; the first had %d, and have %d; of %d workloads the largest has %d and the least %d", most, before, have(0).bytes, workloads, largest, least)
	if have(0).bytes > before/2 || !have(0).limited || largest > 4*least {
		t.Errorf("the first has %d of %d bytes, the largest %d and the least %d", have(0).bytes, before, largest, least)
	}
	if s := l.state(name(0).Workload()); !s.Limited || s.Held >= reservoirCapacity {
		t.Errorf("state %+v", s)
	}

	// There is an end to it, which is counted and said, and not for ever.
	i := workloads
	for ; l.state(name(i-1).Workload()).NoRoom == false; i++ {
		send(i, 0, 1)
	}
	if refused := l.phases()["no_room"]; refused != 1 || i > l.room.most/l.room.least+1 {
		t.Errorf("%d refused, after %d", refused, i)
	}
	last := name(i - 1).Workload()
	for gone := range first {
		l.leave(name(gone).Workload())
	}
	now = now.Add(lookEvery)
	send(i-1, 0, 1)
	if l.state(last).NoRoom || l.workloads[last] == nil {
		t.Error("still refused")
	}

	// Where there is room again, as much is learned as before.
	for i := first; i < workloads; i++ {
		l.leave(name(i).Workload())
	}
	for i := range first {
		send(i, 0, calls)
	}
	l.tidy()
	for w, have := range l.workloads {
		if have.limited {
			t.Errorf("%v is limited", w)
		}
	}
}

func TestLevel(t *testing.T) {
	for _, tt := range []struct {
		sizes []int
		most  int
		want  int
	}{
		{[]int{10, 20, 30}, 60, 30}, {[]int{10, 20, 30}, 59, 29}, {[]int{30, 10, 20}, 45, 17}, {[]int{5, 100, 100}, 105, 50}, {[]int{7}, 3, 3}, {[]int{7}, 0, 0}, {[]int{7, 7}, -5, 0}, {nil, 5, 0},
	} {
		if got := level(slices.Clone(tt.sizes), tt.most); got != tt.want {
			t.Errorf("%v in %d: %d each, want %d", tt.sizes, tt.most, got, tt.want)
		}
	}
}

// What came last of a workload that does not call any more is packed as well.
func TestTidy(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	l := newLearner(nil, nil, func() time.Time { return now }, func() {}, func() {}, newMetrics(), nil)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	for _, record := range recordsOf(t, detectortest.Rows(1, 60), "") {
		l.Record(id, record)
	}
	before := l.room.taken
	l.tidy()
	if l.room.taken != before {
		t.Errorf("%d bytes, before %d", l.room.taken, before)
	}
	now = now.Add(settledAfter)
	l.tidy()
	if l.room.taken > before*2/3 || l.room.taken != l.workloads[id.Workload()].bytes {
		t.Errorf("%d bytes, before %d", l.room.taken, before)
	}
}

// What three hundred workloads take that all call, of which each has a full reservoir, a model of its own, and all that is remembered of calls.
func BenchmarkThreeHundredBusyWorkloads(b *testing.B) {
	const workloads = 300
	rows := detectortest.Rows(1, reservoirCapacity)
	model, err := detector.Train(rows, detector.Options{})
	must(b, err)
	encoded, err := encodeModel(model)
	must(b, err)
	records := recordsOf(b, rows, encoded.digest)
	for b.Loop() {
		now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		before := heap()
		l := newLearner(nil, nil, func() time.Time { return now }, func() {}, func() {}, newMetrics(), nil)
		l.salt = salted(7)
		began := time.Now()
		for i := range workloads {
			id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: fmt.Sprint("agent-", i)}
			for k, record := range records {
				l.Record(id, record)
				if k == 0 {
					own := *encoded
					own.encoded = append([]byte(nil), encoded.encoded...)
					l.workloads[id.Workload()].replace(&own, v1alpha1.ModelOwn)
				}
				now = now.Add(windowEvery)
			}
		}
		took := time.Since(began)
		after := heap()
		b.ReportMetric(float64(after-before)/(1<<20), "MB-heap")
		b.ReportMetric(float64(l.taken())/(1<<20), "MB-counted")
		b.ReportMetric(float64(took.Microseconds())/float64(workloads*len(records)), "µs/record")
		full := l.workloads[xds.Workload{Namespace: "agents", Kind: "Deployment", Name: "agent-1"}]
		all, evidence := full.reservoir.Bytes()
		b.Logf("of one: %d bytes; the reservoir %d, of which %d evidence; calls %d, window %d; model %d", full.bytes, all, evidence, full.recent.exceeded.bytes()+full.recent.others.bytes(), full.recent.window.Bytes(), len(full.model.encoded))
		runtime.KeepAlive(l)
	}
}

// heap is how much memory is in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What it takes to lead: to take up three hundred baselines of busy workloads, as they are kept in the API.
func BenchmarkTakingUpThreeHundredBaselines(b *testing.B) {
	const workloads = 300
	lab := newLab(b)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	rows := detectortest.Rows(1, reservoirCapacity)
	model, err := detector.Train(rows, detector.Options{})
	must(b, err)
	encoded, err := encodeModel(model)
	must(b, err)
	have := newLearned(xds.Workload{}, now)
	have.replace(encoded, v1alpha1.ModelOwn)
	for i, row := range rows {
		row.Session = fmt.Sprintf("0198e7a4-1111-7000-8000-%012d", i/12)
		have.reservoir.Add(row, detector.Admission{Released: true})
		have.recent.others.push(recentCall{id: fmt.Sprintf("0198e7a4-0000-7000-8000-%012d", i)}, row, maxSampled)
	}
	k := &keeper{client: lab.client, reader: lab.client, namespace: lab.namespace}
	for i := range workloads {
		w := xds.Workload{Namespace: "agents", Kind: "Deployment", Name: fmt.Sprint("agent-", i)}
		content, err := encodeLearned(w, 7, have)
		must(b, err)
		must(b, k.save(lab.ctx, keptBaseline, workloadName(w), content))
	}
	for b.Loop() {
		before := heap()
		l := lab.learner(k, &now)
		stop := make(chan struct{})
		peak := make(chan uint64)
		go highest(stop, peak)
		began := time.Now()
		must(b, l.restore(lab.ctx, salted(7)))
		b.ReportMetric(time.Since(began).Seconds(), "s/start")
		close(stop)
		b.ReportMetric(float64(<-peak-before)/(1<<20), "MB-peak")
		b.ReportMetric(float64(heap()-before)/(1<<20), "MB-heap")
		if n := len(l.known()); n != workloads {
			b.Fatalf("%d taken up", n)
		}
	}
}

// highest is how much memory was in use at most, garbage included.
func highest(stop chan struct{}, out chan uint64) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var most uint64
	for {
		select {
		case <-stop:
			out <- most
			return
		case <-tick.C:
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
		}
	}
}

// A workload that gave up calls takes in as many as a model of its own takes, also when that is more than it was.
func TestMoreIsWantedThanWasLeft(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	l := newLearner(nil, nil, func() time.Time { return now }, func() {}, func() {}, newMetrics(), nil)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	l.configure(id.Namespace, learningOf(&v1alpha1.DetectorSpec{MinCalls: 50, MinSessions: 100}))
	records := recordsOf(t, detectortest.Rows(1, 1500), "")
	for _, record := range records[:600] {
		l.Record(id, record)
	}
	have := l.workloads[id.Workload()]
	if have.giveUp(0, l.leastCalls(id.Workload())); have.capacity != 100 {
		t.Fatalf("capacity %d, and 100 sessions are wanted", have.capacity)
	}
	l.configure(id.Namespace, learningOf(&v1alpha1.DetectorSpec{MinCalls: 400, MinSessions: 2}))
	for _, record := range records[600:] {
		l.Record(id, record)
	}
	if c := have.reservoir.Counts(); c.Calls != 400 || c.Evidence != 0 || l.due(id.Workload(), have) != trainOwn {
		t.Errorf("%+v", c)
	}
}

// Jobs that have a name for each run do not take the room of what comes after them for ever, and take nothing from what has a model, labels or a sidecar.
func TestRoomOfWhatIsGone(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	learner := l.learner(k, &now)
	learner.salt = salted(7)
	learner.room.least = 32 << 10
	learner.room.most = 10 * learner.room.least
	learner.configure("agents", learningOf(&quick))
	id := func(i int) xds.Identity {
		return xds.Identity{Namespace: "agents", Kind: "Job", Name: fmt.Sprint("run-", i)}
	}
	records := recordsOf(t, detectortest.Rows(1, 100), "")
	for _, record := range records {
		learner.Record(id(0), record)
	}
	for learner.doOne(l.ctx) {
	}
	refused, runs := 0, 1
	for ; runs < 40; runs++ {
		learner.Record(id(runs), records[0])
		if learner.workloads[id(runs).Workload()] == nil {
			refused++
		}
		connected := []xds.Workload{id(1).Workload(), id(runs).Workload()}
		must(t, learner.meet(l.ctx, connected))
		learner.Record(id(runs), records[1])
		if learner.workloads[id(runs).Workload()] == nil {
			t.Fatalf("there is no room for run %d", runs)
		}
		must(t, learner.keepNow(l.ctx, id(runs).Workload()))
		if runs == 2 {
			must(t, learner.label(id(2).Workload(), said{"0198e7a4-0000-7000-8000-000000000000", v1alpha1.LabelAttack}))
		}
		now = now.Add(20 * time.Minute)
	}
	for i, why := range []string{"has a model", "has a sidecar", "has a label"} {
		if learner.workloads[id(i).Workload()] == nil {
			t.Errorf("run %d is forgotten, and %s", i, why)
		}
	}
	kept, _, err := k.load(l.ctx, keptBaseline)
	must(t, err)
	if n := len(learner.known()); refused == 0 || n > 10 || len(kept) > n {
		t.Errorf("%d are learned, %d kept, and %d were refused at first", n, len(kept), refused)
	}
	// A namespace that is gone takes with it what came of it late.
	late := xds.Identity{Namespace: "gone", Kind: "Pod", Name: "late"}
	for i := range 30 {
		learner.leave(id(i).Workload())
	}
	learner.Record(late, records[0])
	now = now.Add(2 * forgottenAfter)
	must(t, learner.meet(l.ctx, nil))
	if learner.workloads[late.Workload()] != nil {
		t.Error("what came of a namespace that is gone is there still")
	}
}

// Where all have given up what they can and it is too little, nothing grows: calls take the place of others. That is told.
func TestNothingGrowsWithoutRoom(t *testing.T) {
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	l := newLearner(nil, nil, func() time.Time { return now }, func() {}, func() {}, newMetrics(), nil)
	l.salt = salted(7)
	l.configure("agents", learningOf(&v1alpha1.DetectorSpec{MinCalls: 200, MinSessions: 2}))
	records := recordsOf(t, detectortest.Rows(1, 700), "")
	old, young := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "old"}, xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "young"}
	for _, record := range records[:400] {
		l.Record(old, record)
	}
	l.Record(young, records[0])
	l.room.most, l.room.bound = 0, func() int { return 0 }
	now = now.Add(time.Minute)
	l.tidy()
	before := l.taken()
	for _, record := range records[400:] {
		l.Record(old, record)
		l.Record(young, record)
	}
	if s := l.state(young.Workload()); s.Held != 1 || s.Calls != 1 || !s.Limited {
		t.Errorf("the young has %+v", s)
	}
	if s := l.state(old.Workload()); s.Held != 200 || s.Calls < 600 || !s.Limited {
		t.Errorf("the old has %+v", s)
	}
	if after := l.taken(); after > before+64<<10 { // rows that came last are not packed yet
		t.Errorf("%d bytes, before %d", after, before)
	}
}
