package detector_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/features"
)

// seen is a row's vector as the model's sidecar would have had it.
func seen(t *testing.T, m *detector.Model, r detector.Row) *features.Vector {
	t.Helper()
	v := r.Vector
	if b := m.Baseline(); b != nil && len(r.Evidence) > 0 {
		e, err := features.DecodeEvidence(r.Evidence)
		if err != nil {
			t.Fatal(err)
		}
		b.Features(&v, e)
	}
	return &v
}

// attacks are calls that carry an injection, each of a session of its own.
func attacks(seed uint64, n int) []detector.Row {
	g := detectortest.New(seed)
	var rows []detector.Row
	var e features.Evidence
	for len(rows) < n {
		c := g.Hijacked()
		sessions := features.NewSessions(0, 0)
		for i, call := range c.Calls[:c.Exposed+1] {
			turn := sessions.Begin(call, detectortest.Epoch)
			row := detector.Row{Session: turn.Session().ID}
			features.Extract(&row.Vector, &e, call, turn, &features.Context{Salt: detectortest.Salt, Now: detectortest.Epoch})
			row.Evidence = e.Encoded()
			sessions.Settle(turn, features.Outcome{Released: true}, detectortest.Epoch)
			if i == c.Exposed {
				rows = append(rows, row)
			}
		}
	}
	return rows
}

func mean(t *testing.T, m *detector.Model, rows []detector.Row) float64 {
	t.Helper()
	sum := 0.0
	for _, r := range rows {
		sum += m.Judge(seen(t, m, r)).Score / float64(len(rows))
	}
	return sum
}

func TestFeedback(t *testing.T) {
	if testing.Short() {
		t.Skip("statistics of many models: make unit gathers them without the race detector")
	}
	rows := detectortest.Rows(1, 600)
	injected := attacks(2, 40)
	var labels []detector.Labelled
	for _, r := range injected[:20] {
		labels = append(labels, detector.Labelled{Row: r, Attack: true})
	}
	// One that was refused, and is not among the rows, is said to have been all right.
	odd := rows[11]
	odd.Session = "odd"
	for i, f := range features.Schema {
		if f.Name == "data.role_markers" {
			odd.Vector[i] = 3
		}
	}
	labels = append(labels, detector.Labelled{Row: odd})
	before, err := detector.Train(rows, detector.Options{})
	if err != nil {
		t.Fatal(err)
	}
	after, err := detector.Train(rows, detector.Options{Feedback: labels})
	if err != nil {
		t.Fatal(err)
	}
	if i := after.Info(); i.FeedbackRows != len(labels) || i.Calls != len(rows)+1 {
		t.Errorf("info %+v", i)
	}
	shown, err := detector.Train(rows, detector.Options{Feedback: labels[:20]})
	if err != nil {
		t.Fatal(err)
	}
	unlabelled := injected[20:]
	if b, a := mean(t, before, unlabelled), mean(t, shown, unlabelled); a < b {
		t.Errorf("attacks like those that were labelled score %.4f after %.4f", a, b)
	}
	b, a := before.Judge(seen(t, before, odd)), after.Judge(seen(t, after, odd))
	if !b.Exceeds || a.Exceeds {
		t.Errorf("a call said to be all right: exceeds %v before and %v after (scores %.3f over %.3f, %.3f over %.3f)", b.Exceeds, a.Exceeds, b.Score, b.Threshold, a.Score, a.Threshold)
	}
	again, err := detector.Train(rows, detector.Options{Feedback: labels})
	if err != nil || again.Digest() != after.Digest() {
		t.Errorf("the same labels gave another model: %v", err)
	}

	// Nothing of a session that was an attack is learned.
	taught := slices.Concat(rows, injected[:1])
	m, err := detector.Train(taught, detector.Options{Feedback: labels[:1]})
	if err != nil || m.Info().Calls != len(rows) {
		t.Errorf("%d of %d calls learned, %v", m.Info().Calls, len(taught), err)
	}
	labels[0].Vector[0] = float32(math.NaN())
	if _, err := detector.Train(rows, detector.Options{Feedback: labels[:1]}); err == nil {
		t.Error("a label of no numbers was taken")
	}
	labels[0].Vector[0], labels[0].Evidence = 0, []byte("evidence")
	if _, err := detector.Train(rows, detector.Options{Feedback: labels[:1]}); !errors.Is(err, features.ErrEvidence) {
		t.Errorf("a label of evidence that cannot be read: %v", err)
	}
}

func TestPrior(t *testing.T) {
	lent := detectortest.Rows(1, 400)
	for i := range lent {
		lent[i].Evidence = nil
		lent[i].Session = "other/" + lent[i].Session
	}
	own := detectortest.Rows(2, 320)
	if _, err := detector.Train(own[:20], detector.Options{}); !errors.Is(err, detector.ErrTooFew) {
		t.Fatalf("twenty calls: %v", err)
	}
	for n, baseline := range map[int]bool{0: false, 20: false, 300: true} {
		m, err := detector.Train(own[:n], detector.Options{Prior: lent})
		if err != nil {
			t.Fatal(err)
		}
		if i := m.Info(); i.Calls != n+len(lent) || i.PriorRows != len(lent) || (m.Baseline() != nil) != baseline {
			t.Errorf("%d calls of its own: %+v, a baseline: %v", n, i, m.Baseline() != nil)
		}
		injected := attacks(3, 40)
		found := 0
		for _, r := range injected {
			if m.Judge(seen(t, m, r)).Exceeds {
				found++
			}
		}
		exceeding := 0
		for _, r := range detectortest.Rows(4, 500) {
			if m.Judge(seen(t, m, r)).Exceeds {
				exceeding++
			}
		}
		t.Logf("%d calls of its own: %d of 40 injections found, %d of 500 benign calls exceed", n, found, exceeding)
		if found < 36 || exceeding > 25 {
			t.Errorf("%d calls of its own: %d of 40 injections found, %d of 500 benign calls exceed", n, found, exceeding)
		}
		b, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		l, err := detector.Load(b)
		if err != nil || l.Info() != m.Info() || l.Judge(&injected[0].Vector).Score != m.Judge(&injected[0].Vector).Score {
			t.Errorf("the model changed on its way: %v", err)
		}
	}
}

func TestDrift(t *testing.T) {
	m := model()
	var same, other []detector.Row
	worst, moved := 0., 0
	for seed := range uint64(10) {
		same, other = nil, nil
		for _, r := range detectortest.Rows(9+seed, 600) {
			r.Vector = *seen(t, m, r)
			same = append(same, r)
			for i, f := range features.Schema {
				if f.Name == "envelope.max_tokens" {
					r.Vector[i] += 9
				}
			}
			other = append(other, r)
		}
		d := m.Drift(same)
		if d.Calls != len(same) {
			t.Errorf("%d of %d calls compared", d.Calls, len(same))
		}
		worst = max(worst, d.Score.PSI)
		moved += len(d.Features)
	}
	t.Logf("the same: PSI of the scores up to %.2f, %d features", worst, moved)
	// Conversations are made of so few pieces that what reads alike is one chain and groups are by opening: scores out of fold are a little too low.
	if worst > 0.5 || moved > 2 {
		t.Errorf("of ten times 600 calls like those that were learned from, the scores' PSI is up to %.2f, and features drift %d times", worst, moved)
	}
	d := m.Drift(other)
	if !d.Drifted() || len(d.Features) != 1 || d.Features[0].Name != "envelope.max_tokens" {
		t.Errorf("calls that ask for more output: %+v", d)
	}
	if d := m.Drift(nil); d.Calls != 0 || d.Drifted() {
		t.Errorf("no calls drift: %+v", d)
	}
	if d := (*detector.Model)(nil).Drift(same); d.Calls != 0 || d.Drifted() {
		t.Errorf("no model: %+v", d)
	}
}

// What happens to every workload some day, a release with another prompt and other tools, a rotated key, a busy hour or one at night, is no anomaly by itself: were it one, all calls would
// be refused from then on, and nothing learned of them.
func TestOrdinaryEventsPass(t *testing.T) {
	m := model()
	for name, event := range map[string]map[string]float32{
		"a release":            {"envelope.new_system": 1, "envelope.new_tools": 1},
		"another model":        {"envelope.new_model": 1},
		"another provider":     {"envelope.new_destination": 1, "envelope.new_credential": 1},
		"a rotated key":        {"envelope.new_credential": 1},
		"eight times as busy":  {"time.workload_rate": 3, "cost.rate": 3},
		"an hour never worked": {"time.hour_surprise": 6},
	} {
		usual, exceeding := 0, 0
		for _, r := range detectortest.Rows(12, 500) {
			v := seen(t, m, r)
			if m.Judge(v).Exceeds {
				usual++
			}
			for i, f := range features.Schema {
				if x, ok := event[f.Name]; ok {
					v[i] = x
				}
			}
			if m.Judge(v).Exceeds {
				exceeding++
			}
		}
		t.Logf("%s: %d of 500 calls exceed, %d without", name, exceeding, usual)
		if exceeding > usual+25 {
			t.Errorf("%s: %d of 500 calls exceed, %d without", name, exceeding, usual)
		}
	}
}

// weak are calls that are off by a little, in a way that has something of an order.
func weak(seed uint64, n int) []detector.Row {
	rows := detectortest.Rows(seed, n)
	for i := range rows {
		rows[i].Session += "/weak"
		for f, x := range features.Schema {
			if x.Name == "data.second_person" || x.Name == "data.imperatives" || x.Name == "data.instruction_words" {
				rows[i].Vector[f] += 0.6
			}
		}
	}
	return rows
}

// Labels of attacks that lie below the threshold bring others like them over it; ordinary calls stay where they were, what the score is made of adds up, and the model says the same after
// it was kept. The threshold hardly rises, whatever was learned since.
func TestLabelsBringWeakAttacksOver(t *testing.T) {
	rows := detectortest.Rows(1, 600)
	var labels []detector.Labelled
	for _, r := range weak(2, 40) {
		labels = append(labels, detector.Labelled{Row: r, Attack: true})
	}
	before, err := detector.Train(rows, detector.Options{})
	if err != nil {
		t.Fatal(err)
	}
	after, err := detector.Train(rows, detector.Options{Feedback: labels, Earlier: before.Info()})
	if err != nil {
		t.Fatal(err)
	}
	b, err := after.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	kept, err := detector.Load(b)
	if err != nil || kept.Info() != after.Info() || kept.Digest() != after.Digest() {
		t.Fatalf("kept %+v of %+v: %v", kept.Info(), after.Info(), err)
	}
	distance := func(score float64) float64 { return score / (1 - score) }
	if b, a := distance(before.Info().Threshold), distance(after.Info().Threshold); a > 1.02*b+1e-9 {
		t.Errorf("the threshold's distance rose from %.4f to %.4f", b, a)
	}
	over := func(m *detector.Model, rows []detector.Row) (n int) {
		for _, r := range rows {
			if m.Judge(seen(t, m, r)).Exceeds {
				n++
			}
		}
		return n
	}
	others, ordinary := weak(3, 300), detectortest.Rows(4, 500)
	t.Logf("of 300 like those that were labelled, %d and %d exceed before and after; of 500 ordinary calls %d and %d", over(before, others), over(after, others), over(before, ordinary), over(after, ordinary))
	if b, a := over(before, others), over(after, others); a < b+45 {
		t.Errorf("of 300 like those that were labelled, %d exceed after %d", a, b)
	}
	if b, a := over(before, ordinary), over(after, ordinary); a > b+5 {
		t.Errorf("of 500 ordinary calls, %d exceed after %d", a, b)
	}
	for _, r := range append(others[:50:50], ordinary[:50]...) {
		v := seen(t, after, r)
		a := after.Explain(v)
		if k := kept.Explain(v); k.Score != a.Score || k.Exceeds != a.Exceeds {
			t.Fatalf("kept, it says %+v, not %+v", k, a)
		}
		sum := after.Unit()
		for _, c := range after.Contributions(v) {
			sum += c.Contribution
		}
		if d := 2 * distance(a.Score); math.Abs(sum-d) > 1e-6*d {
			t.Fatalf("contributions and an ordinary call's distance add up to %v, the score says %v", sum, d)
		}
	}
}

// Training tells of each forest before it is fitted, and ends where it is told to.
func TestTrainProgress(t *testing.T) {
	rows := detectortest.Rows(1, 300)
	told, last := 0, 0
	m, err := detector.Train(rows, detector.Options{Progress: func(done, of int) error {
		if done != told || done >= of {
			t.Errorf("told of %d forests of %d after %d", done, of, told)
		}
		told, last = told+1, of
		return nil
	}})
	if err != nil || told != last || told < 2 {
		t.Fatalf("told of %d forests, at last of %d, %v", told, last, err)
	}
	if silent, err := detector.Train(rows, detector.Options{}); err != nil || silent.Digest() != m.Digest() {
		t.Errorf("another model, or %v", err)
	}
	enough := errors.New("enough")
	if _, err := detector.Train(rows, detector.Options{Progress: func(done, _ int) error {
		if done == 3 {
			return enough
		}
		return nil
	}}); !errors.Is(err, enough) {
		t.Errorf("%v, want %v", err, enough)
	}
}
