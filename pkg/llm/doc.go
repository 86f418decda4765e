// Package llm is the normal form of a model call: one set of types for every wire format.
//
// A codec (one sub-package per wire format, collected in package surface) decodes a request body into
// a Call and watches a response for usage. Decoding never fails: what is wrong with a body is a Finding of the
// Call, for policy to see, and a body that could not be read at all has the finding FindingUnparseable.
//
// The package reads nothing from the network and holds no text of its own: the Text of a Part
// is a slice of the body wherever the body says it without escapes.
package llm
