package iforest

import "math"

// The scoring form of trees that are too deep to be complete, or whose splits
// have several columns. Siblings lie side by side, and a step is
//
//	k = left[k] + (value > threshold)
//
// A leaf is its own left child behind a threshold of +Inf, so that every walk
// takes as many steps as the deepest tree of its group has levels, without a
// branch. Eight trees are walked in lock step here as well.

// hop is a node of this form.
type hop struct {
	threshold float32
	feature   uint32 // where splits have one column
	left      uint32
}

type linked struct {
	columns int
	hops    []hop
	terms   []term    // at hop × columns, where columns > 1
	value   []float32 // per hop: h at a leaf
	proto   []int32   // per hop: the prototype at a leaf; nil with PathLength
	factor  []float32 // per hop: what feedback made of the distance; nil without
	roots   []uint32  // per tree, and a leaf of value 0 up to the next group of 8
	depth   []int     // per group
}

func link(f *Forest) linked {
	l := linked{columns: f.opts.Columns}
	n := 1
	for i := range f.trees {
		n += len(f.trees[i].nodes)
	}
	l.hops = make([]hop, 0, n)
	l.value = make([]float32, 0, n)
	if l.columns > 1 {
		l.terms = make([]term, 0, n*l.columns)
	}
	l.add() // the leaf of missing trees
	for i := range f.trees {
		t := &f.trees[i]
		l.roots = append(l.roots, l.add())
		l.place(t, 0, l.roots[i])
		if i%lanes == 0 {
			l.depth = append(l.depth, 0)
		}
		l.depth[i/lanes] = max(l.depth[i/lanes], t.height())
	}
	for len(l.roots)%lanes != 0 {
		l.roots = append(l.roots, 0)
	}
	if f.opts.Scoring == LeafDistance {
		l.proto = make([]int32, len(l.hops))
		for i := range f.trees {
			t := &f.trees[i]
			if t.weight != nil && l.factor == nil {
				l.factor = make([]float32, len(l.hops))
				for k := range l.factor {
					l.factor[k] = 1
				}
			}
			l.placeProto(t, 0, l.roots[i])
		}
	}
	return l
}

// add appends a leaf.
func (l *linked) add() uint32 {
	k := uint32(len(l.hops))
	l.hops = append(l.hops, hop{threshold: float32(math.Inf(1)), left: k})
	l.value = append(l.value, 0)
	if l.columns > 1 {
		for range l.columns {
			l.terms = append(l.terms, term{})
		}
	}
	return k
}

// place puts node i of t, and all below it, at hop k.
func (l *linked) place(t *tree, i int32, k uint32) {
	n := &t.nodes[i]
	if n.feature == isLeaf {
		l.value[k] = float32(t.mean[i])
		return
	}
	left := l.add()
	l.add()
	l.hops[k] = hop{n.threshold, uint32(n.feature), left}
	if l.columns > 1 {
		copy(l.terms[int(k)*l.columns:], t.split(i))
	}
	l.place(t, i+1, left)
	l.place(t, n.right, left+1)
}

func (l *linked) placeProto(t *tree, i int32, k uint32) {
	n := &t.nodes[i]
	if n.feature == isLeaf {
		l.proto[k] = t.proto[i]
		if t.weight != nil {
			l.factor[k] = float32(t.factor(i))
		}
		return
	}
	l.placeProto(t, i+1, l.hops[k].left)
	l.placeProto(t, n.right, l.hops[k].left+1)
}

func (l *linked) groups() int { return len(l.depth) }

// walk returns the leaves x comes to in the trees of group g.
func (l *linked) walk(g int, x []float32) [lanes]uint32 {
	roots := l.roots[g*lanes : g*lanes+lanes]
	k0, k1, k2, k3, k4, k5, k6, k7 := roots[0], roots[1], roots[2], roots[3], roots[4], roots[5], roots[6], roots[7]
	hops := l.hops
	if l.columns > 1 {
		for range l.depth[g] {
			k0, k1, k2, k3 = l.step(k0, x), l.step(k1, x), l.step(k2, x), l.step(k3, x)
			k4, k5, k6, k7 = l.step(k4, x), l.step(k5, x), l.step(k6, x), l.step(k7, x)
		}
		return [lanes]uint32{k0, k1, k2, k3, k4, k5, k6, k7}
	}
	for range l.depth[g] {
		h0, h1, h2, h3 := &hops[k0], &hops[k1], &hops[k2], &hops[k3]
		k0 = h0.left + above(x[h0.feature], h0.threshold)
		k1 = h1.left + above(x[h1.feature], h1.threshold)
		k2 = h2.left + above(x[h2.feature], h2.threshold)
		k3 = h3.left + above(x[h3.feature], h3.threshold)
		h4, h5, h6, h7 := &hops[k4], &hops[k5], &hops[k6], &hops[k7]
		k4 = h4.left + above(x[h4.feature], h4.threshold)
		k5 = h5.left + above(x[h5.feature], h5.threshold)
		k6 = h6.left + above(x[h6.feature], h6.threshold)
		k7 = h7.left + above(x[h7.feature], h7.threshold)
	}
	return [lanes]uint32{k0, k1, k2, k3, k4, k5, k6, k7}
}

// step goes from hop k to a child where splits have several columns.
func (l *linked) step(k uint32, x []float32) uint32 {
	h := &l.hops[k]
	at := int(k) * l.columns
	return h.left + above(project(l.terms[at:at+l.columns], x), h.threshold)
}

// remembered is how many prototypes' distances are kept while one row is scored.
const remembered = 512

// sum adds up what the trees tell of x: path lengths, which add up exactly, or
// distances, which are added in the order of the trees.
func (f *Forest) sumLinked(x []float32) float64 {
	l := &f.linked
	sum := 0.0
	n := len(f.trees)
	// Trees that are asked about one row often end at the same prototype. A distance of 0 is found again, which is as rare as it is cheap.
	var known [remembered]float64
	for g := range l.groups() {
		leaves := l.walk(g, x)
		if l.proto == nil {
			for _, k := range leaves {
				sum += float64(l.value[k])
			}
			continue
		}
		for _, k := range leaves[:min(lanes, n-g*lanes)] {
			p := l.proto[k]
			var d float64
			if p < remembered {
				d = known[p]
			}
			if d == 0 {
				d = distance(x, f.prototypes[p], f.inverse)
				if p < remembered {
					known[p] = d
				}
			}
			if l.factor != nil {
				d = float64(d * float64(l.factor[k]))
			}
			sum += d
		}
	}
	return sum
}
