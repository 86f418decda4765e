package iforest

import (
	"testing"
)

// The benchmarks' forest: 100 trees of 256 rows, 50 Gaussian features. Rows are
// cycled over 2,048, more than a branch predictor remembers.
func benchForest(b *testing.B) (*Forest, [][]float32) {
	b.Helper()
	rows := gaussian(2048, 50, 1)
	f, err := Fit(rows, Options{Seed: 1})
	if err != nil {
		b.Fatal(err)
	}
	return f, rows
}

var sink float64

func BenchmarkScore(b *testing.B) {
	f, rows := benchForest(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		sink += f.Score(rows[i%2048])
	}
}

func BenchmarkScore1024(b *testing.B) {
	rows := gaussian(2048, 50, 1)
	f, err := Fit(rows, Options{Seed: 1, SampleSize: 1024, RangeExtension: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		sink += f.Score(rows[i%2048])
	}
}

// The options beyond the paper, on the same rows.
func BenchmarkScoreOptions(b *testing.B) {
	rows := gaussian(2048, 50, 1)
	for _, bench := range []struct {
		name string
		opts Options
	}{
		{"deep", Options{MaxDepth: NoDepthLimit}},
		{"two columns", Options{Columns: 2}},
		{"pooled gain, two columns", Options{Columns: 2, Gain: GainPooled}},
		{"missing, none here", Options{Missing: MissingMedian}},
		{"distance", Options{Scoring: LeafDistance}},
		{"distance, deep", Options{Scoring: LeafDistance, MaxDepth: NoDepthLimit}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			f, err := Fit(rows, bench.opts)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				sink += f.Score(rows[i%2048])
			}
		})
	}
}

func BenchmarkScoreBatch(b *testing.B) {
	f, rows := benchForest(b)
	dst := make([]float64, len(rows))
	b.ReportAllocs()
	for b.Loop() {
		f.ScoreBatch(dst, rows)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rows)), "ns/row")
}

func BenchmarkFit(b *testing.B) {
	rows := gaussian(2048, 50, 1)
	for _, bench := range []struct {
		name string
		opts Options
	}{
		{"classic", Options{Workers: 1}},
		{"extended", Options{Workers: 1, RangeExtension: 1}},
		{"extended1024", Options{Workers: 1, RangeExtension: 1, SampleSize: 1024}},
		{"pooled gain, two columns", Options{Workers: 1, Gain: GainPooled, Columns: 2}},
		{"distance, deep", Options{Workers: 1, Scoring: LeafDistance, MaxDepth: NoDepthLimit}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Fit(rows, bench.opts); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkExplain(b *testing.B) {
	f, rows := benchForest(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		sink += f.Explain(rows[i%2048])[0].Credit
	}
}

func BenchmarkWindowAdd(b *testing.B) {
	rows := gaussian(2048, 50, 1)
	r, err := NewReference(rows, make([]float64, len(rows)))
	if err != nil {
		b.Fatal(err)
	}
	w := r.NewWindow()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		w.Add(rows[i%2048], 0)
	}
}

func BenchmarkReplace(b *testing.B) {
	f, rows := benchForest(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.Replace(rows, 10); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	f, _ := benchForest(b)
	data, err := f.MarshalBinary()
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Load(data, ""); err != nil {
			b.Fatal(err)
		}
	}
}
