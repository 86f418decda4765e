// Package gate is the two doors in series: it decodes a call, extracts its features, has the detector score them and the
// policy decide.
//
// Most readers come for Gate.Judge. It opens no socket and reads no clock: time, identity and body come with the Request, so that
// a replay gives the same answer. It is used by the sidecar and by everything that judges calls elsewhere.
package gate
