package detect

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/evaluation"
)

// loadModel reads a model's file.
func loadModel(file string) (*detector.Model, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err // names the file
	}
	m, err := detector.Load(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return m, nil
}

// comparable says whether a call can be compared with the model's baseline, if it has one.
func comparable(c *evaluation.Sample, m *detector.Model) (bool, error) {
	if m.Baseline() == nil {
		return true, nil
	}
	return c.Compares(m.Baseline())
}

// lesson is what is to be learned: the calls of one workload.
type lesson struct {
	who    string
	rows   []detector.Row
	groups []string // of each row
	tally  tally
}

// tally counts the records that were not learned from, by cause.
type tally struct {
	records, repeated, elsewhere, featureless, refused, exceeding, tainted, attacks, logLines int
}

func (n tally) causes() string {
	out := amounts(amount{n.refused, "not released by decision"}, amount{n.exceeding, "over the threshold"}, amount{n.tainted, "in tainted conversations"},
		amount{n.featureless, "without features"}, amount{n.attacks, "of attacks"}, amount{n.elsewhere, "of other workloads"}, amount{n.repeated, "repeated"})
	if out == "" {
		return "none left out"
	}
	return out
}

// collect reads the lesson of the one workload whose calls there are, or of the one that is named.
func collect(ctx context.Context, s streams, in input) (l lesson, err error) {
	workloads := map[string]int{}
	n := &l.tally
	err = in.use(s, func(files *evaluation.Files, p *progress) error {
		wanted := func(s *evaluation.Sample) bool {
			n.records++
			p.tell("read", n.records, 0)
			name := subject(s)
			workloads[name]++
			if !s.Of(in.workload) {
				n.elsewhere++
				return false
			}
			l.who = name
			a := s.Admission()
			switch {
			case !s.HasFeatures():
				n.featureless++
			case s.Label == evaluation.Attack || s.Label == evaluation.AttackerTask:
				n.attacks++
			case a.Tainted:
				n.tainted++
			case a.Exceeds:
				n.exceeding++
			case !a.Released:
				n.refused++
			default:
				return true
			}
			return false
		}
		err := files.Each(ctx, wanted, func(s *evaluation.Sample) error {
			l.rows = append(l.rows, s.Row())
			l.groups = append(l.groups, s.Group())
			return nil
		})
		n.logLines, n.repeated = files.LogLines(), files.Repeated()
		n.records += n.repeated
		return err
	})
	switch {
	case err != nil:
		return l, err
	case len(workloads) == 0:
		return l, fmt.Errorf("no calls in %s", &in)
	case n.elsewhere+n.repeated == n.records:
		return l, fmt.Errorf("no calls of the workload %s; there are calls of:%s", in.workload, list(workloads))
	case in.workload == "" && len(workloads) > 1:
		return l, fmt.Errorf("calls of %d workloads; name one with --workload:%s", len(workloads), list(workloads))
	}
	return l, nil
}

// without is the lesson without a call and those of its task or session.
func (l lesson) without(c *evaluation.Sample) lesson {
	out := lesson{who: l.who, tally: l.tally}
	for i, g := range l.groups {
		if g != c.Group() || g == "" {
			out.rows, out.groups = append(out.rows, l.rows[i]), append(out.groups, g)
		}
	}
	return out
}

// learn trains on a lesson.
func (l lesson) learn(ctx context.Context, s streams, o detector.Options) (*detector.Model, error) {
	if len(l.rows) > 0 {
		fmt.Fprintf(s.errs, "learning %s from %s\n", l.who, counted(len(l.rows), "call", "calls"))
	}
	p := newProgress(s.errs)
	defer p.end()
	o.Progress = func(done, of int) error {
		p.tell("forests fitted", done, of)
		return ctx.Err()
	}
	m, err := detector.Train(l.rows, o)
	if err != nil {
		return nil, fmt.Errorf("%w (of %s: %s)", err, counted(l.tally.records, "record", "records"), l.tally.causes())
	}
	return m, nil
}

// whatever has all learned that there is, for a comparison.
var whatever = detector.Options{MinCalls: 1, MinSessions: 1, Seed: 1}

func list(counts map[string]int) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, "\n  %s (%d)", name, counts[name])
	}
	return b.String()
}

// printJSON prints what is said of something.
func printJSON(out io.Writer, what string, v any) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode the %s: %w", what, err)
	}
	return nil
}
