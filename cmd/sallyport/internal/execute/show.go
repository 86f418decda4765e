package execute

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// show takes decision records: to the terminal, the file, and what is learned. It is the proxy's recorder.
type show struct {
	out      io.Writer // nil for silence
	painter  record.Painter
	kept     *records
	learning *learning // nil where a model is given

	mu       sync.Mutex
	outcomes map[telemetry.Outcome]int
	rules    map[string]int
	tokens   [2]int64
}

// Emit implements the proxy's recorder.
func (s *show) Emit(r *telemetry.Record) {
	s.kept.add(r)
	if s.learning != nil {
		s.learning.add(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outcomes[r.Outcome]++
	if r.Rule != "" {
		s.rules[r.Rule]++
	}
	s.tokens[0] += r.Usage.InputTokens
	s.tokens[1] += r.Usage.OutputTokens
	s.line(s.painter.Line(r))
}

// say writes a line that is no record.
func (s *show) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.line(fmt.Sprintf(format, args...))
}

func (s *show) line(text string) {
	if s.out != nil {
		_, _ = io.WriteString(s.out, s.painter.In(record.Dim, "sallyport ")+text+"\n")
	}
}

// summary is what is said at the end.
func (s *show) summary() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	var outcomes []string
	for _, o := range []telemetry.Outcome{telemetry.OutcomeReleased, telemetry.OutcomeRelaxed, telemetry.OutcomeCut, telemetry.OutcomeRefused} {
		if n := s.outcomes[o]; n > 0 {
			total += n
			outcomes = append(outcomes, fmt.Sprintf("%d %s", n, o))
		}
	}
	if total == 0 {
		return "no calls"
	}
	text := strings.Join(outcomes, ", ")
	rules := slices.SortedFunc(maps.Keys(s.rules), func(a, b string) int { return cmp.Or(s.rules[b]-s.rules[a], strings.Compare(a, b)) })
	for i, r := range rules {
		rules[i] = fmt.Sprintf("%s %d×", record.Clean(r), s.rules[r])
	}
	if len(rules) > 0 {
		text += " (" + strings.Join(rules, ", ") + ")"
	}
	if s.tokens[0]+s.tokens[1] > 0 {
		text += fmt.Sprintf(", %d input and %d output tokens", s.tokens[0], s.tokens[1])
	}
	return text
}
