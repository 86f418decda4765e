// Package llm is the normal form of a model call: one set of types for every wire format.
//
// A codec (one sub-package per wire format, collected in package surface) has a Row for each of its surfaces: it decodes a request into
// a Call, watches a response for what it cost and for the tools it calls, and refuses in words that the caller's SDK understands:
//
//	m := surface.Lookup(surface.APIAnthropic, "POST", "/v1/messages")
//	call := m.Decode(&llm.Request{Method: "POST", Path: "/v1/messages", Vars: m.Vars, ContentType: "application/json", Body: body}, llm.DefaultLimits())
//
// Decoding never fails: what is wrong with a request is a Finding of the
// Call, for policy to see, and a body that could not be read at all has the finding FindingUnparseable.
//
// The package reads nothing from the network and holds no text of its own: the Text of a Part
// is a slice of the body wherever the body says it without escapes. Content codings are taken off before (package coding), and
// streams are taken apart for those who hold them back (package framing).
package llm
