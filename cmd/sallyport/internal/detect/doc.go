// Package detect holds the commands about the detector: train learns a model from recorded decisions, explain shows what a model
// saw in one of them.
//
// Both read decision records as the sidecar writes them, one JSON object a line: the records themselves or whole
// log lines that hold them.
package detect
