// Package evaluation says what a detector catches and what it costs: from recorded traffic, on tasks that the detector has not seen.
//
//	files, err := evaluation.Open(nil, "sessions.jsonl.gz")
//	report, err := evaluation.Evaluate(ctx, files, evaluation.Options{})
//	fmt.Println(report.Stages[0].Table.All.AUC, report.Budgets[0].Realised)
//
// [Files] reads decision records, recorded sessions and Parquet files as [Sample] values, lazily and as often as needed; recorded sessions go through what the
// sidecar does with calls: the codec, features.Sessions, features.Extract. [Evaluate] deals each agent's tasks to folds and has every call judged by models that learned the benign calls
// of the other folds. [Compare] makes tables of figures with intervals, of whatever was scored; [AUC], [TPR] and [Wilson] are there by themselves.
//
// # How figures are to be read
//
// An attack is compared with the benign calls that its own model judged, and with no others. A figure over several models is the mean over attacks. TPR at a
// false-positive rate is the share of attacks above the score that at most that share of those benign calls exceed: of 34 calls and 1 %, none.
//
// Intervals come of drawing tasks with replacement, as calls of one task resemble each other. They hold what other tasks would have given of the same models, not what other
// training data would have.
//
// It is not for use in the sidecar or the controller: it reads files, and depends on a Parquet library.
package evaluation
