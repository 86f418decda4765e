package iforest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
)

// A forest is encoded as
//
//	magic "IFOR", version (1 byte)
//	schema: length (1 byte), bytes
//	features, ψ, trees: varints; range extension: float64; seed: uint64
//	in version 2:
//	  max depth, columns, gain, candidates, missing, scoring, prototypes asked
//	    for, trees ever grown: varints; whether there is feedback: varint 0 or
//	    1; least deviation: float64
//	  medians: a float32 per feature, with MissingMedian or several columns
//	  with LeafDistance: the inverse deviations and the base, a float32 per
//	    feature each; the number of prototypes: varint; the prototypes
//	trees, each its nodes in depth-first order
//	CRC-32C of all that (4 bytes)
//
// and a node of n training rows as
//
//	nothing               if n ≤ 1 or the depth limit is reached: a leaf
//	0                     a leaf, its rows being all equal
//	feature+1, threshold, rows that go left: varint, float32, varint
//
// where with several columns the feature is that of the first, and between it
// and the threshold stand its coefficient, float32, and the other columns'
// features and coefficients, varint and float32 each. Every leaf is followed,
// with LeafDistance, by its prototype's number, a varint, and, with feedback, by
// its weight, a zigzag varint.
//
// Path lengths and the scoring form follow from these. Fixed-size numbers are
// little-endian, varints are minimal, so that a forest has one encoding only: a
// forest that uses nothing that version 2 is for is encoded in version 1, so
// that the bytes of a stored forest, and their digest, stay what they were.
//
// A calibration is encoded as magic "IFCA", version, varints of the number of
// scores and of points, the points (float64, and the varint of its rank less
// that of the point before), CRC-32C.
const (
	forestMagic      = "IFOR"
	calibrationMagic = "IFCA"
	referenceMagic   = "IFDR"
	version          = 1 // of all; forests have version 2 as well
	forestVersion2   = 2
	maxEncoded       = 32 << 20 // bytes; Fit's largest forests of version 1 take less
)

// ErrFormat is wrapped by the errors about bytes that are not an encoding, or
// of another version, or damaged.
var ErrFormat = errors.New("not a valid encoding")

// SchemaError reports a forest over other features than the reader's. Its
// scores would mean nothing.
type SchemaError struct {
	Got, Want string
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("iforest: forest of schema %q where %q is wanted", e.Got, e.Want)
}

// Load decodes a forest and refuses one of another schema with a *SchemaError.
// The bytes need not be trusted: what is not a forest is an error that wraps
// ErrFormat, and neither time nor memory exceed what a largest forest takes.
// The checksum guards against damage only; who must know that a forest is
// genuine signs it.
func Load(data []byte, schema string) (*Forest, error) {
	f, err := decodeForest(data)
	if err != nil {
		return nil, err
	}
	if f.Schema() != schema {
		return nil, &SchemaError{Got: f.Schema(), Want: schema}
	}
	return f, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. Into a zero Forest it
// reads one of any schema; a Forest that has been fitted or read before keeps
// its schema and refuses others as Load does. On error f is unchanged. It must
// not run while f is in use.
func (f *Forest) UnmarshalBinary(data []byte) error {
	g, err := decodeForest(data)
	if err != nil {
		return err
	}
	if f.dims != 0 && f.Schema() != g.Schema() {
		return &SchemaError{Got: g.Schema(), Want: f.Schema()}
	}
	*f = *g
	return nil
}

// MarshalBinary implements encoding.BinaryMarshaler. Equal forests have equal
// bytes. It fails for a zero Forest, and for one that Load would refuse because
// it takes more than 32 MiB: thousands of features and prototypes.
func (f *Forest) MarshalBinary() ([]byte, error) {
	if f.dims == 0 {
		return nil, errors.New("iforest: encode a forest that was never fitted")
	}
	o := &f.opts
	v := byte(version)
	if !f.plain() {
		v = forestVersion2
	}
	b := append([]byte(forestMagic), v, byte(len(o.Schema)))
	b = append(b, o.Schema...)
	b = binary.AppendUvarint(b, uint64(f.dims))
	b = binary.AppendUvarint(b, uint64(o.SampleSize))
	b = binary.AppendUvarint(b, uint64(len(f.trees)))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(o.RangeExtension))
	b = binary.LittleEndian.AppendUint64(b, o.Seed)
	if v == forestVersion2 {
		heard := uint64(0)
		if f.heard() {
			heard = 1
		}
		for _, n := range []uint64{
			uint64(o.MaxDepth), uint64(o.Columns), uint64(o.Gain), uint64(o.Candidates),
			uint64(o.Missing), uint64(o.Scoring), uint64(o.Prototypes), f.grown, heard,
		} {
			b = binary.AppendUvarint(b, n)
		}
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(o.MinDeviation))
		b = appendFloats(b, f.center)
		if o.Scoring == LeafDistance {
			b = appendFloats(appendFloats(b, f.inverse), f.base)
			b = binary.AppendUvarint(b, uint64(len(f.prototypes)))
			for _, p := range f.prototypes {
				b = appendFloats(b, p)
			}
		}
	}
	limit := o.depth()
	for i := range f.trees {
		b = f.trees[i].append(b, 0, limit)
	}
	if len(b)+4 > maxEncoded {
		return nil, fmt.Errorf("iforest: encode a forest of %d bytes; at most %d can be read", len(b), maxEncoded)
	}
	return seal(b), nil
}

// plain reports whether version 1 can tell all of f.
func (f *Forest) plain() bool {
	o := f.opts
	return o.MinDeviation == 0 && o.MaxDepth == 0 && o.Columns == 1 && o.Gain == GainNone && o.Missing == MissingRefused &&
		o.Scoring == PathLength && f.grown == uint64(len(f.trees)) && !f.heard()
}

// heard reports whether there is feedback in f.
func (f *Forest) heard() bool { return len(f.trees) > 0 && f.trees[0].weight != nil }

func appendFloats(b []byte, values []float32) []byte {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func (t *tree) append(b []byte, i int32, levels int) []byte {
	n := &t.nodes[i]
	if n.feature == isLeaf {
		if n.size > 1 && levels > 0 {
			b = append(b, 0)
		}
		if t.proto != nil {
			b = binary.AppendUvarint(b, uint64(t.proto[i]))
		}
		if t.weight != nil {
			b = binary.AppendVarint(b, int64(t.weight[i]))
		}
		return b
	}
	if t.terms == nil {
		b = binary.AppendUvarint(b, uint64(n.feature)+1)
	} else {
		for k, s := range t.split(i) {
			feature := uint64(s.feature)
			if k == 0 {
				feature++
			}
			b = binary.AppendUvarint(b, feature)
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(s.coef))
		}
	}
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(n.threshold))
	b = binary.AppendUvarint(b, uint64(t.nodes[i+1].size))
	b = t.append(b, i+1, levels-1)
	return t.append(b, n.right, levels-1)
}

func decodeForest(data []byte) (*Forest, error) {
	r, v, err := unsealVersion(data, forestMagic)
	if err == nil && v != version && v != forestVersion2 {
		err = fmt.Errorf("%w: version %d, not %d or %d", ErrFormat, v, version, forestVersion2)
	}
	if err != nil {
		return nil, fmt.Errorf("iforest: decode forest: %w", err)
	}
	f := &Forest{opts: Options{Columns: 1, Candidates: 1}}
	o := &f.opts
	o.Schema = string(r.bytes(int(r.byte())))
	f.dims = int(r.varint("features", 1, MaxFeatures))
	o.SampleSize = int(r.varint("sample size", 2, MaxSampleSize))
	o.Trees = int(r.varint("trees", 1, MaxTrees))
	o.RangeExtension = math.Float64frombits(r.uint64())
	o.Seed = r.uint64()
	f.grown = uint64(o.Trees)
	heard := false
	if v == forestVersion2 {
		o.MaxDepth = int(r.varint("depth", 0, NoDepthLimit))
		o.Columns = int(r.varint("columns", 1, MaxColumns))
		o.Gain = Gain(r.varint("gain", 0, uint64(GainAveraged)))
		o.Candidates = int(r.varint("candidates", 1, MaxCandidates))
		o.Missing = Missing(r.varint("missing", 0, uint64(MissingMedian)))
		o.Scoring = Scoring(r.varint("scoring", 0, uint64(LeafDistance)))
		o.Prototypes = int(r.varint("prototypes asked for", 0, MaxSampleSize))
		f.grown = r.varint("trees ever grown", uint64(o.Trees), 1<<62)
		heard = r.varint("feedback", 0, 1) == 1
		o.MinDeviation = math.Float64frombits(r.uint64())
		if r.err == nil && o.Scoring == LeafDistance && o.Prototypes == 0 {
			r.fail("no prototypes asked for")
		}
		if r.err == nil && !heard && f.plainOptions() {
			r.fail("version 2 of what version 1 tells")
		}
	}
	if r.err == nil {
		if _, err := o.complete(); err != nil {
			r.fail(err.Error())
		}
		if math.Signbit(o.RangeExtension) || math.Signbit(o.MinDeviation) {
			r.fail("negative range extension or deviation")
		}
	}
	if o.Missing == MissingMedian || o.Columns > 1 {
		f.center = r.floats("median", f.dims, -math.MaxFloat32)
	}
	if o.Scoring == LeafDistance {
		f.inverse = r.floats("inverse deviation", f.dims, 0)
		f.base = r.floats("base", f.dims, 0)
		n := int(r.varint("prototypes", 1, uint64(o.Trees*o.SampleSize)))
		if r.err == nil && n > len(r.rest)/(4*f.dims) {
			r.fail("ends too early")
		}
		if r.err == nil {
			f.prototypes = make([][]float32, n)
		}
		for i := range f.prototypes {
			f.prototypes[i] = r.floats("prototype", f.dims, -math.MaxFloat32)
		}
		for _, w := range f.inverse {
			if !(w > 0 && w <= maxInverse) {
				r.fail("inverse deviation of 0 or too large")
			}
		}
	}
	if r.err == nil && o.Trees > len(r.rest) {
		r.fail("fewer bytes than trees")
	}
	if r.err == nil {
		f.trees = make([]tree, o.Trees)
	}
	d := treeDecoder{reader: r, dims: f.dims, prototypes: len(f.prototypes), heard: heard, referred: make([]bool, len(f.prototypes))}
	if o.RangeExtension > 0 {
		d.widened = o.depth() - depthLimit(o.SampleSize)
	} else {
		d.widened = o.depth()
	}
	if o.Columns > 1 {
		d.columns = o.Columns
	}
	any := false
	for i := range f.trees {
		d.node(o.SampleSize, o.depth())
		if d.err != nil {
			break
		}
		f.trees[i] = d.take()
		for _, w := range f.trees[i].weight {
			any = any || w != 0
		}
	}
	if r.err == nil && heard && !any {
		r.fail("feedback that says nothing")
	}
	if r.err == nil && slices.Contains(d.referred, false) {
		r.fail("prototype of no leaf")
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("iforest: decode forest: %w", err)
	}
	f.complete()
	return f, nil
}

// plainOptions is plain, but for feedback, while the trees are not read yet.
func (f *Forest) plainOptions() bool {
	g := Forest{opts: f.opts, grown: f.grown - uint64(f.opts.Trees)}
	return g.plain()
}

type treeDecoder struct {
	*reader
	dims       int
	widened    int // splits with more levels than that under them may leave a side empty
	columns    int // 0 where splits have no terms
	prototypes int // 0 with PathLength
	heard      bool
	referred   []bool // prototypes that leaves refer to
	tree       tree   // the one that is read, in memory that is used again
}

// take returns a copy of the tree that was read, of no more memory than it takes, and makes room for the next.
func (d *treeDecoder) take() tree {
	t := &d.tree
	taken := tree{nodes: slices.Clone(t.nodes), terms: slices.Clone(t.terms), proto: slices.Clone(t.proto), weight: slices.Clone(t.weight)}
	t.nodes, t.terms, t.proto, t.weight = t.nodes[:0], t.terms[:0], t.proto[:0], t.weight[:0]
	return taken
}

// node reads the subtree of size rows with this many levels under it. Depth,
// and with it the recursion, ends at levels; every inner node takes six bytes.
func (d *treeDecoder) node(size, levels int) {
	t := &d.tree
	i := len(t.nodes)
	t.nodes = append(t.nodes, node{feature: isLeaf, size: int32(size)})
	for range d.columns {
		t.terms = append(t.terms, term{})
	}
	if d.prototypes > 0 {
		t.proto = append(t.proto, 0)
	}
	if d.heard {
		t.weight = append(t.weight, 0)
	}
	if size <= 1 || levels == 0 {
		d.leaf(i)
		return
	}
	tag := d.varint("feature", 0, uint64(d.dims))
	if tag == 0 {
		d.leaf(i)
		return
	}
	feature := int32(tag - 1)
	for k := range d.columns {
		at := uint32(feature)
		if k > 0 {
			at = uint32(d.varint("feature", 0, uint64(d.dims-1)))
		}
		t.terms[i*d.columns+k] = term{at, d.finite("coefficient")}
	}
	if d.columns > 0 {
		feature = 0
	}
	threshold := d.finite("threshold")
	least := 0
	if levels <= d.widened {
		least = 1 // no empty leaves
	}
	left := int(d.varint("rows that go left", uint64(least), uint64(size-least)))
	if d.err != nil {
		return
	}
	d.node(left, levels-1)
	right := len(t.nodes)
	d.node(size-left, levels-1)
	n := &t.nodes[i]
	n.feature, n.threshold, n.right = feature, threshold, int32(right)
}

// leaf reads what follows leaf i.
func (d *treeDecoder) leaf(i int) {
	if d.prototypes > 0 {
		p := d.varint("prototype", 0, uint64(d.prototypes-1))
		d.tree.proto[i] = int32(p)
		d.referred[p] = true
	}
	if d.heard {
		d.tree.weight[i] = d.weight()
	}
}

// MarshalBinary implements encoding.BinaryMarshaler.
func (c *Calibration) MarshalBinary() ([]byte, error) {
	b := append([]byte(calibrationMagic), version)
	b = binary.AppendUvarint(b, c.n)
	b = binary.AppendUvarint(b, uint64(len(c.values)))
	before := uint64(0)
	for i, v := range c.values {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		b = binary.AppendUvarint(b, c.ranks[i]-before)
		before = c.ranks[i]
	}
	return seal(b), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler. The bytes need not be
// trusted; errors wrap ErrFormat and leave c unchanged. It must not run while
// c is in use.
func (c *Calibration) UnmarshalBinary(data []byte) error {
	r, err := unseal(data, calibrationMagic)
	if err != nil {
		return fmt.Errorf("iforest: decode calibration: %w", err)
	}
	const most = 1 << 52 // scores, so that n and n+1 are exact as floats
	d := Calibration{n: r.varint("scores", 0, most)}
	rank := uint64(0)
	for range r.varint("points", 0, maxPoints) {
		v := math.Float64frombits(r.uint64())
		rank += r.varint("rank", 1, most)
		if v-v != 0 || len(d.values) > 0 && v <= d.values[len(d.values)-1] {
			r.fail("scores are not finite and ascending")
		}
		if r.err != nil {
			break
		}
		d.values = append(d.values, v)
		d.ranks = append(d.ranks, rank)
	}
	if rank != d.n {
		r.fail("ranks do not end at the number of scores")
	}
	if err := r.end(); err != nil {
		return fmt.Errorf("iforest: decode calibration: %w", err)
	}
	*c = d
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends the checksum of b to it.
func seal(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// unseal checks what every encoding has and returns a reader of the rest.
func unseal(data []byte, magic string) (*reader, error) {
	r, v, err := unsealVersion(data, magic)
	if err == nil && v != version {
		return nil, fmt.Errorf("%w: version %d, not %d", ErrFormat, v, version)
	}
	return r, err
}

// unsealVersion is unseal for what has several versions.
func unsealVersion(data []byte, magic string) (*reader, byte, error) {
	head := len(magic) + 1
	if len(data) < head+4 || string(data[:len(magic)]) != magic {
		return nil, 0, fmt.Errorf("%w: does not begin with %q", ErrFormat, magic)
	}
	if len(data) > maxEncoded {
		return nil, 0, fmt.Errorf("%w: %d bytes, more than %d", ErrFormat, len(data), maxEncoded)
	}
	body := data[:len(data)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[len(body):]) {
		return nil, 0, fmt.Errorf("%w: checksum differs", ErrFormat)
	}
	return &reader{rest: body[head:]}, data[len(magic)], nil
}

// reader takes numbers from the front of rest. After its first failure it
// gives zeros, and callers look at err where it matters.
type reader struct {
	rest []byte
	err  error
}

func (r *reader) fail(why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrFormat, why)
	}
}

// end returns the first failure, of which bytes left over are one.
func (r *reader) end() error {
	if r.err == nil && len(r.rest) > 0 {
		r.fail("bytes after the end")
	}
	return r.err
}

func (r *reader) bytes(n int) []byte {
	if r.err != nil || n > len(r.rest) {
		r.fail("ends too early")
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// varint reads a minimal varint between lo and hi; it gives lo after a failure.
func (r *reader) varint(what string, lo, hi uint64) uint64 {
	v, n := binary.Uvarint(r.rest)
	switch {
	case r.err != nil:
		return lo
	case n <= 0 || n > 1 && r.rest[n-1] == 0:
		r.fail(what + ": not a varint")
		return lo
	case v < lo || v > hi:
		r.fail(fmt.Sprintf("%s: %d is not within %d to %d", what, v, lo, hi))
		return lo
	}
	r.rest = r.rest[n:]
	return v
}

// finite reads a float32 that must be finite.
func (r *reader) finite(what string) float32 {
	v := math.Float32frombits(r.uint32())
	if v-v != 0 {
		r.fail(what + " is not finite")
	}
	return v
}

// floats reads n finite numbers of at least least.
func (r *reader) floats(what string, n int, least float32) []float32 {
	if r.err != nil || n > len(r.rest)/4 {
		r.fail("ends too early")
		return nil
	}
	out := make([]float32, n)
	for i := range out {
		if out[i] = r.finite(what); out[i] < least {
			r.fail(what + " is too small")
		}
	}
	return out
}

// weight reads the weight of a leaf, a minimal zigzag varint within ±1.
func (r *reader) weight() int16 {
	const most = 1 / weightUnit
	z := r.varint("weight", 0, 2*most)
	w := int16(z >> 1)
	if z&1 == 1 {
		w = ^w
	}
	return w
}
