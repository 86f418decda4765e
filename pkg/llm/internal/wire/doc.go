// Package wire is what the codecs of package llm share: opening a request body with the strict reader and keeping the findings, digests of
// messages that do not change when a cache marker moves, and reading a response on the side.
//
//	r := wire.Open(call, contentType, body, lim)
//	defer r.Close()
//	for name, value := range r.Root().Members() { … }
//
// It knows no provider.
package wire
