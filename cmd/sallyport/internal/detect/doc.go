// Package detect holds the commands about the detector: train and explain.
package detect
