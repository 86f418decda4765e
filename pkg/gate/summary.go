package gate

import (
	"cmp"
	"net/url"
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
)

// nothing is the call of a tunnel: every field is there.
func nothing() policy.Call {
	return policy.Call{
		Roles: []string{}, Tools: []string{}, ServerTools: []string{}, ToolCalls: []string{}, OtherModels: []string{}, UnknownFields: []string{},
		Findings: []string{}, ServerToolClasses: []string{}, RemoteMCPHosts: []string{}, URLHosts: []string{}, AttachmentKinds: []string{},
		MaxTokens: -1, Temperature: -1, Sensitive: policy.NotLookedFor, Canaries: []string{},
	}
}

// summarise is the normal form as policy sees it: names, sizes and findings, no text. The lists are never nil, so that every
// field of the input document is always present. turn is nil where the call has no place in a conversation.
func summarise(c *llm.Call, turn *features.Turn) policy.Call {
	out := nothing()
	out.Surface, out.Class, out.Operation = string(c.Surface), string(c.Class), string(c.Operation)
	out.Model, out.Stream, out.RPCMethod = c.Model, c.Stream, c.RPCMethod
	out.Messages, out.BodyBytes, out.URLs = len(c.Messages), c.BodyBytes, len(c.URLs)
	out.OtherModels = append(out.OtherModels, c.OtherModels...)
	out.UnknownFields = append(out.UnknownFields, c.UnknownFields...)
	out.URLHosts = hosts(out.URLHosts, c.URLs)
	if c.MaxTokens != nil {
		out.MaxTokens = *c.MaxTokens
	}
	if c.Temperature != nil {
		out.Temperature = *c.Temperature
	}
	for _, t := range c.Tools {
		if t.ServerSide {
			out.ServerTools = append(out.ServerTools, t.Type)
			out.ServerToolClasses = append(out.ServerToolClasses, string(cmp.Or(t.Class, llm.ServerToolOther)))
			if t.URL != "" || t.Class == llm.ServerToolRemoteMCP {
				out.RemoteMCPHosts = append(out.RemoteMCPHosts, host(t.URL))
			}
		} else {
			out.Tools = append(out.Tools, t.Name)
		}
	}
	for i, m := range c.Messages {
		fresh := turn == nil || turn.IsNew(i)
		if fresh {
			out.Roles = append(out.Roles, string(m.Role))
		}
		for _, p := range m.Parts {
			switch p.Kind {
			case llm.PartImage, llm.PartAudio, llm.PartFile:
				out.Attachments++
				out.AttachmentKinds = append(out.AttachmentKinds, kind(&p))
			case llm.PartToolCall:
				if fresh {
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
	for _, set := range []*[]string{&out.Findings, &out.ServerToolClasses, &out.RemoteMCPHosts, &out.URLHosts, &out.AttachmentKinds} {
		slices.Sort(*set)
		*set = slices.Compact(*set)
	}
	return out
}

// kind is an attachment's media type without parameters, in lower case, and its kind where it is not said.
func kind(p *llm.Part) string {
	media, _, _ := strings.Cut(p.MediaType, ";")
	if media = strings.ToLower(strings.TrimSpace(media)); media != "" {
		return media
	}
	return string(p.Kind)
}

func hosts(to []string, urls []string) []string {
	for _, u := range urls {
		to = append(to, host(u))
	}
	return to
}

// host is the host that a URL names, in lower case, without port and final dot; "" where readers might disagree on it, or it has none.
func host(raw string) string {
	for i := range len(raw) {
		if c := raw[i]; c <= ' ' || c >= 0x7f || c == '\\' {
			return ""
		}
	}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.User != nil {
		return ""
	}
	return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
}
