// Package detector is the first door: a workload's isolation forest with the calibration that gives its scores a meaning.
//
//	model, err := detector.Train(reservoir.Rows(), detector.Options{})
//	...
//	features.Extract(&vector, evidence, call, turn, &features.Context{Salt: salt, Baseline: model.Baseline(), Now: now})
//	anomaly := model.Judge(&vector) // score, percentile, whether it exceeds the threshold, and why
//
// A [Model] holds what was learned from benign calls and judges further ones. Its threshold is set so that a budgeted share of benign calls
// exceeds it. A [Reservoir] is a bounded sample of a workload's calls to train on that attacks find hard to get into. [FromRecord] gets
// what either needs from a decision record.
//
// The detector says how unlike the workload's own calls a call is. It does not know what is harmful: a new task is unusual too, and an attack
// that looks like every day's work is not. Policy decides what follows from a score.
//
// # Figures
//
// On recorded agents (AgentDojo; a banking and an office agent, four models, thirteen attacks), trained on the benign calls of four fifths of the user
// tasks and tested on the others, for the first call that carries an injection, means over five folds and three seeds:
//
//	                                           banking   office
//	AUC                                          1.000    1.000
//	found where 1 % of benign calls are           1.00     1.00
//	the same, mean over four attack families      0.99     1.00
//	the same without any word list                0.88     0.96
//	found by the model's threshold                0.99     1.00
//	benign calls over that threshold             0.000    0.005   (budget 0.01; 171 and 482 calls)
//
// The figures are those of TestRecordedAgents, which runs where the recordings are. They rest on few benign tasks and on attacks that were not made
// with this detector in mind. docs/detector.md says what is not found.
package detector
