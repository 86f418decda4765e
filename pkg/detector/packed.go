package detector

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"math"
	"sync"
	"unsafe"

	"sallyport.dev/sallyport/pkg/features"
)

// Packed is a list of rows in little memory: what calls of a workload have in common, texts that come again above all, is held once. Rows that were written last are held as they are, in
// one slab; the others by DEFLATE, in blocks of which the numbers and the evidence are apart. Of recorded agents a row with its evidence takes 100 to 130 bytes so, and 500 to 700 by itself. Lenders
// are not kept.
//
// The zero value is empty. It is not safe for concurrent use.
type Packed struct {
	slots  []slot
	blocks []*block // the last is open: a slab of what was written last
	// written counts the rows that were written since all blocks were made anew, of which as many are nobody's any more at most; lost the bytes of evidence that are, held those that are not.
	written, lost, held int
}

// slot says where a row is.
type slot struct {
	session  string // shared with whoever gave it
	block    uint16 // index into Packed.blocks
	at       uint16 // its place in the block
	evidence uint16 // its length; 0 where it has lost it
}

// block holds numbers and evidence of rows, one after the other.
type block struct {
	zipped   bool
	numbers  []byte
	evidence []byte
	ends     []uint32 // of the evidence of each, before it was zipped
}

const (
	numbersBytes = 4 * features.Size
	// openRows is how many rows are held as they are, blockRows how many a block has after all were made anew.
	openRows  = 64
	blockRows = 256
)

// Len is how many rows there are.
func (p *Packed) Len() int { return len(p.slots) }

// Session is the session of the i-th row.
func (p *Packed) Session(i int) string { return p.slots[i].session }

// Evidence is the length of the i-th row's evidence.
func (p *Packed) Evidence(i int) int { return int(p.slots[i].evidence) }

// Put makes a row the i-th; i is at most Len, where it is appended. It keeps the session's string as it is, and copies the evidence; such as is longer than evidence can be is left out.
func (p *Packed) Put(i int, row Row) {
	if len(row.Evidence) > features.MaxEvidenceBytes {
		row.Evidence = nil
	}
	if i == len(p.slots) {
		p.slots = append(p.slots, slot{})
	}
	p.drop(i)
	p.slots[i] = p.write(row)
	p.held += len(row.Evidence)
	if open := p.blocks[len(p.blocks)-1]; len(open.ends) >= openRows {
		p.Settle()
	}
}

// load appends a row where many are appended one after the other: what is written so is packed as Repack would.
func (p *Packed) load(row Row) {
	p.slots = append(p.slots, p.writeOn(row))
	p.held += len(row.Evidence)
	p.written = 0
}

// writeOn is write where many rows are written one after the other: a block is packed as soon as it is full.
func (p *Packed) writeOn(row Row) slot {
	s := p.write(row)
	if b := p.blocks[s.block]; len(b.ends) == blockRows {
		b.zip()
	}
	return s
}

// write puts a row in the open block.
func (p *Packed) write(row Row) slot {
	if n := len(p.blocks); n == 0 || p.blocks[n-1].zipped {
		p.blocks = append(p.blocks, &block{})
	}
	b := p.blocks[len(p.blocks)-1]
	for _, x := range row.Vector {
		b.numbers = binary.LittleEndian.AppendUint32(b.numbers, math.Float32bits(x))
	}
	b.evidence = append(b.evidence, row.Evidence...)
	b.ends = append(b.ends, uint32(len(b.evidence)))
	p.written++
	return slot{session: row.Session, block: uint16(len(p.blocks) - 1), at: uint16(len(b.ends) - 1), evidence: uint16(len(row.Evidence))}
}

// Strip takes the evidence of the i-th row. Its memory is free some time later.
func (p *Packed) Strip(i int) {
	p.drop(i)
	p.slots[i].evidence = 0
}

// drop counts the i-th row's evidence as nobody's.
func (p *Packed) drop(i int) {
	p.lost += int(p.slots[i].evidence)
	p.held -= int(p.slots[i].evidence)
}

// Move makes the i-th row what the j-th is.
func (p *Packed) Move(i, j int) {
	p.drop(i)
	p.slots[i] = p.slots[j]
	p.held += int(p.slots[i].evidence)
}

// Truncate drops all rows from the n-th on.
func (p *Packed) Truncate(n int) {
	for i := n; i < len(p.slots); i++ {
		p.drop(i)
	}
	clear(p.slots[n:])
	p.slots = p.slots[:n]
}

// Settle packs what was written last as well, as is worth it where nothing more is written for a while, and makes everything anew where much of it is nobody's any more.
func (p *Packed) Settle() {
	if n := len(p.blocks); n > 0 && !p.blocks[n-1].zipped {
		p.blocks[n-1].zip()
	}
	if p.written >= max(blockRows, len(p.slots)/2) || p.lost > max(blockRows<<10, p.held/2) {
		p.Repack()
	}
}

// Repack makes all blocks anew, without what is nobody's any more.
func (p *Packed) Repack() {
	old := p.blocks
	of := make([][]int, len(old)) // the rows of each block
	for i := range p.slots {
		of[p.slots[i].block] = append(of[p.slots[i].block], i)
	}
	p.blocks = nil
	var u unpacked
	for k, rows := range of {
		if len(rows) == 0 {
			continue
		}
		u.open(old[k], true)
		for _, i := range rows {
			p.slots[i] = p.writeOn(u.row(p.slots[i]))
		}
		old[k] = nil
	}
	if n := len(p.blocks); n > 0 && !p.blocks[n-1].zipped && len(p.blocks[n-1].ends) >= openRows {
		p.blocks[n-1].zip()
	}
	p.written, p.lost = 0, 0
}

// At returns the i-th row. Rows that are asked for together are better asked for together.
func (p *Packed) At(i int) Row { return p.Some([]int{i}, true)[0] }

// All returns a copy of all rows.
func (p *Packed) All() []Row {
	which := make([]int, len(p.slots))
	for i := range which {
		which[i] = i
	}
	return p.Some(which, true)
}

// Some returns copies of the rows with these indices, each with its evidence or all without.
func (p *Packed) Some(which []int, evidence bool) []Row {
	out := make([]Row, len(which))
	of := make([][]int, len(p.blocks))
	for k, i := range which {
		of[p.slots[i].block] = append(of[p.slots[i].block], k)
	}
	var u unpacked
	for b, ks := range of {
		if len(ks) == 0 {
			continue
		}
		u.open(p.blocks[b], evidence)
		for _, k := range ks {
			s := p.slots[which[k]]
			if !evidence {
				s.evidence = 0
			}
			row := u.row(s)
			row.Evidence = bytes.Clone(row.Evidence)
			out[k] = row
		}
	}
	return out
}

// Bytes is about how much memory is taken, without the sessions' names.
func (p *Packed) Bytes() int {
	n := cap(p.slots)*int(unsafe.Sizeof(slot{})) + 8*cap(p.blocks)
	for _, b := range p.blocks {
		n += int(unsafe.Sizeof(*b)) + cap(b.numbers) + cap(b.evidence) + 4*cap(b.ends)
	}
	return n
}

// EvidenceBytes is how much of that is evidence.
func (p *Packed) EvidenceBytes() int {
	n := 0
	for _, b := range p.blocks {
		n += cap(b.evidence)
	}
	return n
}

// zip packs a block that nothing more is written to.
func (b *block) zip() {
	b.numbers, b.evidence, b.ends = zipped(b.numbers), zipped(b.evidence), append(make([]uint32, 0, len(b.ends)), b.ends...)
	b.zipped = true
}

// zipped is what, by DEFLATE, in no more memory than it takes.
func zipped(what []byte) []byte {
	if len(what) == 0 {
		return nil
	}
	out, err := appendZipped(nil, what)
	if err != nil {
		panic(err) // memory does not fail to be written to
	}
	return append(make([]byte, 0, len(out)), out...)
}

// unpacked is a block whose rows are read, in memory that is used again.
type unpacked struct {
	block             *block
	numbers, evidence []byte
	scratch           [2]bytes.Buffer
}

func (u *unpacked) open(b *block, evidence bool) {
	u.block, u.numbers, u.evidence = b, b.numbers, nil
	if evidence {
		u.evidence = b.evidence
	}
	if b.zipped {
		u.numbers, u.evidence = unzip(u.numbers, &u.scratch[0]), unzip(u.evidence, &u.scratch[1])
	}
}

// row returns the row in a place of the block. Its evidence is good until the next block is opened.
func (u *unpacked) row(s slot) Row {
	row := Row{Session: s.session}
	for f, at := 0, int(s.at)*numbersBytes; f < features.Size; f, at = f+1, at+4 {
		row.Vector[f] = math.Float32frombits(binary.LittleEndian.Uint32(u.numbers[at:]))
	}
	if s.evidence > 0 {
		end := u.block.ends[s.at]
		row.Evidence = u.evidence[end-uint32(s.evidence) : end]
	}
	return row
}

// unzip is what was zipped, in a buffer that is used for it.
func unzip(what []byte, in *bytes.Buffer) []byte {
	if len(what) == 0 {
		return nil
	}
	r := unzippers.Get().(io.ReadCloser) //nolint:forcetypeassert // the pool has no other
	defer unzippers.Put(r)
	err := r.(flate.Resetter).Reset(bytes.NewReader(what), nil) //nolint:forcetypeassert // as flate says of its readers
	if err == nil {
		in.Reset()
		_, err = in.ReadFrom(r)
	}
	if err != nil {
		panic(err) // it was written by zipped, and has not left this process's memory
	}
	return in.Bytes()
}

var unzippers = sync.Pool{New: func() any { return flate.NewReader(nil) }}
