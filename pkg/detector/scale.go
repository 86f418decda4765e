package detector

import (
	"strings"
	"sync"

	"sallyport.dev/sallyport/pkg/features"
)

// scale is by what each feature is multiplied before the forest sees it. There, a difference of 1 is one worth noting: where a feature varies by less in a workload's own calls,
// the forest takes it to vary by 1 (see iforest.Options.MinDeviation), as a few hundred calls of a few tasks say little of how much it can vary. The numbers are by kind, not by
// feature: they were chosen with whole agents and attack families left out, and between half and twice of each the figures hardly move.
var scale = func() (s [features.Size]float32) {
	for i := range s {
		s[i] = scaleOf(features.Schema[i].Name)
	}
	return s
}()

func scaleOf(name string) float32 {
	switch name {
	case "envelope.model_changed", "envelope.tools_changed", "envelope.late_system", "envelope.server_tools",
		"data.overrides", "data.invisible", "data.tags", "content.secrets":
		// What most workloads never have: a single one is an event.
		return 8
	case "envelope.attachments", "envelope.unknown_fields", "data.model_names", "data.role_markers":
		return 2 // seldom, and harmless now and then: a heading, a make of telephone
	case "text.non_ascii":
		return 10 // a tenth of a text in another alphabet is much
	case "novelty.unseen_burst", "novelty.unseen_peak":
		return 2 // shares: from known to new altogether is 2
	case "novelty.tool_peak":
		return 1
	case "data.exclamations", "data.capitals":
		return 0.5
	case "tool.surprise", "tool.pair_surprise", "time.hour_surprise":
		return 0.1 // ten bits are much, one is not
	case "envelope.new_model", "envelope.new_tools", "envelope.new_system", "envelope.new_destination", "envelope.new_credential":
		// Each release of an agent brings new ones. By themselves they are the policy's to refuse (input.call.novel); here they only add to what else is unusual.
		return 0.25
	case "time.workload_rate", "cost.rate":
		return 0.15 // in doublings above the busiest: a busy day is no attack, sixteen times the busiest is something
	case "size.delta_bytes", "size.messages", "size.tool_share", "size.unread_bytes", "time.gap", "time.rate":
		// A longer conversation is no attack, and the pace of one is anyone's.
		return 0.1
	}
	group, _, _ := strings.Cut(name, ".")
	switch {
	case strings.HasPrefix(name, "novelty.voice"):
		return 3 // data that speaks like those who give orders
	case group == "novelty":
		return 0.5 // a new document is new, and most are harmless
	case group == "text", group == "tool":
		return 0.25
	}
	return 1
}

// wordlessScale is scale without what comes of a comparison with a baseline, for models that have none: what their rows were compared with is not what calls will be.
var wordlessScale = sync.OnceValue(func() *[features.Size]float32 {
	var of features.Vector
	for i := range of {
		of[i] = scale[i]
	}
	uncompare(&of)
	s := [features.Size]float32(of)
	return &s
})

// lentScale is wordlessScale without what tells one workload from another rather than one call from another, for models that know other workloads only.
var lentScale = sync.OnceValue(func() *[features.Size]float32 {
	s := *wordlessScale()
	for i := range s {
		switch features.Schema[i].Name {
		case "envelope.tools", "envelope.server_tools", "envelope.attachments", "envelope.unknown_fields", "envelope.max_tokens":
			s[i] = 0
		}
	}
	return &s
})

// scaleFor is the scale of a model with this baseline, nil for none, that learned from other workloads' calls or did not.
func scaleFor(base *features.Baseline, prior bool) *[features.Size]float32 {
	switch {
	case base != nil:
		return &scale
	case prior:
		return lentScale()
	}
	return wordlessScale()
}

// farthest bounds what a forest sees of a feature. None comes near it: of the largest there are logarithms. It is for rows that no gate wrote, whose distances would be infinite, and their sums no
// numbers.
const farthest = 1e4

// scaledBy writes a row as a forest wants it.
func scaledBy(dst, v *features.Vector, by *[features.Size]float32) {
	for i, x := range v {
		x *= by[i]
		if x > farthest {
			x = farthest
		} else if x < -farthest {
			x = -farthest
		}
		dst[i] = x
	}
}
