package features

import (
	"math"
	"time"

	"sallyport.dev/sallyport/pkg/llm"
)

// paceTime is how long a call counts for a workload's pace: after it, a third of it is left.
const paceTime = time.Minute

// pace is how many calls a workload makes and what they cost, per minute: sums that decay.
type pace struct {
	calls, cost float64
	at          time.Time
}

// with is the pace once a call of that cost came in. Time does not go backwards: a call that is said to have come before another counts from then.
func (p pace) with(cost float64, now time.Time) pace {
	if p.at.IsZero() {
		p.at = now
	}
	if d := now.Sub(p.at); d > 0 {
		left := math.Exp(-float64(d) / float64(paceTime))
		p.calls, p.cost, p.at = p.calls*left, p.cost*left, now
	}
	p.calls++
	p.cost += cost
	return p
}

// octave is how many steps of a pace's scale a doubling takes.
const octave = 8

// step is where on the scale of a Baseline a pace is, 0 to 255.
func step(x float64) uint8 { return uint8(min(255, math.Round(octave*math.Log2(1+max(0, x))))) }

// paces counts calls by the step of the pace that they came at.
type paces struct {
	steps [256]uint32
	total uint64
	usual int    // the highest step that a twentieth of the calls are at or above; 0 where there are no calls
	above uint64 // calls at that step or above
}

// add counts a call at a step.
func (p *paces) add(at uint8) {
	if p.steps[at] == ^uint32(0) {
		return
	}
	p.steps[at]++
	p.total++
	if int(at) >= p.usual {
		p.above++
	}
	for p.usual > 0 && 20*p.above < p.total {
		p.usual--
		p.above += uint64(p.steps[p.usual])
	}
	for p.usual < len(p.steps)-1 && 20*(p.above-uint64(p.steps[p.usual])) >= p.total {
		p.above -= uint64(p.steps[p.usual])
		p.usual++
	}
}

// settle makes of the steps what add keeps beside them.
func (p *paces) settle() {
	p.total, p.usual, p.above = 0, len(p.steps)-1, 0
	for _, n := range p.steps {
		p.total += uint64(n)
	}
	if p.total == 0 {
		p.usual = 0
		return
	}
	for p.above = uint64(p.steps[p.usual]); p.usual > 0 && 20*p.above < p.total; {
		p.usual--
		p.above += uint64(p.steps[p.usual])
	}
}

// over is by how many doublings a pace is above that of the busiest twentieth of the calls; 0 where it is not, and where there are no calls.
func (p *paces) over(at uint8) float64 {
	if p.total == 0 {
		return 0
	}
	return max(0, float64(int(at)-p.usual)/octave)
}

// bytesPerToken is how many bytes a token of output counts for.
const bytesPerToken = 4

// costOf is what a call costs, in bytes.
func costOf(call *llm.Call) float64 {
	cost := float64(max(0, call.BodyBytes))
	if call.MaxTokens != nil {
		cost += bytesPerToken * float64(max(0, *call.MaxTokens))
	}
	return cost
}
