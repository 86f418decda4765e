package iforest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestForestRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 0))
	for round := range 2 * len(kinds) {
		dims := 1 + r.IntN(200)
		rows := awkward(4+r.IntN(300), dims, r)
		opts := kinds[round%len(kinds)]
		opts.Trees, opts.SampleSize, opts.Seed, opts.Schema = 1+r.IntN(30), 2+r.IntN(300), r.Uint64(), "calls/3"
		f := mustFit(t, rows, opts)
		b := encoded(t, f)
		g, err := Load(b, "calls/3")
		if err != nil {
			t.Fatalf("%+v: %v", opts, err)
		}
		if !reflect.DeepEqual(f, g) {
			t.Fatalf("%+v: forest changed on the way", opts)
		}
		if !bytes.Equal(encoded(t, g), b) {
			t.Fatal("the same forest has two encodings")
		}
		if first := b[len(forestMagic)]; first == version != f.plain() {
			t.Fatalf("%+v: version %d", opts, first)
		}
	}
}

func TestNegativeZeroExtensionIsClassic(t *testing.T) {
	f := mustFit(t, gaussian(20, 2, 1), Options{RangeExtension: math.Copysign(0, -1)})
	if _, err := Load(encoded(t, f), ""); err != nil {
		t.Error(err)
	}
}

func TestEncodingIsCompact(t *testing.T) {
	rows := gaussian(2048, 50, 1)
	for _, c := range []struct {
		opts Options
		most int
	}{
		{Options{}, 250_000},
		{Options{RangeExtension: 1}, 250_000},
		{Options{MaxDepth: NoDepthLimit}, 250_000},
		{Options{Columns: 2, Gain: GainPooled}, 400_000},
		{Options{Scoring: LeafDistance, RangeExtension: 1}, 450_000}, // 1024 rows of 200 bytes
	} {
		n := len(encoded(t, mustFit(t, rows, c.opts)))
		t.Logf("50 features, 100 × 256, %+v: %d bytes", c.opts, n)
		if n > c.most {
			t.Errorf("%+v: %d bytes", c.opts, n)
		}
	}
}

func TestAnotherSchemaIsRefused(t *testing.T) {
	rows := gaussian(20, 2, 1)
	b := encoded(t, mustFit(t, rows, Options{Schema: "calls/3"}))
	for _, want := range []string{"calls/4", "", "calls/33"} {
		_, err := Load(b, want)
		var se *SchemaError
		if !errors.As(err, &se) || se.Got != "calls/3" || se.Want != want {
			t.Errorf("want %q: %v", want, err)
		}
	}

	var f Forest
	if err := f.UnmarshalBinary(b); err != nil || f.Schema() != "calls/3" {
		t.Errorf("a zero forest refuses %q: %v", "calls/3", err)
	}
	before := f
	var se *SchemaError
	if err := f.UnmarshalBinary(encoded(t, mustFit(t, rows, Options{}))); !errors.As(err, &se) {
		t.Errorf("a forest of calls/3 became one of no schema: %v", err)
	}
	if !reflect.DeepEqual(f, before) {
		t.Error("a refused encoding changed the forest")
	}
	if err := f.UnmarshalBinary(encoded(t, mustFit(t, rows, Options{Schema: "calls/3", Seed: 7}))); err != nil || f.Options().Seed != 7 {
		t.Errorf("a forest refuses another of its schema: %v", err)
	}
	if _, err := new(Forest).MarshalBinary(); err == nil {
		t.Error("a zero forest is encoded")
	}
}

func TestDamagedForestsAreRefused(t *testing.T) {
	b := encoded(t, mustFit(t, gaussian(50, 3, 1), Options{Trees: 3, Schema: "s"}))
	for i := range b {
		if _, err := Load(b[:i], "s"); !errors.Is(err, ErrFormat) {
			t.Fatalf("first %d bytes: %v", i, err)
		}
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if _, err := Load(bad, "s"); !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	if _, err := Load(append(bytes.Clone(b), 0), "s"); !errors.Is(err, ErrFormat) {
		t.Errorf("a byte too many: %v", err)
	}
	if _, err := Load(make([]byte, maxEncoded+1), "s"); !errors.Is(err, ErrFormat) {
		t.Errorf("too many bytes: %v", err)
	}
}

// header returns the encoding of a forest up to its trees, with a checksum only
// seal can add.
func header(dims, psi, trees uint64, extension float64) []byte {
	b := append([]byte(forestMagic), version, 0)
	b = binary.AppendUvarint(b, dims)
	b = binary.AppendUvarint(b, psi)
	b = binary.AppendUvarint(b, trees)
	b = binary.LittleEndian.AppendUint64(b, math.Float64bits(extension))
	return binary.LittleEndian.AppendUint64(b, 0)
}

// inner returns the bytes of an inner node.
func inner(feature uint64, threshold float32, left uint64) []byte {
	b := binary.AppendUvarint(nil, feature+1)
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(threshold))
	return binary.AppendUvarint(b, left)
}

// Bytes with a good checksum and bad contents.
func TestHostileForestsAreRefused(t *testing.T) {
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	good := join(header(2, 4, 1, 1), inner(0, 1, 0), inner(1, 2, 2))
	if _, err := Load(seal(good), ""); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	nan := float32(math.NaN())
	for name, b := range map[string][]byte{
		"no features":            join(header(0, 4, 1, 1), []byte{0}),
		"too many features":      join(header(MaxFeatures+1, 4, 1, 1), []byte{0}),
		"sample of one":          join(header(2, 1, 1, 1), []byte{0}),
		"huge sample":            join(header(2, 1<<40, 1, 1), []byte{0}),
		"no trees":               header(2, 4, 0, 1),
		"more trees than bytes":  join(header(2, 4, MaxTrees, 1), []byte{0, 0}),
		"2⁶³ trees":              join(header(2, 4, 1<<63, 1), []byte{0}),
		"forest too large":       join(header(2, MaxSampleSize, MaxTrees, 1), make([]byte, MaxTrees)),
		"NaN extension":          join(header(2, 4, 1, math.NaN()), []byte{0}),
		"negative extension":     join(header(2, 4, 1, -1), []byte{0}),
		"negative zero":          join(header(2, 4, 1, math.Copysign(0, -1)), []byte{0}),
		"feature out of range":   join(header(2, 4, 1, 1), inner(2, 1, 4), []byte{0}),
		"threshold NaN":          join(header(2, 4, 1, 1), inner(0, nan, 4), []byte{0}),
		"threshold Inf":          join(header(2, 4, 1, 1), inner(0, float32(math.Inf(1)), 4), []byte{0}),
		"more left than there":   join(header(2, 4, 1, 1), inner(0, 1, 5), []byte{0}),
		"empty leaf in classic":  join(header(2, 4, 1, 0), inner(0, 1, 4), []byte{0}),
		"tree cut short":         join(header(2, 4, 1, 1), inner(0, 1, 4)),
		"bytes after the end":    join(good, []byte{0}),
		"varint not minimal":     join(header(2, 4, 1, 1), []byte{0x80, 0}),
		"schema beyond the end":  append([]byte(forestMagic), version, 255, 'x'),
		"nothing but the header": header(2, 4, 1, 1),
	} {
		if _, err := Load(seal(b), ""); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := bytes.Clone(good)
	other[len(forestMagic)] = forestVersion2 + 1
	if _, err := Load(seal(other), ""); !errors.Is(err, ErrFormat) {
		t.Errorf("another version: %v", err)
	}
}

// The deepest and largest trees that bytes can ask for stay within the bound.
func TestLargestForestIsBounded(t *testing.T) {
	const trees = maxSlots / MaxSampleSize
	b := header(1, MaxSampleSize, trees, 1)
	for range trees {
		for range depthLimit(MaxSampleSize) {
			b = append(b, inner(0, 1, MaxSampleSize)...) // ever deeper to the left
		}
	}
	f, err := Load(seal(b), "")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.flat.splits) * lanes; n != maxSlots {
		t.Errorf("%d entries in the scoring form, the bound is %d", n, maxSlots)
	}
}

// header2 is header of version 2, up to the trees or what stands before them.
func header2(dims, psi, trees uint64, extension float64, numbers ...uint64) []byte {
	b := header(dims, psi, trees, extension)
	b[len(forestMagic)] = forestVersion2
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return binary.LittleEndian.AppendUint64(b, 0) // least deviation
}

func TestHostileForestsOfVersion2AreRefused(t *testing.T) {
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	floats := func(v ...float32) []byte { return appendFloats(nil, v) }
	nan := float32(math.NaN())
	// max depth, columns, gain, candidates, missing, scoring, prototypes, grown, feedback
	deep := header2(2, 4, 1, 1, 9, 1, 0, 1, 0, 0, 0, 1, 0)
	planes := join(header2(2, 4, 1, 1, 0, 2, 0, 1, 0, 0, 0, 1, 0), floats(0, 0))
	far := header2(2, 4, 1, 1, 0, 1, 0, 1, 0, 1, 8, 1, 0)
	heard := header2(2, 4, 1, 1, 0, 1, 0, 1, 0, 0, 0, 1, 1)
	plane := join([]byte{1}, floats(1), []byte{1}, floats(1), floats(0.5), []byte{0, 0})
	measures := join(floats(1, 1, 0, 0), []byte{1}, floats(3, 4))
	for name, b := range map[string][]byte{
		"deep":     join(deep, []byte{0}),
		"deeper":   join(deep, inner(0, 1, 4), inner(0, 1, 4), inner(0, 1, 3), []byte{0}),
		"planes":   join(planes, plane),
		"far":      join(far, measures, []byte{0, 0}),
		"feedback": join(heard, []byte{0, 2}),
	} {
		f, err := Load(seal(b), "")
		if err != nil {
			t.Fatalf("the good one, %s: %v", name, err)
		}
		if s := f.Score([]float32{1, 2}); !(s > 0 && s < 1) {
			t.Errorf("the good one, %s: score %v", name, s)
		}
	}
	for name, b := range map[string][]byte{
		"all of version 1":       join(header2(2, 4, 1, 1, 0, 1, 0, 1, 0, 0, 0, 1, 0), []byte{0}),
		"too deep":               join(header2(2, 4, 1, 1, NoDepthLimit+1, 1, 0, 1, 0, 0, 0, 1, 0), []byte{0}),
		"no columns":             join(header2(2, 4, 1, 1, 9, 0, 0, 1, 0, 0, 0, 1, 0), []byte{0}),
		"unknown gain":           join(header2(2, 4, 1, 1, 9, 1, 3, 1, 0, 0, 0, 1, 0), []byte{0}),
		"unknown policy for NaN": join(header2(2, 4, 1, 1, 9, 1, 0, 1, 2, 0, 0, 1, 0), floats(0, 0), []byte{0}),
		"unknown scoring":        join(header2(2, 4, 1, 1, 9, 1, 0, 1, 0, 2, 0, 1, 0), []byte{0}),
		"candidates for nothing": join(header2(2, 4, 1, 1, 9, 1, 0, 2, 0, 0, 0, 1, 0), []byte{0}),
		"fewer grown than there": join(header2(2, 4, 1, 1, 9, 1, 0, 1, 0, 0, 0, 0, 0), []byte{0}),
		"no prototypes asked":    join(header2(2, 4, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0), measures, []byte{0, 0}),
		"no prototypes there":    join(far, floats(1, 1, 0, 0), []byte{0, 0, 0}),
		"prototype beyond them":  join(far, measures, []byte{0, 1}),
		"negative deviation":     join(far, floats(-1, 1, 0, 0), []byte{1}, floats(3, 4), []byte{0, 0}),
		"infinite deviation":     join(far, floats(float32(math.Inf(1)), 1, 0, 0), []byte{1}, floats(3, 4), []byte{0, 0}),
		"base is NaN":            join(far, floats(1, 1, nan, 0), []byte{1}, floats(3, 4), []byte{0, 0}),
		"prototype is NaN":       join(far, floats(1, 1, 0, 0), []byte{1}, floats(3, nan), []byte{0, 0}),
		"medians cut short":      header2(2, 4, 1, 1, 0, 2, 0, 1, 0, 0, 0, 1, 0),
		"coefficient is NaN":     join(planes, []byte{1}, floats(nan), []byte{1}, floats(1), floats(0.5), []byte{0, 0}),
		"column out of range":    join(planes, []byte{1}, floats(1), []byte{2}, floats(1), floats(0.5), []byte{0, 0}),
		"deviation of infinity":  join(far, floats(0, 1, 0, 0), []byte{1}, floats(3, 4), []byte{0, 0}),
		"prototype of no leaf":   join(far, floats(1, 1, 0, 0), []byte{2}, floats(3, 4, 5, 6), []byte{0, 0}),
		"more than were sampled": join(far, floats(1, 1, 0, 0), []byte{5}, floats(3, 4, 3, 4, 3, 4, 3, 4, 3, 4), []byte{0, 0}),
		"empty side far below":   join(deep, inner(0, 1, 4), inner(0, 1, 4), inner(0, 1, 4), []byte{0}),
		"weight beyond 1":        join(heard, []byte{0}, binary.AppendVarint(nil, 1025)),
		"feedback of nothing":    join(heard, []byte{0, 0}),
	} {
		if _, err := Load(seal(b), ""); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, extension := range []float64{0, 1} {
		const version = byte(version)
		b := encoded(f, mustFit(f, gaussian(20, 3, 1), Options{Trees: 3, RangeExtension: extension, Schema: "s"}))
		f.Add(version, b[5:len(b)-4], []byte("\x00\x00\x80\x3f\x00\x00\xc0\x7f"))
	}
	for _, opts := range kinds {
		opts.Trees, opts.Schema = 2, "s"
		b := encoded(f, mustFit(f, gaussian(8, 3, 1), opts))
		f.Add(b[4], b[5:len(b)-4], []byte("\x00\x00\x80\x3f\x00\x00\xc0\x7f"))
	}
	f.Add(byte(version), append(header(2, 4, 1, 1)[5:], 0), []byte{})
	f.Fuzz(func(t *testing.T, v byte, body, row []byte) {
		if _, err := Load(body, ""); err == nil {
			// Only what begins with the magic and ends with its checksum.
			if !bytes.HasPrefix(body, []byte(forestMagic)) {
				t.Fatalf("accepted %x", body)
			}
		}
		b := seal(append(append([]byte(forestMagic), v), body...))
		var forest Forest
		if err := forest.UnmarshalBinary(b); err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("%v does not wrap ErrFormat", err)
			}
			return
		}
		if again, err := forest.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("accepted %x, encodes to %x, %v", b, again, err)
		}
		x := make([]float32, forest.Features())
		for i := range x {
			if len(row) >= 4*i+4 {
				x[i] = math.Float32frombits(binary.LittleEndian.Uint32(row[4*i:]))
			}
		}
		s := forest.Score(x)
		if !forest.scorable(x) && !forest.fillable(x) {
			if s != 1 {
				t.Fatalf("a row with NaN scores %v", s)
			}
		} else if s != linkedScore(&forest, x) || !(s >= 0 && s <= 1) {
			t.Fatalf("score %v by the flat form, %v by the trees", s, linkedScore(&forest, x))
		}
		sum := 0.0
		for _, c := range forest.Explain(x) {
			sum += c.Credit
		}
		if got := forest.ScoreOf(sum); !(math.Abs(got-s) <= 1e-6) {
			t.Fatalf("credits give score %v, Score %v", got, s)
		}
	})
}
