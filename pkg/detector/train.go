package detector

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/iforest"
)

// ErrTooFew is wrapped by the error of Train when there are too few calls or sessions to learn from.
var ErrTooFew = errors.New("too few calls to learn from")

// Row is one benign call to learn from.
type Row struct {
	Vector features.Vector
	// Session is the id of the conversation, as policy.Session has it. Calls of one conversation resemble each other, and
	// calibration keeps them together.
	Session string
	// Evidence is features.Evidence, encoded; nil where it was not kept. With it, the features that come of a comparison with the baseline are what training
	// makes of them, whatever the vector has.
	Evidence []byte
}

// Defaults of Options.
const (
	DefaultFalsePositivesPerMillion = 10_000
	DefaultMinCalls                 = 256
	DefaultMinSessions              = 8
)

// maxBudget is the largest budget accepted, in calls per million.
const maxBudget = 999_999

// folds is how many parts the sessions are dealt to for calibration: each part is scored by a forest that has learned the others.
const folds = 5

// rangeExtension of the forest. Training rows are benign only, and what tells an attack is a feature that was constant in them or a
// value beyond theirs, which the classic forest cannot see; see iforest.Options.
const rangeExtension = 1

// Options say how to train. The zero value takes every default.
type Options struct {
	// FalsePositivesPerMillion is the budget: how many of a million benign calls may exceed the threshold, 1 to 999,999. 0 means 10,000 (1 %).
	FalsePositivesPerMillion int
	// Trimmed is the share of the workload's calls that are not among the rows because they exceeded the threshold of an earlier model, 0
	// to 1; Counts.Trimmed tells it. They count as spent budget, and at most all of it. Without that, each model learned from what an
	// earlier one let pass would be stricter than the one before.
	Trimmed float64
	// MinCalls and MinSessions are how many calls, of how many sessions, there must be. 0 means 256 and 8; less than 16 and 2 is taken for
	// 16 and 2.
	MinCalls, MinSessions int
	// Trees and SampleSize are those of the forest, see iforest.Options. 0 means 100 and 1,024: a large sample costs training time and little
	// else.
	Trees, SampleSize int
	// Seed makes training repeatable: equal rows in equal order, options and seed give equal bytes.
	Seed uint64

	// extension overrides rangeExtension in tests, -1 meaning none.
	extension float64
	// mask takes features out of rows in tests, once novelty was added to them.
	mask func(*features.Vector)
}

func (o Options) withDefaults() Options {
	if o.FalsePositivesPerMillion == 0 {
		o.FalsePositivesPerMillion = DefaultFalsePositivesPerMillion
	}
	if o.MinCalls == 0 {
		o.MinCalls = DefaultMinCalls
	}
	if o.MinSessions == 0 {
		o.MinSessions = DefaultMinSessions
	}
	if o.Trees == 0 {
		o.Trees = iforest.DefaultTrees
	}
	if o.SampleSize == 0 {
		o.SampleSize = 1024
	}
	o.MinCalls = max(o.MinCalls, 16)
	o.MinSessions = max(o.MinSessions, 2)
	switch {
	case o.extension == 0:
		o.extension = rangeExtension
	case o.extension < 0:
		o.extension = 0
	}
	return o
}

// Train learns a model of a workload from its benign calls. The threshold is set by scores that each call gets from forests that learned neither
// it nor any other call of its session or, where the rows say so, of other sessions that opened alike, as scores of what a forest has learned are too low and a threshold set by them is exceeded
// several times too often.
//
// The error wraps ErrTooFew where there are fewer calls or sessions than the options ask for. With more than that but
// fewer than the budget takes (about a million divided by FalsePositivesPerMillion), the threshold is the largest out-of-fold score,
// the most cautious that the calls support, and Info().Supported is false.
func Train(rows []Row, o Options) (*Model, error) {
	o = o.withDefaults()
	if o.FalsePositivesPerMillion < 1 || o.FalsePositivesPerMillion > maxBudget {
		return nil, fmt.Errorf("train: %d false positives per million; accepted is 1 to %d", o.FalsePositivesPerMillion, maxBudget)
	}
	if !(o.Trimmed >= 0 && o.Trimmed <= 1) {
		return nil, fmt.Errorf("train: a share of %v of the calls trimmed; accepted is 0 to 1", o.Trimmed)
	}
	sessions := make(map[string]int)
	for i := range rows {
		for f, x := range rows[i].Vector {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				return nil, fmt.Errorf("train: row %d of session %q: feature %s is %v", i, rows[i].Session, features.Schema[f].Name, x)
			}
		}
		sessions[rows[i].Session]++
	}
	if len(rows) < o.MinCalls || len(sessions) < o.MinSessions {
		return nil, fmt.Errorf("train: %d calls of %d sessions, wanted %d of %d: %w", len(rows), len(sessions), o.MinCalls, o.MinSessions, ErrTooFew)
	}

	words, err := decodeWords(rows)
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	reads, of := sessionsOf(rows, words)
	// What a row is compared with, and what it is scored by, is to be as strange to it as the workload's past is to a new call. For the forest, the finer
	// groups do: coarser ones take more words away from those that are left, and novelty that is overstated in training is overlooked
	// later. For the threshold it is the coarser ones, as novelty that is understated there is exceeded later.
	vectors := novelty(rows, words, group(rows, reads, of, byOpening), o.Seed)
	groups := group(rows, reads, of, byReading)
	unseen := novelty(rows, words, groups, o.Seed)
	if o.mask != nil {
		for i := range rows {
			o.mask((*features.Vector)(vectors[i]))
			o.mask((*features.Vector)(unseen[i]))
		}
	}
	sizes := make(map[string]int)
	for _, g := range groups {
		sizes[g]++
	}

	k := min(folds, len(sizes))
	opts := iforest.Options{
		Trees: o.Trees, SampleSize: sampleSize(o.SampleSize, len(rows), k, slices.Max(slices.Collect(maps.Values(sizes)))), RangeExtension: o.extension, Seed: o.Seed, Schema: features.SchemaID,
	}
	scores, err := crossScores(vectors, unseen, deal(groups, k, o.Seed), k, opts)
	if err != nil {
		return nil, fmt.Errorf("train: score out of fold: %w", err)
	}
	forest, err := iforest.Fit(vectors, opts)
	if err != nil {
		return nil, fmt.Errorf("train: fit: %w", err)
	}
	m, err := newModel(forest, iforest.Calibrate(scores), baseline(words), Info{
		Schema: features.SchemaID, Calls: len(rows), Sessions: len(sessions), FalsePositivesPerMillion: o.FalsePositivesPerMillion,
		SpentPerMillion: min(o.FalsePositivesPerMillion, int(math.Round(o.Trimmed*1e6))),
	})
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	return m, nil
}

// crossScores returns the scores of rows by forests fitted on the vectors of the other folds.
func crossScores(vectors, rows [][]float32, fold []int, folds int, o iforest.Options) ([]float64, error) {
	scores := make([]float64, len(rows))
	for k := range folds {
		var rest [][]float32
		for i, v := range vectors {
			if fold[i] != k {
				rest = append(rest, v)
			}
		}
		forest, err := iforest.Fit(rest, o)
		if err != nil {
			return nil, fmt.Errorf("fit fold %d of %d: %w", k+1, folds, err)
		}
		for i, row := range rows {
			if fold[i] == k {
				scores[i] = forest.Score(row)
			}
		}
	}
	return scores, nil
}

// sampleSize is the forest's sample size. It must be one that the forests of the folds can have as well, which are fitted on fewer rows:
// scores of forests of other sample sizes are on another scale, and a threshold taken from them was exceeded almost twice too often.
func sampleSize(wanted, rows, folds, largestSession int) int {
	return max(2, min(wanted, rows-rows/folds-largestSession))
}
