package detector_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
)

// Whatever is done to a reservoir, in whatever order, it holds rows that were offered, each once and as it was offered but for its evidence; it counts them rightly; and what it is kept as is taken up as what it
// is.
func TestReservoirThroughAnything(t *testing.T) {
	from := detectortest.Rows(1, 100)
	seeds, steps := uint64(6), 2500
	if testing.Short() {
		seeds, steps = 1, 500
	}
	for seed := range seeds {
		random := rand.New(rand.NewPCG(seed, 1))
		r := detector.NewReservoir(16+random.IntN(400), seed)
		capacity, evidence := 1<<16, 2<<20 // as they were limited last
		var offered []detector.Row
		var want detector.Counts
		for step := range steps {
			switch k := random.IntN(1000); {
			case k < 900:
				in := from[random.IntN(len(from))]
				in.Session = fmt.Sprint(random.IntN(1 + random.IntN(60)))
				in.Vector[0] = float32(len(offered))
				in.Lender = ""
				a := detector.Admission{Released: random.IntN(20) > 0, Exceeds: random.IntN(20) == 0, Tainted: random.IntN(20) == 0}
				offered = append(offered, in)
				if ok := a.Released && !a.Exceeds && !a.Tainted; r.Add(in, a) && !ok {
					t.Fatalf("seed %d, step %d: %+v was admitted", seed, step, a)
				} else if ok {
					want.Seen++
				} else {
					want.Refused++
					if a.Exceeds && !a.Tainted {
						want.Exceeded++
					}
				}
				continue
			case k < 930:
				r.Settle()
				continue
			case k < 940:
				session := fmt.Sprint(random.IntN(60))
				r.Forget(session)
				for _, row := range r.Rows() {
					if row.Session == session {
						t.Fatalf("seed %d, step %d: session %s is not forgotten", seed, step, session)
					}
				}
			case k < 970:
				capacity, evidence = random.IntN(450), random.IntN(60_000)
				r.Limit(capacity, evidence)
			default:
				b, err := r.MarshalBinary()
				if err != nil {
					t.Fatal(err)
				}
				again := new(detector.Reservoir)
				if err := again.UnmarshalBinary(b); err != nil || again.Counts() != r.Counts() || !reflect.DeepEqual(again.Rows(), r.Rows()) {
					t.Fatalf("seed %d, step %d: %+v is taken up as %+v, %v", seed, step, r.Counts(), again.Counts(), err)
				}
				r, evidence = again, 2<<20
			}
			c := r.Counts()
			rows := r.Rows()
			sessions, seen := map[string]bool{}, map[int]bool{}
			want.Calls, want.Evidence = len(rows), 0
			for i, row := range rows {
				at := int(row.Vector[0])
				want.Evidence += len(row.Evidence)
				if seen[at] || at >= len(offered) || row.Vector != offered[at].Vector || row.Session != offered[at].Session || len(row.Evidence) > 0 && string(row.Evidence) != string(offered[at].Evidence) {
					t.Fatalf("seed %d, step %d: row %d is not what was offered, or here twice", seed, step, i)
				}
				seen[at], sessions[row.Session] = true, true
			}
			want.Sessions = len(sessions)
			if c != want || c.Calls > max(16, capacity) || c.Evidence > evidence {
				t.Fatalf("seed %d, step %d: counts %+v, holds %+v, limited to %d calls and %d bytes", seed, step, c, want, capacity, evidence)
			}
			spread := r.Spread(len(rows)/2, nil)
			if len(spread) != len(rows)/2 {
				t.Fatalf("seed %d, step %d: %d of %d rows", seed, step, len(spread), len(rows))
			}
		}
	}
}
