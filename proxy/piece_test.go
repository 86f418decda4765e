package proxy

import "testing"

func TestPiece(t *testing.T) {
	p := newPiece()
	defer p.end()
	for _, step := range []struct{ read, want int }{
		{0, smallPiece}, {100, smallPiece}, {smallPiece, largePiece}, {largePiece, largePiece}, {smallPiece + 1, largePiece}, {1, smallPiece}, {smallPiece, largePiece},
	} {
		if got := len(p.next(step.read)); got != step.want {
			t.Errorf("after a read of %d the buffer has %d bytes, want %d", step.read, got, step.want)
		}
	}
}
