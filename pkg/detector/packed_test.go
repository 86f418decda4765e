package detector_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
)

// Whatever is done to packed rows, they are what a slice of rows would be.
func TestPacked(t *testing.T) {
	from := detectortest.Rows(1, 300)
	for i := range from {
		from[i].Lender = ""
	}
	random := rand.New(rand.NewPCG(1, 2))
	var p detector.Packed
	var want []detector.Row
	for step := range 6000 {
		in := from[random.IntN(len(from))]
		in.Vector[0] = float32(step)
		switch k := random.IntN(100); {
		case k < 30 && len(want) < 700 || len(want) == 0:
			p.Put(len(want), in)
			want = append(want, in)
		case k < 95:
			i := random.IntN(len(want))
			p.Put(i, in)
			want[i] = in
		case k < 97:
			i := random.IntN(len(want))
			p.Strip(i)
			want[i].Evidence = nil
		case k == 97:
			p.Settle()
		case k == 98:
			p.Repack()
		case step%50 == 0:
			last := len(want) - 1
			i := random.IntN(len(want))
			p.Move(i, last)
			p.Truncate(last)
			want[i] = want[last]
			want = want[:last]
		}
		if p.Len() != len(want) {
			t.Fatalf("step %d: %d rows, want %d", step, p.Len(), len(want))
		}
		if i := random.IntN(max(1, len(want))); i < len(want) && (p.Session(i) != want[i].Session || p.Evidence(i) != len(want[i].Evidence) || step%7 == 0 && !same(p.At(i), want[i])) {
			t.Fatalf("step %d: row %d is %+v, want %+v", step, i, p.At(i), want[i])
		}
	}
	for i, row := range p.All() {
		if !same(row, want[i]) {
			t.Errorf("row %d is %+v, want %+v", i, row, want[i])
		}
	}
	for _, row := range p.Some([]int{5, 1, 5}, false) {
		if row.Evidence != nil {
			t.Error("evidence that was not asked for")
		}
	}
	var none detector.Packed
	none.Settle()
	none.Repack()
	if len(none.All()) != 0 || none.Bytes() != 0 {
		t.Error("nothing is something")
	}
}

func same(a, b detector.Row) bool {
	return a.Session == b.Session && a.Vector == b.Vector && string(a.Evidence) == string(b.Evidence)
}

// What rows take, of calls as agents make them, and that it does not grow with what was written over.
func TestPackedBytes(t *testing.T) {
	rows := detectortest.Rows(1, 2048)
	plain := 0
	var p detector.Packed
	for i, row := range rows {
		p.Put(i, row)
		plain += int(reflect.TypeOf(row).Size()) + len(row.Evidence)
	}
	p.Repack()
	least := p.Bytes()
	t.Logf("%d rows of %d bytes take %d, of which %d are evidence", len(rows), plain, least, p.EvidenceBytes())
	if least > plain/2 {
		t.Errorf("%d bytes, of %d", least, plain)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 5 * len(rows) {
		p.Put(random.IntN(len(rows)), rows[random.IntN(len(rows))])
		if n := p.Bytes(); n > 2*least+100_000 {
			t.Fatalf("%d bytes, of %d", n, least)
		}
	}
}

// A sample that was made smaller may hold more of a session than a sample of that size takes in. It is kept and taken up as it is.
func TestReservoirLimitIsKept(t *testing.T) {
	r := detector.NewReservoir(4096, 1)
	for i := range 150 {
		r.Add(row(i/50, i), admitted)
	}
	r.Limit(100, 0)
	b, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var again detector.Reservoir
	if err := again.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	if c := again.Counts(); c.Calls != 100 || c != r.Counts() {
		t.Errorf("%+v, kept %+v", c, r.Counts())
	}
	for i := range 500 {
		again.Add(row(i/50, i), admitted)
	}
	if c := again.Counts(); c.Calls != 100 {
		t.Errorf("%+v", c)
	}
}

func TestReservoirLimit(t *testing.T) {
	rows := detectortest.Rows(1, 2048)
	r := detector.NewReservoir(2048, 1)
	for i, row := range rows {
		row.Session = fmt.Sprint(i / 4)
		row.Vector[0] = float32(i)
		r.Add(row, admitted)
	}
	before := r.Counts()
	all, evidence := r.Bytes()
	r.Limit(2048, before.Evidence/4)
	less, words := r.Bytes()
	if c := r.Counts(); c.Calls != 2048 || c.Evidence > before.Evidence/4 || c.Evidence < before.Evidence/5 || words > evidence/2 || less > all-evidence+words+20_000 {
		t.Errorf("%+v in %d and %d bytes, before %+v in %d and %d", c, less, words, before, all, evidence)
	}
	r.Limit(500, 0)
	c := r.Counts()
	if least, words := r.Bytes(); c.Calls != 500 || c.Evidence != 0 || words != 0 || least > less {
		t.Errorf("%+v in %d bytes", c, least)
	}
	sum := 0.0
	per := map[string]int{}
	for _, row := range r.Rows() {
		sum += float64(row.Vector[0])
		per[row.Session]++
	}
	if mean := sum / 500; mean < 900 || mean > 1150 || len(per) != c.Sessions {
		t.Errorf("rows of mean %v, of %d sessions and %d counted", mean, len(per), c.Sessions)
	}
	// It goes on as one of that size, and grows again where it may.
	for i := range 1000 {
		r.Add(row(i, i), admitted)
	}
	if c := r.Counts(); c.Calls != 500 {
		t.Errorf("%+v", c)
	}
	r.Limit(2048, 2<<20)
	for i, row := range rows {
		row.Session = fmt.Sprint("again-", i/4)
		r.Add(row, admitted)
	}
	if c := r.Counts(); c.Calls != 2048 || c.Evidence == 0 {
		t.Errorf("%+v", c)
	}
	saved, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var again detector.Reservoir
	if err := again.UnmarshalBinary(saved); err != nil || again.Counts() != r.Counts() || !reflect.DeepEqual(again.Rows(), r.Rows()) {
		t.Errorf("read again: %+v, %v", again.Counts(), err)
	}
}

func TestReservoirSpread(t *testing.T) {
	r := detector.NewReservoir(2048, 1)
	for i, row := range detectortest.Rows(1, 1000) {
		row.Session = fmt.Sprint(i / 4)
		row.Vector[0] = float32(i)
		r.Add(row, admitted)
	}
	for _, tc := range []struct {
		most    int
		without map[string]bool
		want    int
	}{{100, nil, 100}, {100, map[string]bool{"3": true}, 100}, {5000, map[string]bool{"3": true, "4": true}, r.Counts().Calls - 8}, {0, nil, 0}, {-1, nil, 0}} {
		rows := r.Spread(tc.most, tc.without)
		if len(rows) != tc.want {
			t.Errorf("%d rows, want %d", len(rows), tc.want)
		}
		for i, row := range rows {
			if row.Evidence != nil || tc.without[row.Session] || i > 0 && row.Vector[0] <= rows[i-1].Vector[0] {
				t.Fatalf("row %d is %+v", i, row)
			}
		}
	}
}
