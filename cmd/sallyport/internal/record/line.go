package record

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"
	"golang.org/x/text/width"

	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// Colours of Painter.In.
const (
	Red    = "31"
	Green  = "32"
	Yellow = "33"
	Bold   = "1"
	Dim    = "2"
)

// Painter writes in colour or without.
type Painter struct{ Colour bool }

// In returns the text in a colour.
func (p Painter) In(code, text string) string {
	if !p.Colour || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// IsTerminal says whether somebody looks at what is written to w.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Colours says whether to write to w in colour: to a terminal, unless NO_COLOR says no.
func Colours(w io.Writer) bool { return IsTerminal(w) && os.Getenv("NO_COLOR") == "" }

// Clean replaces what does not show, so that nothing a caller wrote, such as a model's name, commands the terminal.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, s)
}

// Width is how many cells of a terminal a cleaned text takes.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += cells(r)
	}
	return n
}

func cells(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0 // it is drawn over the one before
	}
	if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
		return 2
	}
	return 1
}

// Fit returns a text in exactly n cells of a terminal: cleaned, cut where it is longer, and filled up with spaces.
func Fit(s string, n int) string {
	s = Clean(s)
	taken := Width(s)
	if taken > n {
		taken = 1 // the sign that it was cut
		cut := len(s)
		for i, r := range s {
			if taken+cells(r) > n {
				cut = i
				break
			}
			taken += cells(r)
		}
		s = s[:cut] + "…"
	}
	return s + strings.Repeat(" ", max(0, n-taken))
}

// TerminalWidth is how many cells a line of a terminal has; 0 where nobody looks at what is written to w.
func TerminalWidth(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil {
			return columns
		}
	}
	return 0
}

// Line writes a record as one line without its end:
//
//	14:02:51 released openai gpt-4o openai.chat_completions 4 messages 9.1 KB, 200 in 812 ms, 120+45 tokens, score 0.43
//	14:02:53 refused  openai gpt-9 openai.chat_completions 1 message 0.2 KB: MODEL-001 The model … 0197…
func (p Painter) Line(r *telemetry.Record) string {
	var b strings.Builder
	b.WriteString(p.In(Dim, r.Time.Local().Format(time.TimeOnly)))
	code := Green
	switch r.Outcome {
	case telemetry.OutcomeRefused, telemetry.OutcomeCut:
		code = Red
	case telemetry.OutcomeRelaxed:
		code = Yellow
	}
	b.WriteByte(' ')
	b.WriteString(p.In(code, fmt.Sprintf("%-8s", Clean(string(r.Outcome)))))
	b.WriteByte(' ')
	if r.Destination.Kind == policy.DestinationModel {
		b.WriteString(p.In(Bold, strings.TrimSpace(Clean(r.Destination.Provider)+" "+Clean(r.Call.Model))))
		if r.Call.Surface == "unknown" {
			fmt.Fprintf(&b, " %s %s", Clean(r.Destination.Method), Clean(r.Destination.Path))
		} else {
			fmt.Fprintf(&b, " %s", Clean(r.Call.Surface))
		}
		if n := r.Call.Messages; n > 0 {
			fmt.Fprintf(&b, " %d message%s", n, plural(n))
		}
		fmt.Fprintf(&b, " %.1f KB", float64(r.Call.BodyBytes)/1024)
	} else {
		fmt.Fprintf(&b, "%s %s:%d", r.Destination.Kind, p.In(Bold, Clean(r.Destination.Host)), r.Destination.Port)
	}
	switch {
	case r.Outcome == telemetry.OutcomeRefused:
	case r.UpstreamError != "":
		b.WriteString(", " + p.In(Red, "provider: "+Clean(r.UpstreamError)))
	case r.Status != 0:
		fmt.Fprintf(&b, ", %d", r.Status)
	}
	if r.Outcome != telemetry.OutcomeRefused {
		if r.TotalMicros > 0 {
			fmt.Fprintf(&b, " in %s", (time.Duration(r.TotalMicros) * time.Microsecond).Round(time.Millisecond))
		}
		if r.Usage.InputTokens+r.Usage.OutputTokens > 0 {
			fmt.Fprintf(&b, ", %d+%d tokens", r.Usage.InputTokens, r.Usage.OutputTokens)
		}
		if len(r.ResponseToolCalls) > 0 {
			fmt.Fprintf(&b, ", calls %s", Clean(strings.Join(r.ResponseToolCalls, ", ")))
		}
	}
	if r.Anomaly.Ready {
		fmt.Fprintf(&b, ", score %.2f", r.Anomaly.Score)
	}
	if r.Rule != "" {
		b.WriteString(": " + p.In(code, Clean(r.Rule)))
		if len(r.Reasons) > 0 {
			b.WriteString(" " + Clean(r.Reasons[0].Message))
		}
		b.WriteString(" " + p.In(Dim, Clean(r.ID)))
	}
	return b.String()
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}
