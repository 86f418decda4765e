package detector_test

import (
	"testing"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/features"
)

func TestRanges(t *testing.T) {
	rows := detectortest.Rows(1, 400)
	m, err := detector.Train(rows, detector.Options{Trees: 20})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := detector.Load(b)
	if err != nil {
		t.Fatal(err)
	}
	ranges := loaded.Ranges()
	if len(ranges) != features.Size {
		t.Fatalf("%d ranges", len(ranges))
	}
	for f, r := range ranges {
		if !(r.Low <= r.Middle && r.Middle <= r.High && r.High <= r.Most) {
			t.Errorf("%s: %+v", features.Schema[f].Name, r)
		}
		if features.Schema[f].Name != "size.messages" {
			continue
		}
		within := 0
		for i := range rows {
			if x := float64(rows[i].Vector[f]); x >= r.Low-1e-6 && x <= r.High+1e-6 {
				within++
			}
		}
		if share := float64(within) / float64(len(rows)); share < 0.8 {
			t.Errorf("%s: %v of the calls are within %+v", features.Schema[f].Name, share, r)
		}
	}
	if (*detector.Model)(nil).Ranges() != nil {
		t.Error("no model has ranges")
	}
}

func TestShifts(t *testing.T) {
	m, err := detectortest.Model(1)
	if err != nil {
		t.Fatal(err)
	}
	rows := detectortest.Rows(2, 600)
	all, report := m.Shifts(rows), m.Drift(rows)
	if all.Rows != report.Calls || all.Score != report.Score || len(all.Features) != features.Size {
		t.Errorf("%+v, the report %+v", all, report)
	}
	if d := m.Shifts(nil); d.Rows != 0 || d.Score.PSI != 0 {
		t.Errorf("of no calls: %+v", d)
	}
	if d := (*detector.Model)(nil).Shifts(rows); d.Rows != 0 {
		t.Errorf("of no model: %+v", d)
	}
}
