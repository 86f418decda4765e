package detector_test

import (
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/features"
)

// TestNovelty leads a model with a sketch through its encoding and has it judge injections.
func TestNovelty(t *testing.T) {
	trained, err := detectortest.Model(1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := trained.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	m, err := detector.Load(b)
	if err != nil {
		t.Fatal(err)
	}
	if m.Baseline() == nil || m.Digest() != trained.Digest() {
		t.Fatal("the sketch was lost")
	}
	if (*detector.Model)(nil).Baseline() != nil {
		t.Error("no model has a sketch")
	}
	at := func(c detectortest.Conversation, n int) float32 {
		sessions := features.NewSessions(0, 0)
		var v features.Vector
		for i, call := range c.Calls[:n+1] {
			now := detectortest.Epoch.Add(time.Duration(i) * time.Second)
			turn := sessions.Begin(call, now)
			features.Extract(&v, nil, call, turn, &features.Context{Salt: detectortest.Salt, Baseline: m.Baseline(), Now: now})
			sessions.Settle(turn, features.Outcome{Released: true}, now)
		}
		for i, f := range features.Schema {
			if f.Name == "novelty.unseen_run" {
				return v[i]
			}
		}
		t.Fatal("no such feature")
		return 0
	}
	g := detectortest.New(99)
	for range 20 {
		c := g.Hijacked()
		attack, benign := at(c, c.Exposed), at(g.Benign(), 1)
		if !(attack > 2*benign+1) {
			t.Errorf("a run of unseen pairs of %v in an injection, %v in a benign call", attack, benign)
		}
	}
}

func TestWordsThatCannotBeRead(t *testing.T) {
	rows := detectortest.Rows(1, 300)
	rows[7].Evidence = []byte("words")
	if _, err := detector.Train(rows, detector.Options{}); err == nil {
		t.Error("trained on words that cannot be read")
	}
	r := detector.NewReservoir(64, 1)
	if r.Add(rows[7], detector.Admission{Released: true}) || !r.Add(rows[8], detector.Admission{Released: true}) {
		t.Error("the reservoir took words that cannot be read, or refused others")
	}
	b, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var again detector.Reservoir
	if err := again.UnmarshalBinary(b); err != nil || len(again.Rows()) != 1 || string(again.Rows()[0].Evidence) != string(rows[8].Evidence) {
		t.Errorf("words were lost: %v", err)
	}
}
