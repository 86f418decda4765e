package detector

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/iforest"
)

// small is a model of random rows.
func small(t *testing.T, o Options) (*Model, []Row) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	rows := make([]Row, 200)
	for i := range rows {
		rows[i].Session = string(rune('a' + i%20))
		for f := range rows[i].Vector {
			rows[i].Vector[f] = float32(r.NormFloat64())
		}
	}
	o.MinCalls, o.MinSessions, o.Trees, o.SampleSize = 16, 2, 10, 32
	m, err := Train(rows, o)
	if err != nil {
		t.Fatal(err)
	}
	return m, rows
}

// Parts that are each what iforest accepts, and together no model: they are refused, or every verdict can be written as JSON.
func TestLoadOfPartsThatDoNotFit(t *testing.T) {
	good, rows := small(t, Options{})
	for name, tc := range map[string]struct {
		scores  []float64
		ceiling float64
		refused bool
	}{
		"as it is":            {scores: []float64{0, 0.5, 1 - 1e-12}},
		"scores of 1":         {scores: []float64{0.5, 1, 1}},
		"scores of 0":         {scores: []float64{0, 0}},
		"scores below 0":      {scores: []float64{-2, 0.5}, refused: true},
		"scores above 1":      {scores: []float64{0.5, 1.5}, refused: true},
		"no scores":           {refused: true},
		"a ceiling of all":    {scores: []float64{0.5, 1}, ceiling: math.MaxFloat32},
		"a ceiling of naught": {scores: []float64{0.5, 1}, ceiling: math.SmallestNonzeroFloat64},
		"an endless ceiling":  {scores: []float64{0.5, 1}, ceiling: math.Inf(1), refused: true},
	} {
		info := good.info
		info.Ceiling = tc.ceiling
		m := *good
		m.calibration, m.info = iforest.Calibrate(tc.scores), info
		if err := m.encode(); err != nil {
			t.Fatal(err)
		}
		loaded, err := Load(m.encoded)
		if tc.refused {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, x := range []float32{0, 1, 1e4, math.MaxFloat32, -math.MaxFloat32, float32(math.NaN()), float32(math.Inf(1))} {
			v := rows[0].Vector
			v[9] = x
			if b, err := json.Marshal(loaded.Explain(&v)); err != nil {
				t.Errorf("%s: a verdict on %v: %v", name, x, err)
			} else if x != x && !loaded.Judge(&v).Exceeds {
				t.Errorf("%s: what is no number passes: %s", name, b)
			}
		}
	}
}

// Of labels that contradict each other, the later counts: an attack that was cleared before is not let pass, and what is cleared at last is.
func TestLabelsThatContradict(t *testing.T) {
	if testing.Short() {
		t.Skip("trainings, which make unit does without the race detector")
	}
	_, rows := small(t, Options{})
	row := rows[3]
	row.Session = "labelled"
	for f := range row.Vector {
		row.Vector[f] = 5
	}
	attack, fine := Labelled{Row: row, Attack: true}, Labelled{Row: row}
	for name, tc := range map[string]struct {
		labels  []Labelled
		exceeds bool
	}{
		"fine":                 {[]Labelled{fine}, false},
		"attack":               {[]Labelled{attack}, true},
		"fine, then an attack": {[]Labelled{fine, attack}, true},
		"attack, then fine":    {[]Labelled{attack, fine}, false},
		"often":                {[]Labelled{fine, attack, attack, fine, attack, fine, attack, attack, attack}, true},
	} {
		m, _ := small(t, Options{Feedback: tc.labels})
		if a := m.Judge(&row.Vector); a.Exceeds != tc.exceeds {
			t.Errorf("%s: %+v", name, a)
		}
		if _, err := Load(m.encoded); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Labels of attacks that are as far as numbers go are heard or not, and leave a model that can be read.
func TestLabelsOfHugeAttacks(t *testing.T) {
	if testing.Short() {
		t.Skip("trainings, which make unit does without the race detector")
	}
	r := rand.New(rand.NewPCG(3, 4))
	for _, x := range []float32{100, 1e4, math.MaxFloat32} {
		var labels []Labelled
		for i := range 12 {
			l := Labelled{Attack: true, Row: Row{Session: "attack"}}
			for f := range l.Vector {
				l.Vector[f] = x * float32(r.IntN(3)-1)
			}
			if i == 0 {
				l.Vector = features.Vector{}
			}
			labels = append(labels, l)
		}
		m, rows := small(t, Options{Feedback: labels})
		back, err := Load(m.encoded)
		if err != nil {
			t.Fatalf("%g: %v", x, err)
		}
		for _, v := range []*features.Vector{&labels[5].Vector, &labels[0].Vector, &rows[0].Vector} {
			a, b := m.Judge(v), back.Judge(v)
			if a.Score != b.Score || a.Exceeds != b.Exceeds || !(a.Score >= 0 && a.Score <= 1) {
				t.Errorf("%g: %+v, and %+v by the model that was read", x, a, b)
			}
		}
	}
}
