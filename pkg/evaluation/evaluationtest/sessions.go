// Package evaluationtest makes recorded sessions of the agent that detectortest invents, benign ones and attacked ones, for tests and demonstrations of what
// reads recordings.
package evaluationtest

import (
	"encoding/json"
	"fmt"
	"io"

	"sallyport.dev/sallyport/pkg/detector/detectortest"
)

// Tasks is how many tasks the sessions are of.
const Tasks = 20

// Attacks are what the attacked sessions are said to be attacked by, in turn.
var Attacks = []string{"ignore_previous", "important_instructions", "important_instructions_no_names"}

// WriteSessions writes recorded sessions of the agent, one JSON object a line: benign ones, then attacked ones. The same numbers and seed give the same bytes.
func WriteSessions(w io.Writer, agent string, seed uint64, benign, attacked int) error {
	g := detectortest.New(seed)
	for i := range benign + attacked {
		line := map[string]any{"session": fmt.Sprintf("%s/%d", agent, i), "agent": agent, "model": "gpt-5-mini", "task": fmt.Sprintf("task_%d", i%Tasks), "label": "benign"}
		var c detectortest.Conversation
		if i < benign {
			c = g.Benign()
		} else {
			c = g.Hijacked()
			line["label"], line["attack"] = "attack", Attacks[i%len(Attacks)]
		}
		var requests []map[string]any
		for k, body := range c.Bodies {
			var b struct{ Messages, Tools []json.RawMessage }
			if err := json.Unmarshal(body, &b); err != nil {
				return fmt.Errorf("read a body that was made: %w", err)
			}
			r := map[string]any{"n": len(b.Messages), "stage": "clean"}
			switch {
			case c.Exposed < 0 || k < c.Exposed:
			case k == c.Exposed:
				r["stage"], r["first_exposed"] = "exposed", true
			default:
				r["stage"] = "hijacked"
			}
			requests = append(requests, r)
			line["messages"], line["tools"] = b.Messages, b.Tools
		}
		line["requests"] = requests
		b, err := json.Marshal(line)
		if err != nil {
			return fmt.Errorf("encode a session: %w", err)
		}
		if _, err := w.Write(append(b, '\n')); err != nil {
			return fmt.Errorf("write sessions: %w", err)
		}
	}
	return nil
}
