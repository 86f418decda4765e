// Package detectortest makes recordings of an agent that never was: conversations of a support agent with a model, benign ones and hijacked ones, and
// models trained on them. Tests, the demo and benchmarks use it where they need traffic that looks like an agent's.
//
// The text is made of templates. It serves to show that parts fit together; what a detector finds here says nothing about what it
// finds in real traffic.
package detectortest
