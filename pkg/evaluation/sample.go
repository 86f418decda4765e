package evaluation

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// Label says what a session is. The zero value says that nobody knows.
type Label string

// The labels.
const (
	Unlabelled Label = ""
	Benign     Label = "benign"
	// Attack is a session in which something the agent read gave it orders.
	Attack Label = "attack"
	// AttackerTask is a session whose user asks for what attacks are after. It is neither benign work nor an attack, and is left out.
	AttackerTask Label = "attacker_task"
)

// Stage says how far an attack has come when the call is made.
type Stage string

// The stages.
const (
	NoStage Stage = ""
	// Clean is a call without anything of the attacker's in it.
	Clean Stage = "clean"
	// FirstExposed is the first call that carries the attacker's text.
	FirstExposed Stage = "first_exposed"
	// Exposed is a later one that carries it.
	Exposed Stage = "exposed"
	// Hijacked is a call after the agent did what the attacker wants.
	Hijacked Stage = "hijacked"
)

// Sample is one call of recorded traffic: its features and what is known of it.
type Sample struct {
	// At is where it stands: file:line.
	At string
	ID string
	// Time is when it arrived; zero where that was not recorded.
	Time time.Time
	// Workload is namespace/kind/name; "" in recorded sessions.
	Workload string
	// Session names the conversation. Agent, Task and Model say who did what with which model; "" where that is not known.
	Session, Agent, Task, Model string
	// Attack names the attack; "" in a benign session.
	Attack string
	Stage  Stage
	Label  Label
	// Outcome is what became of the call; recorded sessions were released.
	Outcome telemetry.Outcome
	// Exceeds and Tainted are what the detector then in force said of the call, and policy of its session.
	Exceeds, Tainted bool
	// Schema is that of the features; "" where there are none, as of a tunnel.
	Schema string
	// Vector has the features as they were when the call was judged; of recorded sessions, without a baseline to compare with.
	Vector features.Vector
	// Evidence is features.Evidence, encoded; nil where it was not kept.
	Evidence []byte
	// Record is the decision record that says all this; nil where it was none.
	Record *telemetry.Record

	// Of recorded sessions, the call itself.
	call     *llm.Call
	turn     *features.Turn
	evidence *features.Evidence // decoded; nil until needed
}

// Subject is whose call it is, to train for: the agent, or else the workload, or else nobody's in particular.
func (s *Sample) Subject() string { return cmp.Or(s.Agent, s.Workload, "unnamed") }

// Of says whether the call is of a workload, namespace/kind/name, or of an agent of a recording. A kind's case does not matter, as with kubectl; "" is any.
func (s *Sample) Of(workload string) bool {
	subject := s.Subject()
	if workload == "" || workload == subject {
		return true
	}
	x, y := strings.SplitN(workload, "/", 3), strings.SplitN(subject, "/", 3)
	return len(x) == 3 && len(y) == 3 && x[0] == y[0] && strings.EqualFold(x[1], y[1]) && x[2] == y[2]
}

// Conversation tells the call's session from others of the same name: recordings count sessions anew for each task, attack and model. In a workload's records
// a session's name is its own, and its model may change.
func (s *Sample) Conversation() string {
	model := s.Model
	if s.Agent == "" {
		model = ""
	}
	return strings.Join([]string{s.Subject(), s.Session, s.Task, s.Attack, string(s.Label), model}, "\x00")
}

// Group is what the call has in common with calls that resemble it for a reason that new ones will not share: its task, or else its session.
func (s *Sample) Group() string {
	if s.Task != "" {
		return s.Task
	}
	return s.Session
}

// Row is what the call has to teach.
func (s *Sample) Row() detector.Row {
	return detector.Row{Vector: s.Vector, Session: s.Session, Evidence: s.Evidence}
}

// Admission says whether it may be learned from.
func (s *Sample) Admission() detector.Admission {
	return detector.Admission{Released: s.Outcome == telemetry.OutcomeReleased, Exceeds: s.Exceeds, Tainted: s.Tainted}
}

// HasFeatures says that there is something to learn from and to judge.
func (s *Sample) HasFeatures() bool { return s.Schema != "" }

// Against returns the call's features compared with a baseline: of a recorded session from the call itself, as the gate does, and else from its evidence.
// Without either the features are those that were recorded.
func (s *Sample) Against(b *features.Baseline) (features.Vector, error) {
	v := s.Vector
	switch {
	case b == nil:
	case s.call != nil:
		features.Extract(&v, nil, s.call, s.turn, recordedContext(b, s.Time))
	case len(s.Evidence) > 0:
		if err := s.decodeEvidence(); err != nil {
			return v, err
		}
		b.Features(&v, s.evidence)
	}
	return v, nil
}

// Compares says whether the call can be compared with a baseline: not without evidence, nor where that was salted otherwise, as in another cluster. Nothing in the call is
// told as new then.
func (s *Sample) Compares(b *features.Baseline) (bool, error) {
	if len(s.Evidence) == 0 {
		return false, nil
	}
	if err := s.decodeEvidence(); err != nil {
		return false, err
	}
	return b.Compares(s.evidence), nil
}

func (s *Sample) decodeEvidence() error {
	if s.evidence != nil {
		return nil
	}
	e, err := features.DecodeEvidence(s.Evidence)
	if err != nil {
		return fmt.Errorf("%s: %w", s.At, err)
	}
	s.evidence = e
	return nil
}

// Family of an attack, by its name in AgentDojo's manner: variants of important_instructions are one family, and so are those that make the agent refuse
// to work (…dos). Every other attack is a family of its own.
func Family(attack string) string {
	switch {
	case strings.HasPrefix(attack, "important_instructions"):
		return "important_instructions"
	case strings.HasSuffix(attack, "_dos"):
		return "dos"
	}
	return attack
}
