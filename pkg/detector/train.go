package detector

import (
	"errors"

	"sallyport.dev/sallyport/pkg/features"
)

// ErrTooFew is wrapped by the error of Train when there are too few calls or sessions to learn from.
var ErrTooFew = errors.New("too few calls to learn from")

// Row is one benign call to learn from.
type Row struct {
	Vector  features.Vector
	Session string
}

// Options say how to train. The zero value takes every default.
type Options struct {
	// FalsePositivesPerMillion is the budget: how many of a million benign calls may exceed the threshold. Default 10000 (1 %).
	FalsePositivesPerMillion int
	// MinCalls and MinSessions are how many calls, of how many sessions, there must be. Default 256 and 8.
	MinCalls, MinSessions int
	// Trees and SampleSize of the forest.
	Trees, SampleSize int
	// Seed makes training repeatable.
	Seed uint64
}

// Train learns a model.
func Train(rows []Row, o Options) (*Model, error) { return nil, ErrTooFew }
