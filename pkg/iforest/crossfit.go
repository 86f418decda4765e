package iforest

import (
	"cmp"
	"fmt"
	"slices"
)

// CrossScores returns, for each row, the score it gets from a forest that has
// not seen it nor any row of its group: the groups are dealt to folds, and each
// fold is scored by a forest fitted on the others. Such scores are distributed
// like those of new rows and are what Calibrate wants.
//
// groups names each row's group. Rows that resemble each other for a reason
// that new rows will not share (the same session, task or document) belong in
// one group; where every row stands for itself, number the rows. There must be
// at least folds groups and 2 folds; 5 to 10 are usual. Groups are dealt by
// opts.Seed, large ones first, always to the fold with the fewest rows.
//
// Scores of forests of other sample sizes are on another scale: let SampleSize be
// one that the folds can have as well, of the rows that the largest fold leaves
// over, or half of those with LeafDistance. (Of 240 rows in 5 folds, thresholds
// for 5 % were met with 3.9 % at the default of 256, and with 4.7 % at 192.)
//
// The forests of the folds are a little poorer than one fitted on all rows, so
// that calibration errs towards fewer alarms. It takes the time of so many Fits,
// and fails where Fit does, or with an *OptionError for folds.
func CrossScores[G comparable](rows [][]float32, groups []G, folds int, opts Options) ([]float64, error) {
	if len(groups) != len(rows) {
		return nil, fmt.Errorf("iforest: %d groups named for %d rows", len(groups), len(rows))
	}
	if folds < 2 {
		return nil, &OptionError{"folds", folds, "2 or more"}
	}
	if _, err := checkRows(rows, opts.Missing); err != nil {
		return nil, err
	}
	members := gather(groups)
	if len(members) < folds {
		return nil, &OptionError{"folds", folds, fmt.Sprintf("at most the number of groups, which is %d", len(members))}
	}
	scores := make([]float64, len(rows))
	for fold, held := range deal(members, folds, opts.Seed) {
		in := make([]bool, len(rows))
		for _, i := range held {
			in[i] = true
		}
		rest := make([][]float32, 0, len(rows)-len(held))
		for i, row := range rows {
			if !in[i] {
				rest = append(rest, row)
			}
		}
		forest, err := Fit(rest, opts)
		if err != nil {
			return nil, fmt.Errorf("fit fold %d of %d: %w", fold+1, folds, err)
		}
		for _, i := range held {
			scores[i] = forest.Score(rows[i])
		}
	}
	return scores, nil
}

// gather returns the rows of each group, groups in the order of their first row.
func gather[G comparable](groups []G) [][]int {
	var members [][]int
	place := make(map[G]int)
	for i, g := range groups {
		at, ok := place[g]
		if !ok {
			at = len(members)
			place[g] = at
			members = append(members, nil)
		}
		members[at] = append(members[at], i)
	}
	return members
}

// deal distributes groups over folds of about equal numbers of rows.
func deal(members [][]int, folds int, seed uint64) [][]int {
	r := newRandom(seed, uint64(folds))
	for k := range members {
		j := k + r.below(len(members)-k)
		members[k], members[j] = members[j], members[k]
	}
	slices.SortStableFunc(members, func(a, b []int) int { return cmp.Compare(len(b), len(a)) })
	dealt := make([][]int, folds)
	for _, rows := range members {
		least := 0
		for fold := range dealt {
			if len(dealt[fold]) < len(dealt[least]) {
				least = fold
			}
		}
		dealt[least] = append(dealt[least], rows...)
	}
	return dealt
}
