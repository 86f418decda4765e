package iforest

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// driftBins is how many parts the values of a reference are cut into, of equal
// numbers of rows as far as ties allow.
const driftBins = 16

// Reference remembers how the scores and every feature were distributed when a
// forest was fitted, as histograms of at most 16 bins of equal count and one
// more for missing values: about 100 bytes a feature. It never changes, except
// by UnmarshalBinary, and is stored beside the forest.
type Reference struct {
	columns []histogram // of the scores, then of each feature
	rows    uint64
}

// histogram counts values by the first edge they do not exceed; the last but
// one count is of what exceeds them all, the last of NaN.
type histogram struct {
	edges  []float32
	counts []uint64
}

// NewReference takes the distributions of rows and of their scores, which best
// are those of CrossScores: scores of rows the forest was fitted on are too low,
// and new rows would seem to drift. It needs two rows at least, of equal length,
// their values finite or NaN for missing ones, and a finite score for each.
func NewReference(rows [][]float32, scores []float64) (*Reference, error) {
	if len(scores) != len(rows) {
		return nil, fmt.Errorf("iforest: %d scores of %d rows", len(scores), len(rows))
	}
	if _, err := checkRows(rows, MissingMedian); err != nil {
		return nil, err
	}
	r := &Reference{rows: uint64(len(rows))}
	column := make([]float32, len(rows))
	for i, s := range scores {
		if column[i] = float32(s); column[i]-column[i] != 0 {
			return nil, fmt.Errorf("iforest: score %d is %v; only finite scores can be remembered", i, s)
		}
	}
	r.columns = append(r.columns, newHistogram(column))
	for f := range rows[0] {
		for i, row := range rows {
			column[i] = row[f]
		}
		r.columns = append(r.columns, newHistogram(column))
	}
	return r, nil
}

func newHistogram(values []float32) histogram {
	sorted := make([]float32, 0, len(values))
	for _, v := range values {
		if v == v {
			sorted = append(sorted, v)
		}
	}
	slices.Sort(sorted)
	var h histogram
	for i := 1; i < driftBins && len(sorted) > 0; i++ {
		edge := sorted[(len(sorted)*i-1)/driftBins] + 0 // no −0
		if n := len(h.edges); (n == 0 || edge > h.edges[n-1]) && edge < sorted[len(sorted)-1] {
			h.edges = append(h.edges, edge)
		}
	}
	if len(sorted) > 0 { // what exceeds all that was ever seen has a bin of its own
		h.edges = append(h.edges, sorted[len(sorted)-1]+0)
	}
	h.counts = make([]uint64, len(h.edges)+2)
	for _, v := range values {
		h.counts[h.bin(v)]++
	}
	return h
}

// bin is where a value is counted.
func (h *histogram) bin(v float32) int {
	if v != v {
		return len(h.edges) + 1
	}
	lo, hi := 0, len(h.edges)
	for lo < hi {
		if m := (lo + hi) / 2; v <= h.edges[m] {
			hi = m
		} else {
			lo = m + 1
		}
	}
	return lo
}

// Features returns the length of the rows the reference is of.
func (r *Reference) Features() int { return max(0, len(r.columns)-1) }

// Window counts rows to hold against a reference. It is for one goroutine at a
// time.
type Window struct {
	of     *Reference
	counts [][]uint64
	rows   uint64
}

// NewWindow returns an empty window.
func (r *Reference) NewWindow() *Window {
	w := &Window{of: r, counts: make([][]uint64, len(r.columns))}
	for i := range r.columns {
		w.counts[i] = make([]uint64, len(r.columns[i].counts))
	}
	return w
}

// Add counts a row and its score. It does not allocate. Rows of another length
// than the reference's are not counted.
func (w *Window) Add(row []float32, score float64) {
	if len(row) != w.of.Features() || len(row) == 0 {
		return
	}
	w.rows++
	w.counts[0][w.of.columns[0].bin(float32(score))]++
	for f, v := range row {
		w.counts[f+1][w.of.columns[f+1].bin(v)]++
	}
}

// Reset empties the window.
func (w *Window) Reset() {
	w.rows = 0
	for _, c := range w.counts {
		clear(c)
	}
}

// Shift says how far a distribution has moved.
type Shift struct {
	// PSI is the population stability index, Σ (p−q) ln(p/q) over the bins,
	// each count taken half a row larger so that none is empty. By custom,
	// above 0.1 is worth a look, above 0.25 a change.
	PSI float64
	// PSIChance is what PSI is on average, for windows of this size, where
	// nothing has moved: (bins − 1)(1/n + 1/m).
	PSIChance float64
	// KS is the largest difference of the two cumulative distributions, at
	// the bins' edges: the Kolmogorov-Smirnov distance or a little less.
	KS float64
	// KSChance is what KS exceeds once in a thousand windows of this size,
	// or less often, where nothing has moved and rows are independent
	// (Smirnov's limit for two samples).
	KSChance float64
}

// Drifted reports whether the shift is both beyond chance and worth a look: KS
// above KSChance, PSI less PSIChance above 0.1.
func (s Shift) Drifted() bool { return s.KS > s.KSChance && s.PSI-s.PSIChance > 0.1 }

// Drift says how far the scores and the features of a window have moved from
// their reference.
type Drift struct {
	Rows     int // of the window
	Score    Shift
	Features []Shift // by index
}

// Top returns the indices of the features that have drifted, largest PSI first.
func (d Drift) Top() []int {
	var out []int
	for i, s := range d.Features {
		if s.Drifted() {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int {
		switch x, y := d.Features[a].PSI, d.Features[b].PSI; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	return out
}

// Drift compares what the window holds with the reference. Of an empty window
// nothing has moved.
func (w *Window) Drift() Drift {
	d := Drift{Rows: int(w.rows), Features: make([]Shift, w.of.Features())}
	for i := range w.of.columns {
		s := shift(w.of.columns[i].counts, w.counts[i], w.of.rows, w.rows)
		if i == 0 {
			d.Score = s
		} else {
			d.Features[i-1] = s
		}
	}
	return d
}

func shift(before, now []uint64, n, m uint64) Shift {
	s := Shift{KSChance: 1, PSIChance: math.Inf(1)}
	if n == 0 || m == 0 {
		return s
	}
	fn, fm := float64(n), float64(m)
	bins := 0.
	for i := range before {
		if before[i]+now[i] > 0 {
			bins++
		}
	}
	var p, q float64
	for i := range before {
		p += float64(before[i]) / fn
		q += float64(now[i]) / fm
		s.KS = max(s.KS, math.Abs(p-q))
		if before[i]+now[i] > 0 {
			a := (float64(before[i]) + 0.5) / (fn + 0.5*bins)
			b := (float64(now[i]) + 0.5) / (fm + 0.5*bins)
			s.PSI += (a - b) * math.Log(a/b)
		}
	}
	s.PSIChance = (bins - 1) * (1/fn + 1/fm)
	const c = 1.9495 // √(−½ ln(0.001/2))
	s.KSChance = c * math.Sqrt(1/fn+1/fm)
	return s
}

// A reference is encoded as magic "IFDR", version, the number of rows and of
// columns (varints), each column its number of edges (varint), the edges
// (float32, ascending) and the counts (varints); CRC-32C.

// MarshalBinary implements encoding.BinaryMarshaler.
func (r *Reference) MarshalBinary() ([]byte, error) {
	b := append([]byte(referenceMagic), version)
	b = binary.AppendUvarint(b, r.rows)
	b = binary.AppendUvarint(b, uint64(len(r.columns)))
	for i := range r.columns {
		h := &r.columns[i]
		b = binary.AppendUvarint(b, uint64(len(h.edges)))
		b = appendFloats(b, h.edges)
		for _, n := range h.counts {
			b = binary.AppendUvarint(b, n)
		}
	}
	return seal(b), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. The bytes need not be
// trusted; errors wrap ErrFormat and leave r unchanged. It must not run while r
// or a window of it is in use.
func (r *Reference) UnmarshalBinary(data []byte) error {
	d, err := unseal(data, referenceMagic)
	if err != nil {
		return fmt.Errorf("iforest: decode reference: %w", err)
	}
	const most = 1 << 52
	n := Reference{rows: d.varint("rows", 0, most)}
	columns := d.varint("columns", 0, MaxFeatures+1)
	for range columns {
		edges := d.varint("edges", 0, driftBins)
		h := histogram{edges: d.floats("edge", int(edges), -math.MaxFloat32)}
		for i := 1; i < len(h.edges); i++ {
			if h.edges[i] <= h.edges[i-1] {
				d.fail("edges do not ascend")
			}
		}
		for _, e := range h.edges {
			if e == 0 && math.Signbit(float64(e)) {
				d.fail("edge is −0")
			}
		}
		sum := uint64(0)
		for range edges + 2 {
			c := d.varint("count", 0, most)
			sum += c
			h.counts = append(h.counts, c)
		}
		if sum != n.rows {
			d.fail("counts do not add up to the rows")
		}
		if d.err != nil {
			break
		}
		n.columns = append(n.columns, h)
	}
	if err := d.end(); err != nil {
		return fmt.Errorf("iforest: decode reference: %w", err)
	}
	*r = n
	return nil
}
