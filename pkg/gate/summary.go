package gate

import (
	"slices"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
)

// summarise is the normal form as policy sees it: names, sizes and findings, no text. The lists are never nil, so that every
// field of the input document is always present. turn is nil where the call has no messages.
func summarise(c *llm.Call, turn *features.Turn) policy.Call {
	out := policy.Call{
		Surface:       string(c.Surface),
		Operation:     string(c.Operation),
		Model:         c.Model,
		Stream:        c.Stream,
		Messages:      len(c.Messages),
		Roles:         []string{},
		Tools:         make([]string, 0, len(c.Tools)),
		ServerTools:   []string{},
		ToolCalls:     []string{},
		MaxTokens:     -1,
		Temperature:   -1,
		BodyBytes:     c.BodyBytes,
		URLs:          len(c.URLs),
		OtherModels:   append([]string{}, c.OtherModels...),
		UnknownFields: append([]string{}, c.UnknownFields...),
		Findings:      make([]string, 0, len(c.Findings)),
	}
	if c.MaxTokens != nil {
		out.MaxTokens = *c.MaxTokens
	}
	if c.Temperature != nil {
		out.Temperature = *c.Temperature
	}
	for _, t := range c.Tools {
		if t.ServerSide {
			out.ServerTools = append(out.ServerTools, t.Type)
		} else {
			out.Tools = append(out.Tools, t.Name)
		}
	}
	newFrom := 0
	if turn != nil {
		newFrom = turn.NewFrom()
	}
	for i, m := range c.Messages {
		if i >= newFrom {
			out.Roles = append(out.Roles, string(m.Role))
		}
		for _, p := range m.Parts {
			switch p.Kind {
			case llm.PartImage, llm.PartAudio, llm.PartFile:
				out.Attachments++
			case llm.PartToolCall:
				if i >= newFrom {
					out.ToolCalls = append(out.ToolCalls, p.ToolName)
				}
			}
		}
	}
	for _, f := range c.Findings {
		out.Findings = append(out.Findings, string(f.Code))
	}
	slices.Sort(out.Tools)
	slices.Sort(out.ServerTools)
	slices.Sort(out.Findings)
	out.Findings = slices.Compact(out.Findings)
	return out
}
