// Package wire is what the codecs of package llm share. Of a request it opens the body with the strict reader and keeps the findings, checks members
// against those that are known, adds messages and parts, and takes digests that do not change when a cache marker moves:
//
//	r := wire.Open(call, contentType, body, lim)
//	defer r.Close()
//	for name, value := range r.Root().Members() { … }
//
// Of a response it follows the text on the side and hands a Taker the values that a Shape wants; Gathered is what most of them keep.
//
// It knows no provider.
package wire
