package detector

import (
	"errors"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
)

// Model is what was learned of one workload. It never changes and is safe for concurrent use.
type Model struct{}

// Errors of Load that callers branch on.
var (
	ErrSchema  = errors.New("model is of another feature schema")
	ErrCorrupt = errors.New("model is damaged")
)

// Load reads a model that MarshalBinary wrote.
func Load(b []byte) (*Model, error) { return nil, ErrCorrupt }

// MarshalBinary returns the model in the form that Load reads.
func (m *Model) MarshalBinary() ([]byte, error) { return nil, nil }

// Digest is the SHA-256 of the model's binary form, in hex.
func (m *Model) Digest() string { return "" }

// Judge scores a call. A nil model is not ready.
func (m *Model) Judge(v *features.Vector) policy.Anomaly { return policy.Anomaly{} }

// Explain is Judge with TopFeatures whatever the score.
func (m *Model) Explain(v *features.Vector) policy.Anomaly { return policy.Anomaly{} }

// Contributions returns every feature's part in the score, the largest first.
func (m *Model) Contributions(v *features.Vector) []policy.Feature { return nil }

// Info is what a model says of itself.
type Info struct {
	Schema                   string
	Calls, Sessions          int     // that it learned from
	Threshold                float64 // a call that scores higher exceeds
	FalsePositivesPerMillion int     // the budget asked for
	// Supported says that there were enough calls to set a threshold for the budget. Otherwise the threshold is the most
	// conservative one that the calls support.
	Supported bool
}

// Info returns what the model says of itself.
func (m *Model) Info() Info { return Info{} }
