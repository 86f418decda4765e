package iforest

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

// Any rows and any options, numbers at the ends of float32 among them: what is fitted, replaced and heard is read again as it was, scores rows as the trees do
// one by one, from 0 to 1, explains its scores, and keeps the threshold on ordinary rows within the tolerance.
func TestAnyRowsAndOptions(t *testing.T) {
	rounds := 150
	if testing.Short() {
		rounds = 15
	}
	r := rand.New(rand.NewPCG(17, 0))
	values := []func() float32{
		func() float32 { return float32(r.NormFloat64()) },
		func() float32 { return float32(r.NormFloat64() * 1e37) },
		func() float32 { return math.SmallestNonzeroFloat32 * float32(r.IntN(5)) },
		func() float32 { return float32(math.Copysign(0, float64(1-2*r.IntN(2)))) },
		func() float32 { return math.MaxFloat32 * float32(r.IntN(3)-1) },
		func() float32 { return float32(r.IntN(3)) },
		func() float32 { return math.Nextafter32(1, 1+float32(r.IntN(2))) },
		func() float32 { return 0.1 },
	}
	one := func(choices ...float64) float64 { return choices[r.IntN(len(choices))] }
	for range rounds {
		kind := make([]func() float32, 1+r.IntN(9))
		shuffle := func() {
			for f := range kind {
				kind[f] = values[r.IntN(len(values))]
			}
		}
		shuffle()
		o := Options{
			Trees: 1 + r.IntN(12), SampleSize: 2 + r.IntN(60), Seed: r.Uint64(), Columns: r.IntN(4), Gain: Gain(r.IntN(3)), Missing: Missing(r.IntN(2)), Scoring: Scoring(r.IntN(2)),
			RangeExtension: one(0, 1, 3), MinDeviation: one(0, 0.5), MaxDepth: int(one(0, 1, 7, NoDepthLimit)),
		}
		if o.Gain != GainNone {
			o.Candidates = r.IntN(4)
		}
		if o.Scoring == LeafDistance {
			o.Prototypes = int(one(0, 4, 50))
		}
		draw := func(n int) [][]float32 {
			rows := make([][]float32, n)
			for i := range rows {
				rows[i] = make([]float32, len(kind))
				for f := range kind {
					if rows[i][f] = kind[f](); o.Missing == MissingMedian && f > 0 && r.IntN(10) == 0 {
						rows[i][f] = float32(math.NaN())
					}
				}
			}
			return rows
		}
		check := func(f *Forest) {
			t.Helper()
			b := encoded(t, f)
			back, err := Load(b, "")
			if err != nil {
				t.Fatalf("%+v: %v", o, err)
			}
			if !bytes.Equal(encoded(t, back), b) {
				t.Fatalf("%+v: encoded otherwise when it was read", o)
			}
			asked := draw(20)
			for range 5 {
				x := make([]float32, len(kind))
				for i := range x {
					if x[i] = values[r.IntN(len(values))](); r.IntN(8) == 0 {
						x[i] = float32(math.Inf(1 - 2*r.IntN(2)))
					}
				}
				asked = append(asked, x)
			}
			batch := f.ScoreBatch(nil, asked)
			for i, x := range asked {
				s := f.Score(x)
				if !(s >= 0 && s <= 1) || s != back.Score(x) || s != batch[i] || f.scorable(x) && s != linkedScore(f, x) {
					t.Fatalf("%+v: %v scores %v, %v when it was read, %v in a batch, %v by the trees", o, x, s, back.Score(x), batch[i], linkedScore(f, x))
				}
				sum := 0.0
				for _, c := range f.Explain(x) {
					sum += c.Credit
				}
				if got := f.ScoreOf(sum); !(math.Abs(got-s) <= 1e-9) {
					t.Fatalf("%+v: %v is explained as %v, and scores %v", o, x, got, s)
				}
			}
		}
		f := mustFit(t, draw(4+r.IntN(150)), o)
		check(f)
		if r.IntN(2) == 0 {
			shuffle() // what is ordinary is another thing now
		}
		ordinary := draw(200)
		f, err := f.Replace(ordinary, 1+r.IntN(len(f.trees)))
		if err != nil {
			t.Fatal(err)
		}
		check(f)
		b, err := NewFeedback(f, FeedbackOptions{Step: one(0, 0.002, 1), Cap: one(0, 0.1, 1), Relief: one(0, 0.01, 0.5)})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range append(draw(r.IntN(20)), ordinary[:r.IntN(10)]...) {
			if err := b.Label(x, r.IntN(3) > 0); err != nil {
				t.Fatal(err)
			}
		}
		heard, strength, err := b.Apply(ordinary, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		check(heard)
		limit := func(f *Forest) float64 {
			limit, _ := Calibrate(f.ScoreBatch(nil, ordinary)).Threshold(0.05)
			return limit
		}
		if was, is := limit(f), limit(heard); is > was*1.02*(1+1e-12) {
			t.Fatalf("%+v: the threshold rose from %v to %v at strength %v", o, was, is, strength)
		}
		again, err := heard.Replace(draw(200), 1+r.IntN(len(f.trees)))
		if err != nil {
			t.Fatal(err)
		}
		check(again)
	}
}
