package proxy

import "sync"

// Sizes of the buffers that responses go through.
const (
	smallPiece = 4 << 10
	largePiece = 32 << 10
)

// piece is the buffer that a response is read into. A response is waited for in a small one, as there may be hundreds that say something now and then,
// and read on in a large one while what comes fills the small: 256 idle streams take a megabyte and not eight.
type piece struct {
	small [smallPiece]byte
	large *[largePiece]byte // nil while the small one does
}

var (
	pieces      = sync.Pool{New: func() any { return new(piece) }}
	largePieces = sync.Pool{New: func() any { return new([largePiece]byte) }}
)

// newPiece takes a buffer, which is given back by end.
func newPiece() *piece {
	return pieces.Get().(*piece) //nolint:forcetypeassert // the pool holds nothing else
}

// next is the buffer to read into, given how much the last read took; 0 for the first.
func (p *piece) next(last int) []byte {
	switch {
	case last < smallPiece:
		p.drop()
		return p.small[:]
	case p.large == nil:
		p.large = largePieces.Get().(*[largePiece]byte) //nolint:forcetypeassert // the pool holds nothing else
	}
	return p.large[:]
}

func (p *piece) drop() {
	if p.large != nil {
		largePieces.Put(p.large)
		p.large = nil
	}
}

func (p *piece) end() {
	p.drop()
	pieces.Put(p)
}
