package controlplane

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
)

// What was learned under another salt is not taken up: its words would all be new.
func TestAnotherSalt(t *testing.T) {
	w := xds.Workload{Namespace: "a", Kind: "Pod", Name: "b"}
	b, err := encodeLearned(w, 7, newLearned(w, time.Now()))
	must(t, err)
	if _, _, err := decodeLearned(b, salted(7), time.Now()); err != nil {
		t.Error(err)
	}
	if _, _, err := decodeLearned(b, salted(8), time.Now()); err == nil {
		t.Error("accepted")
	}
}

// A model that was trained when the clock was ahead grows old all the same.
func TestAClockThatWasAhead(t *testing.T) {
	w, now := xds.Workload{Namespace: "a", Kind: "Pod", Name: "b"}, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	have := newLearned(w, now)
	have.trainedAt = now.AddDate(1, 0, 0)
	b, err := encodeLearned(w, 7, have)
	must(t, err)
	if _, have, err = decodeLearned(b, salted(7), now); err != nil || !have.trainedAt.Equal(now) {
		t.Errorf("trained at %s, %v", have.trainedAt, err)
	}
}

// TestAFullBaselineIsKept holds the largest baseline that there is against what the API takes.
func TestAFullBaselineIsKept(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	w := xds.Workload{Namespace: "agents", Kind: "Deployment", Name: "web"}
	have := &learned{reservoir: detector.NewReservoir(reservoirCapacity, seed(w)), source: v1alpha1.ModelOwn, trainedAt: time.Now().UTC().Truncate(time.Second), admitted: 2048}
	random := rand.New(rand.NewPCG(1, 2))
	said := wordyTexts(random)
	const offered = reservoirCapacity * 5 / 4
	for i := range offered {
		row := detector.Row{Session: fmt.Sprintf("session-%d", i%400)}
		for f := range row.Vector {
			row.Vector[f] = float32(random.NormFloat64())
		}
		row.Evidence = said[i%len(said)]
		have.reservoir.Add(row, detector.Admission{Released: true})
		if i < offered-300 {
			continue // none of which is remembered
		}
		call := recentCall{id: fmt.Sprint(i), label: v1alpha1.LabelAttack, counted: true}
		have.recent.exceeded.push(call, row, maxExceeded)
		have.recent.others.push(call, row, maxSampled)
		have.labels.push(call, row, maxLabels)
	}
	have.spoken, have.own, have.lent, have.said = 3, 2048, 1, "said"
	have.recent.tally = tally{Judged: 7, Exceeded: 1}
	model, err := detector.Train(have.reservoir.Rows()[:512], detector.Options{})
	must(t, err)
	have.model, err = encodeModel(model)
	must(t, err)
	have.drift = &drift{Calls: 300, Moved: true, Exceeds: true, Features: []driftedFeature{{"size.messages", 0.5}}}
	content, err := encodeLearned(w, 7, have)
	must(t, err)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	must(t, k.save(l.ctx, keptBaseline, workloadName(w), content))
	all, unusable, err := k.load(l.ctx, keptBaseline)
	must(t, err)
	if len(all) != 1 || len(unusable) != 0 {
		t.Fatalf("found %d, unusable %v", len(all), unusable)
	}
	gotW, got, err := decodeLearned(all[workloadName(w)], salted(7), time.Now())
	must(t, err)
	if gotW != w || got.model.Digest() != model.Digest() || got.reservoir.Counts() != have.reservoir.Counts() || !got.trainedAt.Equal(have.trainedAt) || got.admitted != have.admitted {
		t.Errorf("kept %+v, found %+v", have, got)
	}
	for i, list := range [][2]*calls{{&got.recent.exceeded, &have.recent.exceeded}, {&got.recent.others, &have.recent.others}, {&got.labels, &have.labels}} {
		if len(list[0].list) != len(list[1].list) || !bytes.Equal(list[0].append(nil), list[1].append(nil)) {
			t.Errorf("list %d: kept %d calls, found %d", i, len(list[1].list), len(list[0].list))
		}
	}
	if got.recent.tally != have.recent.tally || !reflect.DeepEqual(got.drift, have.drift) || len(got.attacked) == 0 || got.spoken == got.heard || got.own != 2048 || got.lent != 1 || got.said != have.said || got.source != have.source {
		t.Errorf("kept %+v, found %+v", have, got)
	}
	encoded, _ := model.MarshalBinary()
	t.Logf("model %d bytes, baseline %d bytes", len(encoded), len(content))
}

// What another version kept is refused with a word on which, and a model that was kept before models were zipped is not.
func TestKeptByOtherVersions(t *testing.T) {
	t.Parallel()
	w := xds.Workload{Namespace: "a", Kind: "Pod", Name: "b"}
	good, err := encodeLearned(w, 7, newLearned(w, time.Now()))
	must(t, err)
	if _, _, err := decodeLearned(bytes.Replace(good, []byte(`"version":2`), []byte(`"version":1`), 1), salted(7), time.Now()); err == nil || !strings.Contains(err.Error(), "version 1, not 2") {
		t.Error(err)
	}
	have := newLearned(w, time.Now())
	model, err := detector.Train(detectortest.Rows(1, 300), detector.Options{})
	must(t, err)
	have.model, err = encodeModel(model)
	must(t, err)
	have.source, have.model.encoded = v1alpha1.ModelOwn, detectortest.Unzipped(have.model.encoded)
	old, err := encodeLearned(w, 7, have)
	must(t, err)
	_, again, err := decodeLearned(old, salted(7), time.Now())
	must(t, err)
	if !bytes.Equal(again.model.encoded, have.model.encoded) || again.model.info != have.model.info {
		t.Errorf("%+v, %d bytes", again.model.info, len(again.model.encoded))
	}
}

// A model that cannot be read, as it is of a version that is not read any more, costs a training, and not what was learned.
func TestAModelThatCannotBeRead(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	first := l.learner(nil, &now)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 80 {
		first.Record(id, record(random, i, nil))
	}
	have := first.workloads[id.Workload()]
	have.replace(&encodedModel{encoded: []byte("SPDM of tomorrow"), digest: "x"}, v1alpha1.ModelOwn)
	first.flush(l.ctx, true)
	second := l.learner(nil, &now)
	reported := 0
	second.report = func(err error, what string) {
		if reported++; !errors.Is(err, errModel) {
			t.Error(err)
		}
	}
	must(t, second.restore(l.ctx, salted(0)))
	if s := second.state(id.Workload()); s.Calls != 80 || s.Model != "" || s.Source != "" || reported != 1 {
		t.Errorf("%+v, %d reported", s, reported)
	}
	second.configure(id.Namespace, learningOf(&quick))
	for second.doOne(l.ctx) {
	}
	if s := second.state(id.Workload()); s.Source != v1alpha1.ModelOwn || s.TrainedOn != 80 {
		t.Errorf("%+v", s)
	}
}

func TestWhatIsKeptInPieces(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	random := rand.NewChaCha8([32]byte{1})
	content := make([]byte, 3*maxPieceBytes)
	load := func() map[string][]byte {
		t.Helper()
		all, unusable, err := k.load(l.ctx, keptBaseline)
		must(t, err)
		if len(unusable) > 0 {
			t.Fatal(unusable)
		}
		return all
	}
	for _, size := range []int{0, 10, len(content), maxPieceBytes + 10, 5, len(content)} {
		_, _ = random.Read(content)
		must(t, k.save(l.ctx, keptBaseline, "a/B/c", content[:size]))
		must(t, k.save(l.ctx, keptBundle, "other", content[:1]))
		if got := load(); len(got) != 1 || !bytes.Equal(got["a/B/c"], content[:size]) {
			t.Fatalf("%d bytes kept, %d found", size, len(got["a/B/c"]))
		}
	}
	// A piece that is missing is noticed.
	var pieces corev1.ConfigMapList
	must(t, l.client.List(l.ctx, &pieces, client.InNamespace(l.namespace), client.MatchingLabels{componentLabel: keptBaseline}))
	if len(pieces.Items) != 5 {
		t.Errorf("%d ConfigMaps for %d bytes", len(pieces.Items), len(content))
	}
	for i := range pieces.Items {
		if strings.HasSuffix(pieces.Items[i].Name, "-1") {
			must(t, l.client.Delete(l.ctx, &pieces.Items[i]))
		}
	}
	all, unusable, err := k.load(l.ctx, keptBaseline)
	must(t, err)
	if len(all) != 0 || len(unusable) != 1 {
		t.Errorf("found %d, unusable %v", len(all), unusable)
	}
	must(t, k.remove(l.ctx, keptBaseline, "a/B/c"))
	must(t, k.remove(l.ctx, keptBaseline, "a/B/c"))
	must(t, l.client.List(l.ctx, &pieces, client.InNamespace(l.namespace), client.MatchingLabels{componentLabel: keptBaseline}))
	if len(pieces.Items) != 0 {
		t.Errorf("%d ConfigMaps are left", len(pieces.Items))
	}
}

// A leader that was replaced does not write over what its successor wrote.
func TestALateWrite(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	first := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	second := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	must(t, first.save(l.ctx, keptBaseline, "a/B/c", []byte("one")))
	must(t, first.saveLast(l.ctx, keptBaseline, "a/B/c", []byte("two")))
	must(t, first.saveLast(l.ctx, keptBaseline, "a/B/new", []byte("one")))
	all, _, err := second.load(l.ctx, keptBaseline)
	must(t, err)
	if len(all) != 2 {
		t.Fatalf("%d are kept", len(all))
	}
	must(t, second.save(l.ctx, keptBaseline, "a/B/c", []byte("three")))
	must(t, second.remove(l.ctx, keptBaseline, "a/B/new"))
	for _, id := range []string{"a/B/c", "a/B/new"} {
		if err := first.saveLast(l.ctx, keptBaseline, id, []byte("four")); !errors.Is(err, errSuperseded) {
			t.Errorf("%s: %v", id, err)
		}
	}
	all, _, err = second.load(l.ctx, keptBaseline)
	must(t, err)
	if len(all) != 1 || string(all["a/B/c"]) != "three" {
		t.Errorf("%d are kept: %q", len(all), all)
	}
	must(t, second.saveLast(l.ctx, keptBaseline, "a/B/c", []byte("five")))
}

// A workload of the longest texts has a baseline that can be kept all the same.
func TestABaselineIsBounded(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	largest := 0
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace, wrote: func(_ string, n int) { largest = max(largest, n) }}
	learner := l.learner(k, &now)
	learner.salt = salted(7)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "wordy"}
	learner.configure(id.Namespace, learningOf(&v1alpha1.DetectorSpec{MinCalls: reservoirCapacity}))
	random := rand.New(rand.NewPCG(1, 2))
	var texts [24][]byte
	for i := range texts {
		for range 14 {
			texts[i] = append(texts[i], fmt.Sprintf("%x ", random.Uint64())...)
			for range 300 {
				texts[i] = fmt.Appendf(texts[i], "w%c%c%c ", 'a'+rune(random.IntN(26)), 'a'+rune(random.IntN(26)), 'a'+rune(random.IntN(26)))
			}
		}
		texts[i] = evidenceOf(string(texts[i]))
	}
	for i := range 800 {
		learner.Record(id, record(random, i, func(r *telemetry.Record) {
			r.Session.ID, r.Evidence = fmt.Sprint("session-", i/12), texts[i%len(texts)]
		}))
		now = now.Add(3 * time.Second)
		learner.flush(l.ctx, false)
	}
	t.Logf("evidence of %d bytes a call; %.1f MB written at most", len(texts[0]), float64(largest)/1e6)
	have := learner.workloads[id.Workload()]
	t.Logf("%d bytes of memory", have.bytes)
	if have.bytes > 4<<20 {
		t.Errorf("%d bytes", have.bytes)
	}
}

// What one busy workload has written in an hour, to within what its calls look like.
func TestWhatIsWrittenInAnHour(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	written, writes := 0, 0
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace, wrote: func(_ string, n int) { written, writes = written+n, writes+1 }}
	learner := l.learner(k, &now)
	learner.salt = salted(7)
	var model *detector.Model // one is as large as another
	learner.fit = func(rows []detector.Row, o detector.Options) (*detector.Model, error) {
		var err error
		if model == nil {
			model, err = detector.Train(rows, o)
		}
		return model, err
	}
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "busy"}
	learner.configure(id.Namespace, learningOf(&v1alpha1.DetectorSpec{}))
	random := rand.New(rand.NewPCG(1, 2))
	texts := wordyTexts(random)
	hours := 2
	if testing.Short() {
		hours = 1 // in which most is written
	}
	for hour := range hours {
		written, writes = 0, 0
		for second := range 3600 {
			at := hour*3600 + second
			learner.Record(id, record(random, at, func(r *telemetry.Record) {
				r.Session.ID, r.Evidence = fmt.Sprint("session-", at/12), texts[at%len(texts)]
			}))
			now = now.Add(time.Second)
			if second%10 == 0 {
				learner.flush(l.ctx, false)
				for learner.doOne(l.ctx) {
				}
			}
		}
		t.Logf("hour %d, a call a second of %d bytes of evidence: %d writes, %.1f MB", hour+1, len(texts[0]), writes, float64(written)/1e6)
		t.Logf("%d bytes of memory", learner.taken())
		if writes > 6 || written > 8<<20 {
			t.Errorf("hour %d: %d writes, %d bytes", hour+1, writes, written)
		}
	}
}

// What was learned of words is there again when the Secret of the salts is right again, also after a while without.
func TestWithoutWordsForAWhile(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	id := xds.Identity{Namespace: "agents", Kind: "Deployment", Name: "web"}
	lead := func(salt uint64, calls int) int64 {
		t.Helper()
		learner := l.learner(nil, &now)
		must(t, learner.restore(l.ctx, salted(salt)))
		before := learner.state(id.Workload()).Calls
		random := rand.New(rand.NewPCG(1, 2))
		for i := range calls {
			learner.Record(id, record(random, i, func(r *telemetry.Record) { r.Evidence = evidenceOf("so many words") }))
		}
		learner.flush(l.ctx, true)
		return before
	}
	lead(7, 100)
	if n := lead(0, 10); n != 0 {
		t.Errorf("%d calls without a salt", n)
	}
	if n := lead(0, 1); n != 10 {
		t.Errorf("%d calls without a salt, again", n)
	}
	if n := lead(7, 1); n != 100 {
		t.Errorf("%d calls with the salt that there was", n)
	}
	if n := lead(0, 0); n != 0 {
		t.Errorf("%d calls of long ago", n)
	}
	learner := l.learner(nil, &now)
	learner.salt = salted(0)
	must(t, learner.forget(l.ctx, id.Workload()))
	if n := lead(7, 0); n != 0 {
		t.Errorf("%d calls are left of what was forgotten", n)
	}
}

// What a write that was broken off has left is dropped, and nothing else.
func TestSweep(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	random := rand.NewChaCha8([32]byte{1})
	content := make([]byte, maxPieceBytes+10)
	save := func(id string) {
		_, _ = random.Read(content)
		must(t, k.save(l.ctx, keptBaseline, id, content))
	}
	save("a/B/c")
	save("a/B/d")
	must(t, l.client.Delete(l.ctx, k.object(keptBaseline, keptName(keptBaseline, "a/B/d")))) // so that two pieces are nobody's
	save("a/B/e")
	for _, left := range []string{pieceName(keptName(keptBaseline, "a/B/e"), "0123456789abcdef", 0), pieceName(keptName(keptBaseline, "a/B/e"), "0123456789abcdef", 1)} {
		l.create(k.object(keptBaseline, left))
	}
	count := func() int {
		var pieces corev1.ConfigMapList
		must(t, l.client.List(l.ctx, &pieces, client.InNamespace(l.namespace), client.MatchingLabels{componentLabel: keptBaseline}))
		return len(pieces.Items)
	}
	next := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	all, unusable, err := next.load(l.ctx, keptBaseline)
	must(t, err)
	before := count()
	must(t, next.sweep(l.ctx, keptBaseline, time.Now()))
	if n := count(); n != before {
		t.Errorf("%d of %d pieces that have just been written are dropped", before-n, before)
	}
	must(t, next.sweep(l.ctx, keptBaseline, time.Now().Add(2*sweepAfter)))
	again, broken, err := next.load(l.ctx, keptBaseline)
	must(t, err)
	if n := count(); n != before-2-2 || len(all) != 2 || len(again) != 2 || len(unusable)+len(broken) != 0 {
		t.Errorf("%d pieces, before %d; %d are kept, before %d; unusable %v, before %v", n, before, len(again), len(all), broken, unusable)
	}
}

func FuzzKeptBaseline(f *testing.F) {
	w := xds.Workload{Namespace: "a", Kind: "Pod", Name: "b"}
	good, err := encodeLearned(w, 7, newLearned(w, time.Now()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		w, have, err := decodeLearned(b, salted(7), time.Now())
		if err == nil {
			if _, err := encodeLearned(w, 7, have); err != nil {
				t.Errorf("read but not written: %v", err)
			}
		}
	})
}
