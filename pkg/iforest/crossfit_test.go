package iforest

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func TestCrossScoresRefusals(t *testing.T) {
	rows := gaussian(10, 2, 1)
	same := make([]string, 10)
	each := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	for _, c := range []struct {
		name   string
		rows   [][]float32
		groups any
		folds  int
		opts   Options
		says   string
	}{
		{"groups missing", rows, each[:9], 5, Options{}, "9 groups named for 10 rows"},
		{"one fold", rows, each, 1, Options{}, "2 or more"},
		{"fewer groups than folds", rows, same, 2, Options{}, "which is 1"},
		{"bad options", rows, each, 5, Options{Trees: -1}, "Trees is -1"},
		{"too few rows", rows[:2], each[:2], 2, Options{}, "at least 2"},
		{"NaN", [][]float32{{1}, {float32(math.NaN())}}, each[:2], 2, Options{}, "row 1, feature 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var err error
			switch groups := c.groups.(type) {
			case []int:
				_, err = CrossScores(c.rows, groups, c.folds, c.opts)
			case []string:
				_, err = CrossScores(c.rows, groups, c.folds, c.opts)
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error that says %q", err, c.says)
			}
		})
	}
}

func TestGroupsAreDealtWholeAndEvenly(t *testing.T) {
	var groups []string
	for g, n := range map[string]int{"a": 50, "b": 1, "c": 20, "d": 20, "e": 9, "f": 30, "g": 20} {
		for range n {
			groups = append(groups, g)
		}
	}
	slices.Sort(groups)
	dealt := deal(gather(groups), 3, 1)
	seen := make(map[string]int)
	rows := 0
	for fold, held := range dealt {
		rows += len(held)
		if len(held) != 50 {
			t.Errorf("fold %d holds %d rows of 150", fold, len(held))
		}
		for _, i := range held {
			if at, ok := seen[groups[i]]; ok && at != fold {
				t.Errorf("group %s lies in folds %d and %d", groups[i], at, fold)
			}
			seen[groups[i]] = fold
		}
	}
	if rows != len(groups) {
		t.Errorf("%d of %d rows dealt", rows, len(groups))
	}
}

// Every group is a tight cluster far from the others. In-sample scores, and
// out-of-fold ones that split groups, find each row ordinary; only whole groups
// held out tell that a new group will look like nothing seen.
func TestCrossScoresHoldOutWholeGroups(t *testing.T) {
	rows := gaussian(400, 4, 1)
	whole, single := make([]int, len(rows)), make([]int, len(rows))
	for i, row := range rows {
		whole[i], single[i] = i%10, i
		for f := range row {
			row[f] = row[f]/100 + float32(mix(uint64(i%10*4+f))%100)
		}
	}
	mean := func(groups []int) float64 {
		scores, err := CrossScores(rows, groups, 10, Options{RangeExtension: 1, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		again, err := CrossScores(rows, groups, 10, Options{RangeExtension: 1, Seed: 1, Workers: 3})
		if err != nil || !slices.Equal(scores, again) {
			t.Fatalf("scores differ from one run to the next (%v)", err)
		}
		sum := 0.0
		for _, s := range scores {
			sum += s
		}
		return sum / float64(len(scores))
	}
	if w, s := mean(whole), mean(single); w < s+0.03 {
		t.Errorf("mean score %.3f with groups held out whole, %.3f with rows", w, s)
	}
}

// On fresh rows, thresholds from out-of-fold scores keep the rate asked for.
func TestCrossFittedThresholdKeepsTheRate(t *testing.T) {
	const fpr = 0.02
	opts := Options{RangeExtension: 1, SampleSize: 1024}
	rows := gaussian(1500, 12, 1)
	each := make([]int, len(rows))
	for i := range each {
		each[i] = i
	}
	scores, err := CrossScores(rows, each, 5, opts)
	if err != nil {
		t.Fatal(err)
	}
	f := mustFit(t, rows, opts)
	fresh := f.ScoreBatch(nil, gaussian(20_000, 12, 2))
	rate := func(c *Calibration) float64 {
		limit, ok := c.Threshold(fpr)
		if !ok {
			t.Fatal("1500 scores support 2 %")
		}
		n := 0
		for _, s := range fresh {
			if s > limit {
				n++
			}
		}
		return float64(n) / float64(len(fresh))
	}
	in, out := rate(Calibrate(f.ScoreBatch(nil, rows))), rate(Calibrate(scores))
	t.Logf("asked for %v: in-sample %.4f, out of fold %.4f", fpr, in, out)
	if out > 1.5*fpr || out < fpr/3 {
		t.Errorf("out-of-fold threshold alarms at %.4f, asked for %v", out, fpr)
	}
	if in < out {
		t.Errorf("in-sample threshold alarms at %.4f, less than out-of-fold %.4f", in, out)
	}
}
