package detector_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/features"
)

// compared is a row as it was when it was judged by a model with this baseline.
func compared(t *testing.T, b *features.Baseline, r detector.Row) detector.Row {
	t.Helper()
	if b == nil {
		b = features.NewBaseline()
	}
	e, err := features.DecodeEvidence(r.Evidence)
	if err != nil {
		t.Fatal(err)
	}
	b.Features(&r.Vector, e)
	return r
}

// Rows that have lost their evidence, as where memory is short, keep what they had when they were judged: little that was new. A model that is trained on them keeps to its budget.
func TestRowsWithoutEvidence(t *testing.T) {
	if testing.Short() {
		t.Skip("trainings, which make unit does without the race detector")
	}
	later := detectortest.Rows(3, 400)
	for _, tc := range []struct {
		name    string
		every   int // one row in so many has its evidence still
		options detector.Options
		words   bool
	}{
		{"all lost", 1000, detector.Options{}, false},
		{"a few left", 60, detector.Options{}, false},
		{"most left", 1, detector.Options{}, true},
		{"all lost, and others lent", 1000, detector.Options{Prior: detectortest.Rows(4, 100)}, false},
	} {
		rows := detectortest.Rows(2, 300)
		for i := range rows {
			rows[i] = compared(t, model().Baseline(), rows[i])
			if i%tc.every != tc.every/2 {
				rows[i].Evidence = nil
			}
		}
		m, err := detector.Train(rows, tc.options)
		if err != nil {
			t.Fatal(err)
		}
		if (m.Baseline() != nil) != tc.words {
			t.Errorf("%s: a baseline: %v", tc.name, m.Baseline() != nil)
		}
		if m.Info().Words != tc.words {
			t.Errorf("%s: %+v", tc.name, m.Info())
		}
		over := 0
		for _, r := range later {
			v := compared(t, m.Baseline(), r).Vector
			if m.Judge(&v).Exceeds {
				over++
			}
		}
		if most := len(later) / 25; over > most {
			t.Errorf("%s: %d of %d benign calls exceed a threshold for one in a hundred", tc.name, over, len(later))
		}
		if tc.words {
			continue
		}
		// What calls were compared with elsewhere makes no difference.
		v, w := later[0].Vector, compared(t, model().Baseline(), later[0]).Vector
		if a, b := m.Judge(&v).Score, m.Judge(&w).Score; a != b {
			t.Errorf("%s: a model without baseline scores a call %v and, compared with another's, %v", tc.name, a, b)
		}
	}
}

// Numbers that no gate writes make no model that cannot be read, and no verdict that cannot be written.
func TestHugeFeatures(t *testing.T) {
	if testing.Short() {
		t.Skip("trainings, which make unit does without the race detector")
	}
	for _, x := range []float32{1e10, 3e38, -3e38} {
		rows := detectortest.Rows(2, 60)[:60]
		for f := range features.Size {
			rows[7].Vector[f] = x
		}
		o := detector.Options{MinCalls: 16, MinSessions: 2, Trees: 20}
		for range 3 {
			m, err := detector.Train(rows, o)
			if err != nil {
				t.Fatalf("%g: %v", x, err)
			}
			b, err := m.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := detector.Load(b); err != nil {
				t.Fatalf("%g: %v of the model after %+v", x, err, o.Earlier)
			}
			o.Earlier = m.Info()
			o.Feedback = []detector.Labelled{{Row: rows[7]}}
		}
		for f := range features.Size {
			v := detectortest.Rows(2, 1)[0].Vector
			v[f] = x
			a := model().Explain(&v)
			if !a.Exceeds {
				t.Errorf("%s is %g, and the verdict %+v", features.Schema[f].Name, x, a)
			}
			if _, err := json.Marshal(a); err != nil {
				t.Fatalf("%s is %g: %v", features.Schema[f].Name, x, err)
			}
			if _, err := json.Marshal(model().Contributions(&v)); err != nil {
				t.Fatalf("%s is %g: %v", features.Schema[f].Name, x, err)
			}
		}
	}
}

// A threshold that nothing was beyond, as of models of earlier versions, is no ceiling.
func TestCeilingOfNoThreshold(t *testing.T) {
	if testing.Short() {
		t.Skip("trainings, which make unit does without the race detector")
	}
	rows := detectortest.Rows(2, 300)
	m, err := detector.Train(rows, detector.Options{Trees: 20, Earlier: detector.Info{Calls: 300, Words: true, FalsePositivesPerMillion: detector.DefaultFalsePositivesPerMillion, Threshold: 1}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := detector.Load(b); err != nil {
		t.Error(err)
	}
}

// Where nearly all calls are of one session, or of one lender, there is nothing to score them by, and that is said as every other lack of calls is.
func TestTrainLopsided(t *testing.T) {
	if testing.Short() {
		t.Skip("trainings, which make unit does without the race detector")
	}
	for beside := range 5 {
		rows := detectortest.Rows(2, 40)
		lent := detectortest.Rows(3, 300)
		for i := range rows {
			rows[i].Session = "long"
			rows[i].Evidence = nil
		}
		for i := range lent {
			lent[i].Lender = "large"
		}
		for i := range beside {
			rows[i].Session = "short"
			lent[i].Lender = "small"
		}
		_, err := detector.Train(rows, detector.Options{MinCalls: 16, MinSessions: 2, Trees: 10})
		_, lentErr := detector.Train(nil, detector.Options{MinCalls: 16, MinSessions: 2, Trees: 10, Prior: lent})
		if beside >= 4 && (err != nil || lentErr != nil) {
			t.Errorf("with %d calls of others: %v, %v", beside, err, lentErr)
		}
		if beside < 4 && !errors.Is(err, detector.ErrTooFew) {
			t.Errorf("with %d calls of another session: %v", beside, err)
		}
		if beside > 0 && beside < 4 && !errors.Is(lentErr, detector.ErrTooFew) {
			t.Errorf("with %d calls of another lender: %v", beside, lentErr)
		}
	}
}

// Calls that are all the same make a model that lets them pass, and nothing else.
func TestTrainOnOneCall(t *testing.T) {
	rows := detectortest.Rows(2, 300)
	for i := range rows {
		rows[i] = rows[0]
		rows[i].Session = fmt.Sprint(i)
	}
	m, err := detector.Train(rows, detector.Options{Trees: 20})
	if err != nil {
		t.Fatal(err)
	}
	v := *seen(t, m, rows[0])
	if a := m.Judge(&v); a.Exceeds || a.Score > 0.1 {
		t.Errorf("the call that was learned: %+v", a)
	}
	v[5] += 3
	if a := m.Judge(&v); !a.Exceeds || len(a.TopFeatures) == 0 {
		t.Errorf("another: %+v", a)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := detector.Load(b); err != nil {
		t.Error(err)
	}
}

// Any number of goroutines judge by a model while another one takes its place, each verdict being of one model altogether.
func TestJudgeWhileModelsChange(t *testing.T) {
	rows := detectortest.Rows(2, 64)
	models := make(map[string]*detector.Model)
	var order []*detector.Model
	for seed, lost := range []bool{false, true, false} {
		of := make([]detector.Row, len(rows))
		for i := range rows {
			if of[i] = rows[i]; lost {
				of[i].Evidence = nil
			}
		}
		m, err := detector.Train(of, detector.Options{MinCalls: 16, Trees: 10, Seed: uint64(seed)})
		if err != nil {
			t.Fatal(err)
		}
		models[m.Digest()] = m
		order = append(order, m)
	}
	var now atomic.Pointer[detector.Model]
	now.Store(order[0])
	var running sync.WaitGroup
	for k := range 4 {
		running.Go(func() {
			for i := range 100 {
				v := &rows[(i+k)%len(rows)].Vector
				a := now.Load().Explain(v)
				m := models[a.ModelDigest]
				if m == nil || a.Threshold != m.Info().Threshold || a.Score != m.Judge(v).Score {
					t.Errorf("verdict %+v", a)
				}
				now.Load().Drift(rows[:2])
				now.Store(order[i%len(order)])
			}
		})
	}
	running.Wait()
}

// Where all calls are the same, one that is a little other does not exceed.
func TestThresholdOfEqualCalls(t *testing.T) {
	row := detectortest.Rows(5, 1)[0]
	rows := make([]detector.Row, 600)
	for i := range rows {
		rows[i] = row
		rows[i].Session, rows[i].Evidence = fmt.Sprint(i/3), nil
	}
	m, err := detector.Train(rows, detector.Options{})
	if err != nil {
		t.Fatal(err)
	}
	size := slices.IndexFunc(features.Schema[:], func(f features.Feature) bool { return f.Name == "size.delta_bytes" })
	for _, tc := range []struct {
		by      float32 // of the logarithm of the call's size
		exceeds bool
	}{{0, false}, {0.01, false}, {-0.01, false}, {0.3, false}, {8, true}} {
		v := row.Vector
		v[size] += tc.by
		if a := m.Judge(&v); a.Exceeds != tc.exceeds {
			t.Errorf("larger by %v: score %.3f, threshold %.3f", tc.by, a.Score, a.Threshold)
		}
	}
	// What was allowed before does not hold the threshold below that.
	next, err := detector.Train(rows, detector.Options{Earlier: detector.Info{Schema: m.Info().Schema, Calls: 590, FalsePositivesPerMillion: 10_000, Threshold: 0.001}})
	if err != nil || next.Info().Threshold != m.Info().Threshold {
		t.Errorf("threshold %v, before %v, %v", next.Info().Threshold, m.Info().Threshold, err)
	}
}
