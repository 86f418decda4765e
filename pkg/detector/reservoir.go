package detector

// Reservoir is a bounded sample of a workload's calls to train on. It is not safe for concurrent use.
type Reservoir struct{}

// Admission is what became of a call, as its decision record says.
type Admission struct {
	Released bool // the call was released without a setting relaxing a denial
	Exceeds  bool // the detector found it anomalous
	Tainted  bool // its session was tainted
}

// NewReservoir returns a reservoir for at most capacity calls. The same seed and calls give the same sample.
func NewReservoir(capacity int, seed uint64) *Reservoir { return &Reservoir{} }

// Add offers a call and says whether it is in the sample now.
func (r *Reservoir) Add(row Row, a Admission) bool { return false }

// Rows returns the sample.
func (r *Reservoir) Rows() []Row { return nil }

// Counts says what the reservoir holds and has seen.
type Counts struct {
	Calls, Sessions int    // held
	Seen            uint64 // offered
	Refused         uint64 // of those, turned away for their admission
}

// Counts says what the reservoir holds and has seen.
func (r *Reservoir) Counts() Counts { return Counts{} }

// MarshalBinary returns the reservoir in the form that UnmarshalBinary reads.
func (r *Reservoir) MarshalBinary() ([]byte, error) { return nil, nil }

// UnmarshalBinary replaces the reservoir with one that MarshalBinary wrote. On an error it is unchanged.
func (r *Reservoir) UnmarshalBinary(b []byte) error { return nil }
