package detector_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
)

// model is trained once for all tests, which must not change it.
var model = sync.OnceValue(func() *detector.Model {
	m, err := detectortest.Model(1)
	if err != nil {
		panic(err)
	}
	return m
})

func TestNilModelIsNotReady(t *testing.T) {
	var m *detector.Model
	var v features.Vector
	v[0] = float32(math.NaN())
	got := m.Judge(&v)
	if got.Ready || got.Exceeds || got.Score != 0 || got.Percentile != 0 || got.TopFeatures == nil {
		t.Errorf("verdict of no model: %+v", got)
	}
	if m.Digest() != "" || m.Info() != (detector.Info{}) || m.Contributions(&v) != nil || m.Unit() != 0 {
		t.Error("no model has something to say")
	}
	if _, err := m.MarshalBinary(); err == nil {
		t.Error("no model was encoded")
	}
	if _, err := new(detector.Model).MarshalBinary(); err == nil || new(detector.Model).Judge(&v).Ready {
		t.Error("a zero model is taken for a trained one")
	}
}

func TestJudge(t *testing.T) {
	m := model()
	g := detectortest.New(99)
	var benign, exceeding, missed, hijacked int
	score := func(c detectortest.Conversation, each func(i int, a policy.Anomaly)) {
		sessions := features.NewSessions(0, 0)
		at := detectortest.Epoch
		for i, call := range c.Calls {
			at = at.Add(c.Gaps[i])
			turn := sessions.Begin(call, at)
			var v features.Vector
			features.Extract(&v, nil, call, turn, &features.Context{Salt: detectortest.Salt, Baseline: m.Baseline(), Now: at})
			a := m.Judge(&v)
			check(t, m, a)
			each(i, a)
			sessions.Settle(turn, features.Outcome{Percentile: a.Percentile, Score: a.Score, Released: true}, at)
		}
	}
	for range 300 {
		score(g.Benign(), func(_ int, a policy.Anomaly) {
			benign++
			if a.Exceeds {
				exceeding++
			}
		})
		c := g.Hijacked()
		score(c, func(i int, a policy.Anomaly) {
			if i == c.Exposed {
				hijacked++
				if !a.Exceeds {
					missed++
				}
				if len(a.TopFeatures) == 0 {
					t.Errorf("no features named for a score of %v", a.Score)
				}
			}
		})
	}
	t.Logf("%d of %d benign calls exceed, %d of %d injections are missed", exceeding, benign, missed, hijacked)
	if exceeding*33 > benign { // conversations are made of few pieces, so that what exceeds does so in many
		t.Errorf("%d of %d benign calls exceed a threshold for one in a hundred", exceeding, benign)
	}
	if missed*20 > hijacked {
		t.Errorf("%d of %d injections are missed", missed, hijacked)
	}
}

// check asserts what holds of every verdict.
func check(t *testing.T, m *detector.Model, a policy.Anomaly) {
	t.Helper()
	if !a.Ready || a.ModelDigest != m.Digest() || a.Threshold != m.Info().Threshold {
		t.Errorf("verdict is not the model's: %+v", a)
	}
	if !(a.Score >= 0 && a.Score <= 1) || !(a.Percentile >= 0 && a.Percentile < 1) || a.Exceeds != (a.Score > a.Threshold) {
		t.Errorf("verdict that cannot be: %+v", a)
	}
	if len(a.TopFeatures) > 5 || a.Percentile <= 0.9 && len(a.TopFeatures) > 0 {
		t.Errorf("%d features named at percentile %v", len(a.TopFeatures), a.Percentile)
	}
	if !slices.IsSortedFunc(a.TopFeatures, func(x, y policy.Feature) int {
		return -compare(x.Contribution, y.Contribution)
	}) {
		t.Errorf("features are not in order: %+v", a.TopFeatures)
	}
	if _, err := json.Marshal(a); err != nil {
		t.Error(err)
	}
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func TestJudgeWhatIsNoNumber(t *testing.T) {
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, f := range []int{0, features.Size - 1} {
			v := detectortest.Rows(1, 1)[0].Vector
			v[f] = float32(x)
			a := model().Judge(&v)
			check(t, model(), a)
			if !a.Exceeds || a.Score != 1 || a.Percentile < 0.9 {
				t.Errorf("%v passes: %+v", x, a)
			}
			if e := model().Explain(&v); !e.Exceeds {
				t.Errorf("%v passes: %+v", x, e)
			}
		}
	}
}

func TestContributionsAddUp(t *testing.T) {
	m := model()
	for _, row := range detectortest.Rows(7, 40) {
		v := row.Vector
		all := m.Contributions(&v)
		if len(all) != features.Size {
			t.Fatalf("%d contributions, want one for each of %d features", len(all), features.Size)
		}
		seen := map[string]bool{}
		for i, c := range all {
			seen[c.Name] = true
			if i > 0 && c.Contribution > all[i-1].Contribution {
				t.Fatalf("contributions are not in order: %v", all)
			}
		}
		if len(seen) != features.Size {
			t.Fatalf("%d features named, want %d", len(seen), features.Size)
		}
		// The call's features with the largest contribution are those that Explain names.
		for i, f := range m.Explain(&v).TopFeatures {
			if f != all[i] {
				t.Errorf("feature %d is %v, want %v", i, f, all[i])
			}
		}
	}
}

func TestModelRoundTrip(t *testing.T) {
	b, err := model().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	m, err := detector.Load(bytes.Clone(b))
	if err != nil {
		t.Fatal(err)
	}
	if m.Digest() != model().Digest() || m.Info() != model().Info() {
		t.Errorf("loaded %s %+v, saved %s %+v", m.Digest(), m.Info(), model().Digest(), model().Info())
	}
	for _, row := range detectortest.Rows(3, 50) {
		got, _ := json.Marshal(m.Judge(&row.Vector))
		want, _ := json.Marshal(model().Judge(&row.Vector))
		if !bytes.Equal(got, want) {
			t.Errorf("loaded %s\nsaved  %s", got, want)
		}
	}
	t.Logf("a model takes %d bytes", len(b))
}

func TestLoadRefuses(t *testing.T) {
	good, err := model().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.Replace(good, []byte(features.SchemaID), []byte("sallyport.features/v9"), 1)
	for name, tc := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":         {nil, detector.ErrCorrupt},
		"text":            {[]byte("a model, honestly"), detector.ErrCorrupt},
		"cut off":         {good[:len(good)-1], detector.ErrCorrupt},
		"one byte more":   {append(bytes.Clone(good), 0), detector.ErrCorrupt},
		"one bit flipped": {flip(good, len(good)/2), detector.ErrCorrupt},
		"other version":   {reseal(flip(good, 4)), detector.ErrCorrupt},
		"other schema":    {reseal(other), detector.ErrSchema},
		"zipped twice":    {reseal(append(bytes.Clone(good[:len(good)-4]), good[len(good)-50:]...)), detector.ErrCorrupt},
		"empty body":      {reseal(append([]byte("SPDM\x01"), 0, 0, 0, 0)), detector.ErrCorrupt},
	} {
		if _, err := detector.Load(tc.b); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

// A model that an earlier version kept says what it said, under the digest that it had.
func TestLoadVersion3(t *testing.T) {
	b, err := model().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	old := detectortest.Unzipped(b)
	m, err := detector.Load(old)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.MarshalBinary(); err != nil || !bytes.Equal(again, old) {
		t.Errorf("encoded otherwise: %v", err)
	}
	if sum := sha256.Sum256(old); m.Digest() != hex.EncodeToString(sum[:]) || m.Info() != model().Info() {
		t.Errorf("digest %s, %+v", m.Digest(), m.Info())
	}
	for _, row := range detectortest.Rows(3, 50) {
		if got, want := m.Judge(&row.Vector), model().Judge(&row.Vector); got.Score != want.Score || got.Exceeds != want.Exceeds {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	t.Logf("%d bytes, and %d in version 3", len(b), len(old))
}

func FuzzLoad(f *testing.F) {
	small, err := detector.Train(detectortest.Rows(1, 64), detector.Options{MinCalls: 64, Trees: 2, SampleSize: 8})
	if err != nil {
		f.Fatal(err)
	}
	b, _ := small.MarshalBinary()
	f.Add(b)
	f.Add([]byte("SPDM\x01"))
	var labels []detector.Labelled
	for _, r := range weak(2, 20) {
		labels = append(labels, detector.Labelled{Row: r, Attack: true})
	}
	heard, err := detector.Train(detectortest.Rows(1, 300), detector.Options{Trees: 10, SampleSize: 32, Feedback: labels, Earlier: small.Info()})
	if err != nil {
		f.Fatal(err)
	}
	if b, err := heard.MarshalBinary(); err == nil {
		f.Add(b)
	}
	f.Add(detectortest.Unzipped(b))
	for i := 0; i < len(b); i += 37 + i/16 { // most of it, and the end, are bits of words
		f.Add(flip(b, i))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, reseal(b)} {
			m, err := detector.Load(b)
			if err != nil {
				if !errors.Is(err, detector.ErrCorrupt) && !errors.Is(err, detector.ErrSchema) {
					t.Errorf("error of no kind: %v", err)
				}
				continue
			}
			again, err := m.MarshalBinary()
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("a model that was loaded is encoded otherwise: %v", err)
			}
			var v features.Vector
			if a := m.Judge(&v); !a.Ready || !(a.Score >= 0 && a.Score <= 1) {
				t.Errorf("verdict %+v", a)
			}
		}
	})
}

func TestTrainTooFew(t *testing.T) {
	rows := detectortest.Rows(1, 300)
	few := slices.Clone(rows[:300])
	for i := range few {
		few[i].Session = "one"
	}
	for name, tc := range map[string]struct {
		rows []detector.Row
		o    detector.Options
	}{
		"none":                            {nil, detector.Options{}},
		"fewer than the default":          {rows[:255], detector.Options{}},
		"fewer than asked for":            {rows, detector.Options{MinCalls: 1000}},
		"fewer sessions":                  {rows, detector.Options{MinSessions: 1000}},
		"one session":                     {few, detector.Options{}},
		"asking for none does not help":   {rows[:15], detector.Options{MinCalls: 1, MinSessions: 1}},
		"nor does it with one session":    {few, detector.Options{MinCalls: 1, MinSessions: 1}},
		"asking for less than none is so": {rows[:15], detector.Options{MinCalls: -1, MinSessions: -1}},
	} {
		if _, err := detector.Train(tc.rows, tc.o); !errors.Is(err, detector.ErrTooFew) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrainRefuses(t *testing.T) {
	rows := detectortest.Rows(1, 300)
	for _, budget := range []int{-1, 1_000_000} {
		if _, err := detector.Train(rows, detector.Options{FalsePositivesPerMillion: budget}); err == nil || errors.Is(err, detector.ErrTooFew) {
			t.Errorf("budget %d: %v", budget, err)
		}
	}
	for _, o := range []detector.Options{{SampleSize: -5}, {SampleSize: 1}, {SampleSize: 8193}, {Trees: -1}, {Trees: 1 << 20}} {
		if _, err := detector.Train(rows, o); err == nil || errors.Is(err, detector.ErrTooFew) || !strings.Contains(err.Error(), "accepted is") {
			t.Errorf("%d trees of %d: %v", o.Trees, o.SampleSize, err)
		}
	}
	for _, trimmed := range []float64{-0.1, 1.1, math.NaN()} {
		if _, err := detector.Train(rows, detector.Options{Trimmed: trimmed}); err == nil {
			t.Errorf("a share of %v was accepted", trimmed)
		}
	}
	rows[17].Vector[3] = float32(math.NaN())
	if _, err := detector.Train(rows, detector.Options{}); err == nil || !strings.Contains(err.Error(), features.Schema[3].Name) {
		t.Errorf("trained on what is no number: %v", err)
	}
}

func TestTrainIsRepeatable(t *testing.T) {
	rows := detectortest.Rows(1, 300)
	train := func(seed uint64) string {
		m, err := detector.Train(rows, detector.Options{Seed: seed, Trees: 10})
		if err != nil {
			t.Fatal(err)
		}
		return m.Digest()
	}
	first, again := train(1), train(1)
	if first != again {
		t.Error("the same rows and seed gave two models")
	}
	if first == train(2) {
		t.Error("the seed does not matter")
	}
}

// Where the calls do not support the budget, the threshold is the most cautious they do support, and the model says so.
func TestBudget(t *testing.T) {
	rows := detectortest.Rows(1, 300)
	previous := math.Inf(1)
	for _, tc := range []struct {
		perMillion int
		supported  bool
	}{{10, false}, {1_000, false}, {10_000, true}, {100_000, true}, {0, true}} {
		m, err := detector.Train(rows, detector.Options{FalsePositivesPerMillion: tc.perMillion})
		if err != nil {
			t.Fatal(err)
		}
		i := m.Info()
		if i.Supported != tc.supported {
			t.Errorf("budget %d is supported by %d calls: %v", tc.perMillion, i.Calls, i.Supported)
		}
		if tc.perMillion > 0 && i.Threshold > previous {
			t.Errorf("a larger budget, %d, raised the threshold from %v to %v", tc.perMillion, previous, i.Threshold)
		}
		previous = i.Threshold
		if i.Calls != len(rows) || i.Sessions < 8 || i.Schema != features.SchemaID {
			t.Errorf("info %+v", i)
		}
	}
}

// Beyond the largest score that training saw, percentiles go on, and so do thresholds for budgets that the calls do not support.
func TestBeyondWhatWasSeen(t *testing.T) {
	rows := detectortest.Rows(1, 300)
	m, err := detector.Train(rows, detector.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var v features.Vector
	last, beyond := -1., 0
	for x := range 200 {
		for i := range v {
			v[i] = float32(x) / 8
		}
		a := m.Judge(&v)
		check(t, m, a)
		if a.Percentile < last {
			t.Errorf("percentile %v after %v", a.Percentile, last)
		}
		if end := 300. / 301; last >= end && a.Percentile < 0.999999 {
			beyond++
			if a.Percentile <= last {
				t.Errorf("a call farther away, of score %v, has the same percentile, %v", a.Score, last)
			}
		}
		last = a.Percentile
	}
	if last != 0.999999 || beyond < 3 {
		t.Errorf("the farthest call has percentile %v, and %d were between it and the largest seen", last, beyond)
	}
	v[0] = float32(math.NaN())
	if a := m.Judge(&v); a.Percentile != 0.999999 || !a.Exceeds || a.Score != 1 {
		t.Errorf("verdict of no numbers: %+v", a)
	}

	// A sixteenth of the budget that one in all of the calls would be lies at twice the distance.
	distance := func(o detector.Options) float64 {
		m, err := detector.Train(rows, o)
		if err != nil {
			t.Fatal(err)
		}
		s := m.Info().Threshold
		return s / (1 - s)
	}
	one := 1e6 / float64(len(rows)+1)
	largest := distance(detector.Options{FalsePositivesPerMillion: int(one)})
	if d := distance(detector.Options{FalsePositivesPerMillion: int(one / 16)}); math.Abs(d/largest-2) > 0.01 {
		t.Errorf("a sixteenth of the budget is worth %.3f times the distance, want 2", d/largest)
	}
	if d := distance(detector.Options{Trimmed: 1}); math.Abs(d/largest-1) > 0.01 {
		t.Errorf("calls that exceeded raised the threshold to %.3f times the largest distance", d/largest)
	}
}

// A model learned from what earlier models let pass, again and again, lets as much pass as the first one: the ratchet does not turn. One agent's models alone let 4 to 7 in a hundred calls exceed a
// budget of 5, by how its sessions happen to be dealt.
func TestLearningFromWhatPassed(t *testing.T) {
	if testing.Short() {
		t.Skip("forty models of eight hundred calls: make unit trains them without the race detector")
	}
	const agents, models = 4, 5
	generations := func(told bool) (mean float64) {
		for seed := range uint64(agents) {
			all := detectortest.Rows(1+seed, 800)
			rows, share := all, 0.0
			for range models {
				o := detector.Options{FalsePositivesPerMillion: 50_000, SampleSize: 256, Seed: seed}
				if told {
					o.Trimmed = share
				}
				m, err := detector.Train(rows, o)
				if err != nil {
					t.Fatal(err)
				}
				rows = nil
				for _, r := range all {
					if !m.Judge(seen(t, m, r)).Exceeds {
						rows = append(rows, r)
					}
				}
				share = 1 - float64(len(rows))/float64(len(all))
				mean += share / (agents * models)
			}
		}
		return mean
	}
	told, untold := generations(true), generations(false)
	t.Logf("of %d models in a row, %.3f of the calls exceed a budget of 0.05; untold, %.3f", models, told, untold)
	if told > 0.06 || told < 0.025 || untold < told+0.03 {
		t.Error("the threshold does not stay where it is")
	}

	for _, tc := range []struct{ exceeded, seen, want float64 }{{0, 0, 0}, {0, 9, 0}, {1, 99, 0.01}, {5, 0, 1}} {
		if got := (detector.Counts{Exceeded: uint64(tc.exceeded), Seen: uint64(tc.seen)}).Trimmed(); got != tc.want {
			t.Errorf("trimmed of %v: %v", tc, got)
		}
	}
}

// flip returns a copy with one bit changed.
func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// TestModelMemory bounds what a model takes once it is loaded.
func TestModelMemory(t *testing.T) {
	b, err := model().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	const n = 8
	loaded := make([]*detector.Model, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range loaded {
		if loaded[i], err = detector.Load(b); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("a model takes %d bytes encoded and %d in memory", len(b), each)
	if each > 2<<20 {
		t.Errorf("a model takes %d bytes in memory", each)
	}
	runtime.KeepAlive(loaded)
}

func BenchmarkJudge(b *testing.B) {
	m := model()
	rows := detectortest.Rows(5, 500)
	for name, pick := range map[string]func(policy.Anomaly) bool{
		"ordinary": func(a policy.Anomaly) bool { return a.Percentile <= 0.9 },
		"unusual":  func(a policy.Anomaly) bool { return a.Percentile > 0.9 },
	} {
		b.Run(name, func(b *testing.B) {
			var vectors []features.Vector
			for _, r := range rows {
				if pick(m.Judge(&r.Vector)) {
					vectors = append(vectors, r.Vector)
				}
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				m.Judge(&vectors[i])
				i = (i + 1) % len(vectors)
			}
		})
	}
}

func BenchmarkTrain(b *testing.B) {
	rows := detectortest.Rows(5, 1000)
	for b.Loop() {
		if _, err := detector.Train(rows, detector.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
