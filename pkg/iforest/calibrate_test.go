package iforest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestPercentileCountsScoresBelow(t *testing.T) {
	c := Calibrate([]float64{0.5, 0.3, 0.4, 0.4})
	for _, tt := range []struct{ score, want float64 }{
		{0, 0}, {0.3, 0}, {0.31, 0.2}, {0.4, 0.2}, {0.45, 0.6}, {0.5, 0.6},
		{0.51, 0.8}, {1, 0.8}, {math.Inf(1), 0.8}, {math.NaN(), 0.8}, {math.Inf(-1), 0},
	} {
		if got := c.Percentile(tt.score); math.Abs(got-tt.want) > 1e-15 {
			t.Errorf("percentile of %v is %v, want %v", tt.score, got, tt.want)
		}
	}
	if c.Size() != 4 {
		t.Errorf("size %d", c.Size())
	}
}

func TestThreshold(t *testing.T) {
	upTo := func(n int) *Calibration {
		var scores []float64
		for i := range n {
			scores = append(scores, float64(i+1))
		}
		return Calibrate(scores)
	}
	for _, tt := range []struct {
		n    int
		fpr  float64
		want float64
		ok   bool
	}{
		{99, 0.01, 99, true}, // the new row is one of 100
		{98, 0.01, 98, false},
		{999, 0.01, 990, true}, // 9 above, and the new one
		{999, 0.001, 999, true},
		{999, 0.0009, 999, false},
		{9, 0.5, 5, true},
		{9, 0.999, 1, true},
		{9, 0, 9, false},
		{9, 1, 9, false},
		{9, -1, 9, false},
		{9, math.NaN(), 9, false},
		{0, 0.5, 0, false},
	} {
		t.Run(fmt.Sprintf("%d rows, %v", tt.n, tt.fpr), func(t *testing.T) {
			if got, ok := upTo(tt.n).Threshold(tt.fpr); got != tt.want || ok != tt.ok {
				t.Errorf("got %v, %v, want %v, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestScoresThatAreNotFiniteAreLeftOut(t *testing.T) {
	c := Calibrate([]float64{math.NaN(), 0.5, math.Inf(1), math.Inf(-1)})
	if c.Size() != 1 || c.Percentile(1) != 0.5 {
		t.Errorf("size %d, percentile %v", c.Size(), c.Percentile(1))
	}
}

// Over many draws of calibration set and new row from one distribution, alarms
// come at the rate asked for: not above, and not far below.
func TestThresholdKeepsTheRate(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 0))
	const fpr, draws, fresh = 0.05, 2000, 50
	alarms := 0
	for range draws {
		scores := make([]float64, 59) // budget 3 of 60
		for i := range scores {
			scores[i] = r.ExpFloat64()
		}
		c := Calibrate(scores)
		limit, ok := c.Threshold(fpr)
		if !ok {
			t.Fatal("59 scores support 5 %")
		}
		for range fresh {
			s := r.ExpFloat64()
			if (s > limit) != (c.Percentile(s) >= 1-fpr-1e-12) {
				t.Fatalf("threshold %v and percentile %v of %v disagree", limit, c.Percentile(s), s)
			}
			if s > limit {
				alarms++
			}
		}
	}
	if rate := float64(alarms) / (draws * fresh); math.Abs(rate-fpr) > 0.004 {
		t.Errorf("alarm rate %.4f, asked for %v", rate, fpr)
	}
}

// The summary of many scores against all of them.
func TestSummaryIsCloseAndNeverTooHigh(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 0))
	for _, tt := range []struct {
		name string
		n    int
		draw func() float64
	}{
		{"smooth", 200_000, r.ExpFloat64},
		{"just too many", 1025, r.Float64},
		{"ties", 50_000, func() float64 { return math.Floor(r.ExpFloat64()*400) / 400 }},
		{"one large tie", 50_000, func() float64 { return max(0.5, r.Float64()) }},
		{"ties in the tail", 50_000, func() float64 {
			if x := r.Float64(); x < 0.998 || r.IntN(2) == 0 {
				return x
			}
			return 0.999
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			scores := make([]float64, tt.n)
			for i := range scores {
				scores[i] = tt.draw()
			}
			c := Calibrate(scores)
			slices.Sort(scores)
			if len(c.values) > maxPoints {
				t.Fatalf("%d points", len(c.values))
			}
			n1 := float64(tt.n + 1)
			for k := range 20_000 {
				s := scores[r.IntN(tt.n)]
				if k%2 == 0 {
					s = math.Nextafter(s, math.Inf(1))
				}
				below, _ := slices.BinarySearch(scores, s)
				exact, got := float64(below)/n1, c.Percentile(s)
				if got > exact {
					t.Fatalf("percentile %v, exactly %v", got, exact)
				}
				if lost := exact - got; lost > 1./bodySteps+1/n1 || lost > (1-exact)/32+1/n1 {
					t.Fatalf("percentile %v, exactly %v", got, exact)
				}
			}
			for _, fpr := range []float64{0.1, 0.01, 0.001} {
				limit, ok := c.Threshold(fpr)
				if !ok {
					if float64(tt.n) >= 1/fpr-1 {
						t.Errorf("%d scores do not support %v", tt.n, fpr)
					}
					continue
				}
				i, _ := slices.BinarySearch(scores, math.Nextafter(limit, math.Inf(1)))
				if above := float64(tt.n-i) + 1; above > fpr*n1 {
					t.Errorf("threshold for %v has %v of %v above", fpr, above, n1)
				}
			}
		})
	}
}

func TestZeroCalibrationSupportsNothing(t *testing.T) {
	var c Calibration
	if c.Percentile(1) != 0 || c.Size() != 0 {
		t.Error("a zero calibration gives percentiles")
	}
	if _, ok := c.Threshold(0.5); ok {
		t.Error("a zero calibration gives a threshold")
	}
}

func TestCalibrationRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 0))
	for _, n := range []int{0, 1, 10, 1024, 100_000} {
		scores := make([]float64, n)
		for i := range scores {
			scores[i] = r.Float64()
		}
		c := Calibrate(scores)
		b, err := c.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 12<<10 {
			t.Errorf("calibration of %d scores takes %d bytes", n, len(b))
		}
		var d Calibration
		if err := d.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		if d.n != c.n || !slices.Equal(d.values, c.values) || !slices.Equal(d.ranks, c.ranks) {
			t.Errorf("calibration of %d scores changed on the way", n)
		}
		for i := range b {
			b[i] ^= 1
			if err := d.UnmarshalBinary(b); !errors.Is(err, ErrFormat) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
			b[i] ^= 1
		}
		if d.n != c.n {
			t.Error("a refused encoding changed the calibration")
		}
	}
}

func FuzzCalibration(f *testing.F) {
	for _, scores := range [][]float64{nil, {0.5}, {0.25, 0.5, 0.5, 0.75}} {
		b, err := Calibrate(scores).MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[5 : len(b)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b := seal(append(append([]byte(calibrationMagic), version), body...))
		var c Calibration
		if err := c.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%v does not wrap ErrFormat", err)
			}
			return
		}
		again, err := c.MarshalBinary()
		if err != nil || string(again) != string(b) {
			t.Fatalf("accepted %x, encodes to %x, %v", b, again, err)
		}
		for _, s := range []float64{-1, 0, 0.5, 1, math.NaN()} {
			if p := c.Percentile(s); !(p >= 0 && p < 1) {
				t.Fatalf("percentile %v", p)
			}
		}
		c.Threshold(0.01)
		c.Threshold(0.999999)
	})
}

func TestQuantile(t *testing.T) {
	scores := make([]float64, 299)
	for i := range scores {
		scores[i] = float64(i + 1)
	}
	c := Calibrate(scores)
	for _, tc := range []struct{ fpr, want float64 }{
		{0.01, 297}, {0.02, 294}, {0.015, 295.5}, {0.5, 150}, {0.001, 299}, {0, 299}, {1, 299}, {math.NaN(), 299}, {0.9999, 1},
	} {
		if got := c.Quantile(tc.fpr); math.Abs(got-tc.want) > 1e-9 {
			t.Errorf("a share of %v lies above %v, want %v", tc.fpr, got, tc.want)
		}
	}
	if got := Calibrate(nil).Quantile(0.01); got != 0 {
		t.Errorf("of no scores: %v", got)
	}
	ties := Calibrate([]float64{1, 1, 1, 1, 2, 2, 2, 2, 2, 2})
	last := math.Inf(1)
	for fpr := 0.01; fpr < 1; fpr += 0.01 {
		q := ties.Quantile(fpr)
		if !(q >= 1 && q <= 2 && q <= last) {
			t.Fatalf("quantile %v of ties is %v after %v", fpr, q, last)
		}
		last = q
	}
}
