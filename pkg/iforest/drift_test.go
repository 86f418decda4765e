package iforest

import (
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// referred returns rows with their out-of-fold scores, their forest and their
// reference.
func referred(t testing.TB, rows [][]float32, opts Options) (*Forest, *Reference) {
	t.Helper()
	each := make([]int, len(rows))
	for i := range each {
		each[i] = i
	}
	scores, err := CrossScores(rows, each, 5, opts)
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReference(rows, scores)
	if err != nil {
		t.Fatal(err)
	}
	return mustFit(t, rows, opts), r
}

func filledWindow(f *Forest, r *Reference, rows [][]float32) *Window {
	w := r.NewWindow()
	for _, row := range rows {
		w.Add(row, f.Score(row))
	}
	return w
}

func TestDriftIsFoundWhereItIs(t *testing.T) {
	f, r := referred(t, gaussian(2000, 6, 1), Options{RangeExtension: 1, SampleSize: 512, Missing: MissingMedian})

	for seed := range uint64(20) {
		d := filledWindow(f, r, gaussian(500, 6, 100+seed)).Drift()
		if top := d.Top(); len(top) != 0 || d.Score.Drifted() {
			t.Errorf("seed %d: nothing moved, but features %v, score %+v", seed, top, d.Score)
		}
	}

	moved := gaussian(500, 6, 2)
	for i, row := range moved {
		row[2] += 1.5
		row[4] *= 2.5
		if i%3 == 0 {
			row[5] = float32(math.NaN())
		}
	}
	d := filledWindow(f, r, moved).Drift()
	if top := d.Top(); len(top) != 3 || top[0] != 2 && top[0] != 5 {
		t.Errorf("features 2, 4 and 5 moved, found %v: %+v", top, d.Features)
	}
	if !d.Score.Drifted() {
		t.Errorf("the scores moved as well: %+v", d.Score)
	}
	if d.Rows != 500 {
		t.Errorf("%d rows", d.Rows)
	}
}

// A feature that was constant has one bin, and one for what exceeds it.
func TestConstantFeatureThatMovesIsDrift(t *testing.T) {
	rows := make([][]float32, 100)
	for i := range rows {
		rows[i] = []float32{0}
	}
	r, err := NewReference(rows, make([]float64, 100))
	if err != nil {
		t.Fatal(err)
	}
	w := r.NewWindow()
	for i := range 100 {
		w.Add([]float32{float32(i % 2)}, 0)
	}
	if d := w.Drift(); !d.Features[0].Drifted() || math.Abs(d.Features[0].KS-0.5) > 1e-12 || d.Score.Drifted() {
		t.Errorf("%+v", d)
	}
	w.Reset()
	if d := w.Drift(); d.Rows != 0 || d.Features[0].Drifted() || d.Score.KS != 0 {
		t.Errorf("an empty window drifts: %+v", d)
	}
}

// PSI and KS against their definitions, by hand.
func TestShiftByHand(t *testing.T) {
	s := shift([]uint64{50, 50, 0}, []uint64{20, 80, 0}, 100, 100)
	p, q := 50.5/101, 20.5/101
	want := (p-q)*math.Log(p/q) + (q-p)*math.Log((1-p)/(1-q))
	if math.Abs(s.PSI-want) > 1e-12 || math.Abs(s.KS-0.3) > 1e-12 || math.Abs(s.PSIChance-0.02) > 1e-12 {
		t.Errorf("%+v, PSI should be %v", s, want)
	}
	if math.Abs(s.KSChance-1.9495*math.Sqrt(0.02)) > 1e-12 {
		t.Errorf("%+v", s)
	}
}

// What chance does, measured: the mean of PSI is what PSIChance says, and KS
// exceeds KSChance no more often than it says.
func TestChanceIsWhatItIsSaidToBe(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 0))
	draw := func(n int) [][]float32 {
		rows := make([][]float32, n)
		for i := range rows {
			rows[i] = []float32{float32(rng.NormFloat64())}
		}
		return rows
	}
	const rounds = 1000
	psi, chance, beyond := 0.0, 0.0, 0
	for range rounds {
		r, err := NewReference(draw(800), make([]float64, 800))
		if err != nil {
			t.Fatal(err)
		}
		w := r.NewWindow()
		for _, row := range draw(400) {
			w.Add(row, 0)
		}
		s := w.Drift().Features[0]
		psi += s.PSI / rounds
		chance += s.PSIChance / rounds
		if s.KS > s.KSChance {
			beyond++
		}
	}
	if math.Abs(psi/chance-1) > 0.1 {
		t.Errorf("PSI is %.4f on average, said to be %.4f", psi, chance)
	}
	if beyond > 5 {
		t.Errorf("KS is beyond chance %d times in %d", beyond, rounds)
	}
}

func TestWindowRefusesOtherRowsAndDoesNotAllocate(t *testing.T) {
	rows := gaussian(100, 3, 1)
	r, err := NewReference(rows, make([]float64, 100))
	if err != nil {
		t.Fatal(err)
	}
	w := r.NewWindow()
	w.Add([]float32{1, 2}, 0)
	w.Add(nil, 0)
	if w.Drift().Rows != 0 {
		t.Error("a row of another length was counted")
	}
	if n := testing.AllocsPerRun(100, func() { w.Add(rows[0], 0.5) }); n != 0 {
		t.Errorf("Add allocates %v times", n)
	}
	new(Reference).NewWindow().Add(nil, 0)
	if d := new(Reference).NewWindow().Drift(); len(d.Features) != 0 {
		t.Errorf("%+v", d)
	}
	for _, c := range []struct {
		rows   [][]float32
		scores []float64
	}{
		{rows, make([]float64, 99)},
		{nil, nil},
		{[][]float32{{1}, {1, 2}}, make([]float64, 2)},
		{[][]float32{{1}, {float32(math.Inf(1))}}, make([]float64, 2)},
	} {
		if _, err := NewReference(c.rows, c.scores); err == nil {
			t.Errorf("a reference of %d rows and %d scores", len(c.rows), len(c.scores))
		}
	}
}

func TestReferenceRoundTrip(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 0))
	for range 40 {
		rows := awkward(2+rng.IntN(200), 1+rng.IntN(60), rng)
		if rng.IntN(2) == 0 {
			rows = gaussian(2+rng.IntN(200), 50, rng.Uint64())
		}
		rows[0][0] = float32(math.NaN())
		scores := make([]float64, len(rows))
		for i := range scores {
			scores[i] = rng.Float64()
		}
		r, err := NewReference(rows, scores)
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if most := 200 * (1 + len(rows[0])); len(b) > most {
			t.Errorf("%d features take %d bytes", len(rows[0]), len(b))
		}
		var s Reference
		if err := s.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		if s.rows != r.rows || !slices.EqualFunc(s.columns, r.columns, func(a, b histogram) bool {
			return slices.Equal(a.edges, b.edges) && slices.Equal(a.counts, b.counts)
		}) {
			t.Fatal("the reference changed on the way")
		}
		before := s
		for i := range b {
			b[i] ^= 4
			if err := s.UnmarshalBinary(b); !errors.Is(err, ErrFormat) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
			b[i] ^= 4
		}
		if !reflect.DeepEqual(s, before) {
			t.Error("a refused encoding changed the reference")
		}
	}
}

func FuzzReference(f *testing.F) {
	r, err := NewReference(gaussian(30, 2, 1), make([]float64, 30))
	if err != nil {
		f.Fatal(err)
	}
	b, err := r.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[5 : len(b)-4])
	f.Add([]byte{0, 0})
	f.Add([]byte{3, 1, 0, 1, 2})
	f.Fuzz(func(t *testing.T, body []byte) {
		b := seal(append(append([]byte(referenceMagic), version), body...))
		var r Reference
		if err := r.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%v does not wrap ErrFormat", err)
			}
			return
		}
		again, err := r.MarshalBinary()
		if err != nil || string(again) != string(b) {
			t.Fatalf("accepted %x, encodes to %x, %v", b, again, err)
		}
		w := r.NewWindow()
		w.Add(make([]float32, r.Features()), 0.5)
		for _, s := range append(w.Drift().Features, w.Drift().Score) {
			if !(s.PSI >= 0) || !(s.KS >= 0 && s.KS <= 1+1e-9) {
				t.Fatalf("%+v", s)
			}
		}
	})
}
