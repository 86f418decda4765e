// Package detect holds the commands about the detector: train learns a model from recorded calls, eval says what detectors find in them and what they cost, explain shows
// what a model saw in one, drift how far calls have moved from those that were learned, and features turns recordings into files of features.
//
// What they read, pkg/evaluation reads: decision records as the sidecar writes them, recorded sessions, and Parquet. explain shows decision records alone.
package detect
