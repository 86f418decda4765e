// Package feedback is "sallyport feedback": it labels a call that a cluster's detector judged, as a false positive or as an attack.
//
// It finds out whose call it was and leaves the label on the workload's Baseline, as "kubectl annotate" does, then waits to hear what the controller makes of it.
// Calls of "sallyport exec" are not its business.
//
//	root.AddCommand(feedback.New())
package feedback
