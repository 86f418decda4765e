package iforest_test

import (
	"fmt"
	"math"
	"math/rand/v2"

	"sallyport.dev/sallyport/pkg/iforest"
)

// Learn what is ordinary, set a threshold that one ordinary row in a hundred
// crosses, judge two new rows, and say why.
func Example() {
	// A thousand ordinary rows from 50 sessions: a size, a share, and a
	// counter that was always 0.
	r := rand.New(rand.NewPCG(1, 2))
	var rows [][]float32
	var sessions []int
	for i := range 1000 {
		rows = append(rows, []float32{float32(5 + r.NormFloat64()), float32(r.Float64() / 2), 0})
		sessions = append(sessions, i/20)
	}
	opts := iforest.Options{RangeExtension: 1, Seed: 1, Schema: "example/1"}

	forest, err := iforest.Fit(rows, opts)
	if err != nil {
		fmt.Println(err)
		return
	}
	scores, err := iforest.CrossScores(rows, sessions, 5, opts)
	if err != nil {
		fmt.Println(err)
		return
	}
	calibration := iforest.Calibrate(scores)
	limit, ok := calibration.Threshold(0.01)
	fmt.Println("1 % is supported:", ok)

	for _, row := range [][]float32{
		{5.2, 0.3, 0},
		{5.2, 0.3, 2},
	} {
		score := forest.Score(row)
		fmt.Printf("%v: alarm %v, percentile %.2f\n", row, score > limit, calibration.Percentile(score))
		if score > limit {
			why := forest.Explain(row)[0]
			fmt.Printf("mostly because feature %d is %v\n", why.Feature, why.Value)
		}
	}

	// Elsewhere, later.
	data, err := forest.MarshalBinary()
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = iforest.Load(data, "example/2")
	fmt.Println(err)
	// Output:
	// 1 % is supported: true
	// [5.2 0.3 0]: alarm false, percentile 0.07
	// [5.2 0.3 2]: alarm true, percentile 1.00
	// mostly because feature 2 is 2
	// iforest: forest of schema "example/1" where "example/2" is wanted
}

// The forest in use: watch for drift, hear an operator, replace old trees.
func ExampleForest_Replace() {
	r := rand.New(rand.NewPCG(3, 4))
	draw := func(n int, mean float64) (rows [][]float32, each []int) {
		for i := range n {
			rows = append(rows, []float32{float32(mean + r.NormFloat64()), float32(r.NormFloat64())})
			each = append(each, i)
		}
		return rows, each
	}
	opts := iforest.Options{Scoring: iforest.LeafDistance, MaxDepth: iforest.NoDepthLimit, Seed: 1}
	rows, each := draw(1000, 0)
	forest, err := iforest.Fit(rows, opts)
	if err != nil {
		fmt.Println(err)
		return
	}
	scores, err := iforest.CrossScores(rows, each, 5, opts)
	if err != nil {
		fmt.Println(err)
		return
	}
	reference, err := iforest.NewReference(rows, scores)
	if err != nil {
		fmt.Println(err)
		return
	}

	// A month later the first feature has moved.
	recent, _ := draw(1000, 2)
	window := reference.NewWindow()
	for _, row := range recent {
		window.Add(row, forest.Score(row))
	}
	fmt.Println("drifted features:", window.Drift().Top())

	// Half of the trees give way to trees of now.
	now := []float32{4, 0}
	before := forest.Score(now)
	if forest, err = forest.Replace(recent, 50); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("less of a surprise:", forest.Score(now) < before)

	// An operator says that a row was an attack.
	feedback, err := iforest.NewFeedback(forest, iforest.FeedbackOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	attack := []float32{2, 4}
	if err := feedback.Label(attack, true); err != nil {
		fmt.Println(err)
		return
	}
	heard, strength, err := feedback.Apply(recent, 0.01)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("heard:", heard.Score(attack) > forest.Score(attack), strength)
	// Output:
	// drifted features: [0]
	// less of a surprise: true
	// heard: true 1
}

// Options for rows that hold the anomalies to be found, some of their values
// missing; and an explanation, whose credits add up to the score.
func ExampleForest_Explain() {
	r := rand.New(rand.NewPCG(5, 6))
	nan := float32(math.NaN())
	var rows [][]float32
	for i := range 1000 {
		row := []float32{float32(r.NormFloat64()), float32(r.NormFloat64()), float32(r.NormFloat64())}
		if i%50 == 0 {
			row[0], row[1] = row[0]+5, row[1]-5 // an anomaly of two features
		}
		if i%7 == 0 {
			row[2] = nan
		}
		rows = append(rows, row)
	}
	forest, err := iforest.Fit(rows, iforest.Options{Gain: iforest.GainPooled, Columns: 2, Missing: iforest.MissingMedian, Seed: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	row := []float32{5, -5, nan}
	credits := 0.0
	for _, c := range forest.Explain(row) {
		credits += c.Credit
	}
	fmt.Println("credits make the score:", math.Abs(forest.ScoreOf(credits)-forest.Score(row)) < 1e-9)
	for _, c := range forest.ExplainTop(row, 2) {
		fmt.Println("feature", c.Feature, "is", c.Value)
	}
	// Output:
	// credits make the score: true
	// feature 0 is 5
	// feature 1 is -5
}
