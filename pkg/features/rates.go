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
type paces [256]uint32

// over is by how many doublings a pace is above that of the busiest twentieth of the calls; 0 where it is not, and where there are no calls.
func (p *paces) over(at uint8) float64 {
	total := uint64(0)
	for _, n := range p {
		total += uint64(n)
	}
	if total == 0 {
		return 0
	}
	usual := len(p) - 1
	for above := uint64(0); usual > 0; usual-- {
		if above += uint64(p[usual]); 20*above >= total {
			break
		}
	}
	return max(0, float64(int(at)-usual)/octave)
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
