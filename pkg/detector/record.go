package detector

import (
	"errors"
	"fmt"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// ErrNoFeatures says that a decision record has no features, as of a tunnel or a call that could not be read.
var ErrNoFeatures = errors.New("record without features")

// FromRecord returns what a decision record has to teach, and whether it may. The error wraps ErrNoFeatures where there is nothing and
// ErrSchema where the features are of another schema.
func FromRecord(r *telemetry.Record) (Row, Admission, error) {
	row := Row{Session: r.Session.ID, Evidence: r.Evidence}
	switch {
	case len(r.Features) == 0:
		return row, Admission{}, fmt.Errorf("record %.64q: %w", r.ID, ErrNoFeatures)
	case r.Schema != features.SchemaID:
		return row, Admission{}, fmt.Errorf("record %.64q: %w: %.64q, not %q", r.ID, ErrSchema, r.Schema, features.SchemaID)
	case len(r.Features) != features.Size:
		return row, Admission{}, fmt.Errorf("record %.64q: %w: %d features, not %d", r.ID, ErrSchema, len(r.Features), features.Size)
	}
	if _, err := features.DecodeEvidence(r.Evidence); err != nil {
		return row, Admission{}, fmt.Errorf("record %.64q: %w", r.ID, err)
	}
	copy(row.Vector[:], r.Features)
	return row, Admission{
		Released: r.Outcome == telemetry.OutcomeReleased && r.Action == policy.ActionAllow,
		Exceeds:  r.Anomaly.Exceeds,
		Tainted:  r.Session.Tainted,
	}, nil
}
