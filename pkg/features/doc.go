// Package features turns a model call into numbers: what the detector learns from and judges by.
//
//	turn := sessions.Begin(call, arrived)          // which conversation, and what is new in it
//	var v features.Vector
//	features.Extract(&v, call, turn, arrived)
//	...                                            // judge v, decide
//	sessions.Settle(turn, percentile, released, taint, arrived)
//
// [Schema] documents every number: what it is, its unit and why it is looked at. The numbers describe what is new in a
// call, not the whole of it, as an agent sends its whole conversation each time; [Sessions] knows what was there before. A caller cannot make
// less of its call new by lying: only what came, message for message and byte for byte, in the same place with a released call counts as
// known.
//
// The package holds no text beyond a call: what Sessions remembers are hashes. It knows nothing of what is ordinary for a workload
// either; that is the detector's. Features that measure novelty against a workload's own vocabulary will be a later schema.
//
// # Limits
//
// The lexicon is English. An instruction in another language, or one that uses none of its words, shows only in the shape of the text
// and in what the agent does next. Instructions in the user's own messages, as where an application pastes documents there, are not looked
// for: what a user says is meant to be obeyed.
package features
