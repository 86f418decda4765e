// Package features turns a model call into numbers: what the detector learns from and judges by.
//
//	turn := sessions.Begin(call, arrived)          // which conversation, and what is new in it
//	var v features.Vector
//	facts := features.Extract(&v, &evidence, call, turn, &features.Context{Salt: salt, Baseline: model.Baseline(), Now: arrived})
//	...                                            // judge v, decide
//	sessions.Settle(turn, features.Outcome{Percentile: a.Percentile, Score: a.Score, Released: released, Taint: a.Exceeds}, arrived)
//
// [Schema] documents every number: what it is, its unit and why it is looked at. The numbers describe what is new in a
// call, not the whole of it, as an agent sends its whole conversation each time; [Sessions] knows what was there before. A caller cannot make
// less of its call new by lying: only what came, message for message and byte for byte, in the same place with a released call counts as
// known.
//
// What is new or unusual for a workload is told by comparison with a [Baseline], which the detector makes of the [Evidence] that calls leave behind and hands back with its model; [Facts]
// say of some of it what policy can use without a score. The package holds no text beyond a call: what Sessions remembers are hashes, and evidence is classes of words, a thousand for all
// there are, and salted marks.
//
// Some features cannot be tested on recorded calls, as recordings have one model, no credentials, no clock and no costs. They are tested on constructed calls, and their documentation says so.
//
// # Limits
//
// The lexicon is English. An instruction in another language, or one that uses none of its words, shows only in the shape of the text, in novelty
// and in what the agent does next. Text without white space between its words is one word to this package, so that novelty says little of it. Instructions in the user's own messages, as where an application pastes documents there, are not looked
// for: what a user says is meant to be obeyed. What an API marks as a document or a search result is taken for a tool's result, in whoever's message it stands.
package features
