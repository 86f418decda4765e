// Package iforest is an isolation forest: it learns from rows of numbers what
// is ordinary, and gives any further row a score from 0 to 1 that says how few
// random cuts set it apart from them (Liu, Ting and Zhou, "Isolation Forest",
// ICDM 2008).
//
// The call most readers came for:
//
//	forest, err := iforest.Fit(rows, iforest.Options{RangeExtension: 1, Seed: 1})
//	...
//	score := forest.Score(row) // near 1: unlike anything in rows
//
// A score has no meaning by itself; a [Calibration] gives it one. Scores of
// rows the forest was fitted on are too low, and a threshold taken from them
// alarms several times too often, so calibrate on the out-of-fold scores of
// [CrossScores], with rows that belong together (one session, one task) in one
// group:
//
//	scores, err := iforest.CrossScores(rows, sessions, 5, opts)
//	cal := iforest.Calibrate(scores)
//	limit, ok := cal.Threshold(0.01) // alarm on score > limit: one in a hundred
//
// [Forest.Explain] tells which features made a row's score, in credits that
// add up to it exactly. [Forest.MarshalBinary] and [Load] carry a forest
// elsewhere; a forest names the schema of its features and is refused where
// another is expected.
//
// # Range extension
//
// A classic forest cuts only between values it was shown. It cannot see a
// feature that was constant in training, nor how far beyond the training range
// a value lies. Where the training rows hold ordinary rows only, set
// [Options.RangeExtension] to 1: every feature is then cut, constant ones too,
// and cuts fall beyond the range as well, so that what lies outside is set
// apart in an empty leaf. Where the rows hold the anomalies to be found, keep
// 0, the classic forest.
//
// # Which options
//
// The zero [Options] are the paper's forest. Beyond them, by what the training
// rows are (docs/detector.md has the figures, over 22 labelled sets):
//
//   - The rows hold the anomalies to be found: Gain: [GainPooled], Columns: 2
//     finds clusters of them that random cuts miss, at two to three times the
//     time for a score.
//   - Ordinary rows only, and scores must take a microsecond: RangeExtension: 1,
//     SampleSize: 1024.
//   - Ordinary rows only, and a few microseconds are there to be had: Scoring:
//     [LeafDistance], MaxDepth: [NoDepthLimit] is the most accurate by far; with
//     MinDeviation: 0.5 where features are on a scale on which 1 is much.
//   - Values are missing: Missing: [MissingMedian].
//
// # Living with a forest
//
// [Forest.Replace] trades the oldest trees for ones grown on a reservoir of
// recent rows. [Reference] remembers how scores and features were distributed,
// and a [Window] of new rows tells by PSI and Kolmogorov-Smirnov distance what
// has moved. [Feedback] takes labels, "this was an attack", "this was not", and
// bends the forest within stated bounds.
//
// # What it is not for
//
// Categories coded as numbers (an order that means nothing isolates nothing),
// learning row by row (Replace trees, or fit again, and swap the pointer), and
// labelled data in earnest (use a classifier; Feedback is for the few labels an
// operator gives). A fitted [Forest], a [Calibration] and a [Reference] never
// change and may be shared by any number of goroutines.
//
// # Reproducibility
//
// The same rows, options and seed give the same forest, bit for bit, on every
// machine and with every number of workers: no product is fused with a sum, no
// logarithm drawn, no map ranged over. A path-length score is one exp2 away from
// an exact sum and may differ in its last bit between architectures; a distance
// does not.
package iforest
