package detector_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"reflect"
	"testing"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

var admitted = detector.Admission{Released: true}

// row is of a session by number, and carries a number to be known by.
func row(session, n int) detector.Row {
	r := detector.Row{Session: fmt.Sprintf("s-%d", session)}
	r.Vector[0] = float32(n)
	return r
}

func TestReservoirAdmission(t *testing.T) {
	nan := row(1, 1)
	nan.Vector[5] = float32(math.NaN())
	inf := row(1, 1)
	inf.Vector[5] = float32(math.Inf(1))
	for name, tc := range map[string]struct {
		row  detector.Row
		a    detector.Admission
		want bool
	}{
		"released":             {row(1, 1), admitted, true},
		"refused":              {row(1, 1), detector.Admission{}, false},
		"exceeding":            {row(1, 1), detector.Admission{Released: true, Exceeds: true}, false},
		"tainted":              {row(1, 1), detector.Admission{Released: true, Tainted: true}, false},
		"not a number":         {nan, admitted, false},
		"infinite":             {inf, admitted, false},
		"no session":           {detector.Row{}, admitted, false},
		"a session like a sea": {detector.Row{Session: string(make([]byte, 1000))}, admitted, false},
	} {
		r := detector.NewReservoir(100, 1)
		if got := r.Add(tc.row, tc.a); got != tc.want {
			t.Errorf("%s: admitted %v", name, got)
		}
		c := r.Counts()
		if tc.want && (c != detector.Counts{Calls: 1, Sessions: 1, Seen: 1}) || !tc.want && (c.Refused != 1 || c.Calls+c.Sessions != 0 || c.Seen != 0 || (c.Exceeded == 1) != (name == "exceeding")) {
			t.Errorf("%s: counts %+v", name, c)
		}
	}
}

func TestReservoirIsBounded(t *testing.T) {
	r := detector.NewReservoir(320, 1)
	for i := range 10_000 {
		r.Add(row(i%7, i), admitted)
	}
	if c := r.Counts(); c.Calls != 70 || c.Sessions != 7 || c.Seen != 10_000 {
		t.Errorf("7 sessions hold %+v, want 10 each", c)
	}
	for i := range 10_000 {
		r.Add(row(i, i), admitted)
	}
	if c := r.Counts(); c.Calls != 320 || len(r.Rows()) != 320 {
		t.Errorf("holds %+v", c)
	}
	per := map[string]int{}
	for _, row := range r.Rows() {
		if per[row.Session]++; per[row.Session] > 10 {
			t.Errorf("session %s holds more than a 32nd", row.Session)
		}
	}
	if len(per) != r.Counts().Sessions {
		t.Errorf("%d sessions counted, %d held", r.Counts().Sessions, len(per))
	}
}

// The sample is uniform over what came, until eight times its size has come; then it forgets, slowly.
func TestReservoirSample(t *testing.T) {
	const capacity, rounds = 100, 60
	mean := func(calls int) float64 {
		sum, n := 0.0, 0
		for seed := range rounds {
			r := detector.NewReservoir(capacity, uint64(seed))
			for i := range calls {
				r.Add(row(i, i), admitted)
			}
			for _, row := range r.Rows() {
				sum += float64(row.Vector[0])
				n++
			}
		}
		return sum / float64(n) / float64(calls)
	}
	if m := mean(8 * capacity); math.Abs(m-0.5) > 0.02 {
		t.Errorf("mean position %.3f of what came, want the middle", m)
	}
	// Of 32 times its size, the mean age is eight times it, less what the beginning cuts off: 1-8/32+.
	if m := mean(32 * capacity); m < 0.7 || m > 0.85 {
		t.Errorf("mean position %.3f of what came, want about 0.77", m)
	}

	// Within one session, early and late calls have the same chance.
	sum, n := 0.0, 0
	for seed := range rounds {
		r := detector.NewReservoir(320, uint64(seed))
		for i := range 1000 {
			r.Add(row(1, i), admitted)
		}
		for _, row := range r.Rows() {
			sum += float64(row.Vector[0])
			n++
		}
	}
	if m := sum / float64(n) / 1000; math.Abs(m-0.5) > 0.06 {
		t.Errorf("mean position %.3f in a session, want the middle", m)
	}
}

func TestReservoirRowsAreCopies(t *testing.T) {
	r := detector.NewReservoir(100, 1)
	r.Add(row(1, 1), admitted)
	r.Rows()[0].Vector[0] = 99
	if r.Rows()[0].Vector[0] != 1 {
		t.Error("who changes the rows changes the reservoir")
	}
}

// A reservoir that was saved and loaded goes on as if it had not been.
func TestReservoirRoundTrip(t *testing.T) {
	for _, calls := range []int{0, 1, 50, 5000} {
		a := detector.NewReservoir(200, 7)
		for i := range calls {
			a.Add(row(i/3, i), admitted)
			a.Add(row(i, i), detector.Admission{})
		}
		saved, err := a.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		b := new(detector.Reservoir)
		if err := b.UnmarshalBinary(saved); err != nil {
			t.Fatal(err)
		}
		for i := range 500 {
			if a.Add(row(i/5, -i), admitted) != b.Add(row(i/5, -i), admitted) {
				t.Fatalf("after %d calls, the two part at %d", calls, i)
			}
		}
		if a.Counts() != b.Counts() || !reflect.DeepEqual(a.Rows(), b.Rows()) {
			t.Errorf("after %d calls, the two differ", calls)
		}
	}
	if _, err := new(detector.Reservoir).MarshalBinary(); err == nil {
		t.Error("a zero reservoir was encoded")
	}
}

func TestReservoirUnmarshalRefuses(t *testing.T) {
	r := detector.NewReservoir(100, 1)
	for i := range 40 {
		r.Add(row(i, i), admitted)
	}
	good, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":       {nil, detector.ErrCorrupt},
		"a model":       {reseal([]byte("SPDM\x01xxxx")), detector.ErrCorrupt},
		"cut off":       {good[:len(good)-3], detector.ErrCorrupt},
		"cut and whole": {reseal(good[:len(good)-3]), detector.ErrCorrupt},
		"flipped":       {flip(good, 60), detector.ErrCorrupt},
		"other schema":  {reseal(bytes.Replace(good, []byte(features.SchemaID), []byte("sallyport.features/v0"), 1)), detector.ErrSchema},
	} {
		before := r.Rows()
		if err := r.UnmarshalBinary(tc.b); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
		if !reflect.DeepEqual(before, r.Rows()) {
			t.Errorf("%s: the reservoir was changed", name)
		}
	}
}

func FuzzReservoir(f *testing.F) {
	r := detector.NewReservoir(16, 1)
	for i := range 30 {
		r.Add(row(i/4, i), admitted)
	}
	b, err := r.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for i := 0; i < len(b); i += 11 {
		f.Add(flip(b, i))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, reseal(b)} {
			r := detector.NewReservoir(100, 1)
			if err := r.UnmarshalBinary(b); err != nil {
				if !errors.Is(err, detector.ErrCorrupt) && !errors.Is(err, detector.ErrSchema) {
					t.Errorf("error of no kind: %v", err)
				}
				continue
			}
			again, err := r.MarshalBinary()
			if err != nil || !bytes.Equal(again, b) {
				t.Errorf("a reservoir that was loaded is encoded otherwise: %v", err)
			}
			for i := range 100 {
				r.Add(row(i, i), admitted)
			}
		}
	})
}

// reseal returns a copy with the last four bytes made the checksum of the rest.
func reseal(b []byte) []byte {
	if len(b) < 4 {
		return b
	}
	b = bytes.Clone(b)
	n := len(b) - 4
	binary.LittleEndian.PutUint32(b[n:], crc32.Checksum(b[:n], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestFromRecord(t *testing.T) {
	record := func(change func(*telemetry.Record)) *telemetry.Record {
		r := &telemetry.Record{
			ID: "d-1", Outcome: telemetry.OutcomeReleased, Action: policy.ActionAllow, Session: policy.Session{ID: "s-1"},
			Schema: features.SchemaID, Features: make([]float32, features.Size),
		}
		r.Features[2] = 7
		change(r)
		return r
	}
	row, a, err := detector.FromRecord(record(func(*telemetry.Record) {}))
	if err != nil || row.Session != "s-1" || row.Vector[2] != 7 || a != admitted {
		t.Errorf("%+v, %+v, %v", row, a, err)
	}
	for name, tc := range map[string]struct {
		change func(*telemetry.Record)
		want   detector.Admission
		err    error
	}{
		"refused":         {func(r *telemetry.Record) { r.Outcome = telemetry.OutcomeRefused }, detector.Admission{}, nil},
		"relaxed":         {func(r *telemetry.Record) { r.Outcome, r.Action = telemetry.OutcomeRelaxed, policy.ActionDeny }, detector.Admission{}, nil},
		"denied":          {func(r *telemetry.Record) { r.Action = policy.ActionDeny }, detector.Admission{}, nil},
		"exceeding":       {func(r *telemetry.Record) { r.Anomaly.Exceeds = true }, detector.Admission{Released: true, Exceeds: true}, nil},
		"tainted":         {func(r *telemetry.Record) { r.Session.Tainted = true }, detector.Admission{Released: true, Tainted: true}, nil},
		"without":         {func(r *telemetry.Record) { r.Features = nil }, detector.Admission{}, detector.ErrNoFeatures},
		"other schema":    {func(r *telemetry.Record) { r.Schema = "x" }, detector.Admission{}, detector.ErrSchema},
		"other dimension": {func(r *telemetry.Record) { r.Features = r.Features[1:] }, detector.Admission{}, detector.ErrSchema},
	} {
		_, a, err := detector.FromRecord(record(tc.change))
		if a != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

func TestReservoirBoundsEvidence(t *testing.T) {
	var long []byte
	for _, r := range detectortest.Rows(1, 60) {
		if len(r.Evidence) > len(long) {
			long = r.Evidence
		}
	}
	const most = 2 << 20
	n := 2*most/len(long) + 1
	r := detector.NewReservoir(n, 1)
	for i := range n {
		in := row(i, 0)
		in.Evidence = long
		if !r.Add(in, detector.Admission{Released: true}) {
			t.Fatal("not admitted")
		}
	}
	c := r.Counts()
	if c.Calls != n || c.Evidence > most || c.Evidence < most*9/10 {
		t.Fatalf("of %d bytes, %+v", n*len(long), c)
	}
	sum, late := 0, 0
	for i, row := range r.Rows() {
		sum += len(row.Evidence)
		if i >= n/2 {
			late += len(row.Evidence)
		}
	}
	if sum != c.Evidence || late < sum/4 || late > sum*9/10 {
		t.Errorf("%d bytes held, %d of them with the later half, and %d counted", sum, late, c.Evidence)
	}
	b, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var again detector.Reservoir
	if err := again.UnmarshalBinary(b); err != nil || again.Counts() != c {
		t.Errorf("%+v, %v", again.Counts(), err)
	}
}
