package iforest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// A forest is encoded as
//
//	magic "IFOR", version (1 byte)
//	schema: length (1 byte), bytes
//	features, ψ, trees: varints; range extension: float64; seed: uint64
//	trees, each its nodes in depth-first order
//	CRC-32C of all that (4 bytes)
//
// and a node of n training rows as
//
//	nothing               if n ≤ 1 or the depth limit is reached: a leaf
//	0                     a leaf, its rows being all equal
//	feature+1, threshold, rows that go left: varint, float32, varint
//
// Path lengths and the scoring form follow from these. Fixed-size numbers are
// little-endian, varints are minimal, so that a forest has one encoding only.
//
// A calibration is encoded as magic "IFCA", version, varints of the number of
// scores and of points, the points (float64, and the varint of its rank less
// that of the point before), CRC-32C.
const (
	forestMagic      = "IFOR"
	calibrationMagic = "IFCA"
	version          = 1
	maxEncoded       = 32 << 20 // bytes; the largest forest takes less
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
// bytes. It fails for a zero Forest.
func (f *Forest) MarshalBinary() ([]byte, error) {
	if f.dims == 0 {
		return nil, errors.New("iforest: encode a forest that was never fitted")
	}
	b := append([]byte(forestMagic), version, byte(len(f.opts.Schema)))
	b = append(b, f.opts.Schema...)
	b = binary.AppendUvarint(b, uint64(f.dims))
	b = binary.AppendUvarint(b, uint64(f.opts.SampleSize))
	b = binary.AppendUvarint(b, uint64(len(f.trees)))
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(f.opts.RangeExtension))
	b = binary.LittleEndian.AppendUint64(b, f.opts.Seed)
	limit := depthLimit(f.opts.SampleSize)
	for i := range f.trees {
		b = f.trees[i].append(b, 0, limit)
	}
	return seal(b), nil
}

func (t *tree) append(b []byte, i int32, levels int) []byte {
	n := &t.nodes[i]
	if n.size <= 1 || levels == 0 {
		return b
	}
	if n.feature == isLeaf {
		return append(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(n.feature)+1)
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(n.threshold))
	b = binary.AppendUvarint(b, uint64(t.nodes[i+1].size))
	b = t.append(b, i+1, levels-1)
	return t.append(b, n.right, levels-1)
}

func decodeForest(data []byte) (*Forest, error) {
	r, err := unseal(data, forestMagic)
	if err != nil {
		return nil, fmt.Errorf("iforest: decode forest: %w", err)
	}
	opts := Options{Schema: string(r.bytes(int(r.byte())))}
	dims := int(r.varint("features", 1, MaxFeatures))
	opts.SampleSize = int(r.varint("sample size", 2, MaxSampleSize))
	opts.Trees = int(r.varint("trees", 1, MaxTrees))
	opts.RangeExtension = math.Float64frombits(r.uint64())
	opts.Seed = r.uint64()
	if r.err == nil {
		if _, err := opts.complete(); err != nil {
			r.fail(err.Error())
		}
		if math.Signbit(opts.RangeExtension) {
			r.fail("negative range extension")
		}
	}
	if r.err == nil && opts.Trees > len(r.rest) {
		r.fail("fewer bytes than trees")
	}
	var trees []tree
	if r.err == nil {
		trees = make([]tree, opts.Trees)
	}
	d := treeDecoder{reader: r, dims: dims, classic: opts.RangeExtension == 0}
	for i := range trees {
		d.nodes = nil
		d.node(opts.SampleSize, depthLimit(opts.SampleSize))
		if d.err != nil {
			break
		}
		trees[i].nodes = d.nodes
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("iforest: decode forest: %w", err)
	}
	return newForest(opts, dims, trees), nil
}

type treeDecoder struct {
	*reader
	dims    int
	classic bool
	nodes   []node
}

// node reads the subtree of size rows with this many levels under it. Depth,
// and with it the recursion, ends at levels; every inner node takes six bytes.
func (d *treeDecoder) node(size, levels int) {
	i := len(d.nodes)
	d.nodes = append(d.nodes, node{feature: isLeaf, size: int32(size)})
	if size <= 1 || levels == 0 {
		return
	}
	tag := d.varint("feature", 0, uint64(d.dims))
	if tag == 0 {
		return
	}
	threshold := math.Float32frombits(d.uint32())
	if threshold-threshold != 0 {
		d.fail("threshold is not finite")
	}
	least := 0
	if d.classic {
		least = 1 // no empty leaves
	}
	left := int(d.varint("rows that go left", uint64(least), uint64(size-least)))
	if d.err != nil {
		return
	}
	d.node(left, levels-1)
	right := len(d.nodes)
	d.node(size-left, levels-1)
	n := &d.nodes[i]
	n.feature, n.threshold, n.right = int32(tag-1), threshold, int32(right)
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
	head := len(magic) + 1
	if len(data) < head+4 || string(data[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: does not begin with %q", ErrFormat, magic)
	}
	if len(data) > maxEncoded {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrFormat, len(data), maxEncoded)
	}
	body := data[:len(data)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[len(body):]) {
		return nil, fmt.Errorf("%w: checksum differs", ErrFormat)
	}
	if v := data[len(magic)]; v != version {
		return nil, fmt.Errorf("%w: version %d, not %d", ErrFormat, v, version)
	}
	return &reader{rest: body[head:]}, nil
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
