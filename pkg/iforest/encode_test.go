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
	for range 60 {
		dims := 1 + r.IntN(200)
		rows := awkward(2+r.IntN(300), dims, r)
		f := mustFit(t, rows, Options{
			Trees: 1 + r.IntN(30), SampleSize: 2 + r.IntN(300), Seed: r.Uint64(),
			RangeExtension: float64(r.IntN(2)) * r.Float64(), Schema: "calls/3",
		})
		b := encoded(t, f)
		g, err := Load(b, "calls/3")
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(f, g) {
			t.Fatal("forest changed on the way")
		}
		if !bytes.Equal(encoded(t, g), b) {
			t.Fatal("the same forest has two encodings")
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
	for _, extension := range []float64{0, 1} {
		n := len(encoded(t, mustFit(t, rows, Options{RangeExtension: extension})))
		t.Logf("50 features, 100 × 256, extension %v: %d bytes", extension, n)
		if n > 250_000 {
			t.Errorf("extension %v: %d bytes", extension, n)
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
	other[len(forestMagic)] = version + 1
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

func FuzzLoad(f *testing.F) {
	for _, extension := range []float64{0, 1} {
		b := encoded(f, mustFit(f, gaussian(20, 3, 1), Options{Trees: 3, RangeExtension: extension, Schema: "s"}))
		f.Add(b[5:len(b)-4], []byte("\x00\x00\x80\x3f\x00\x00\xc0\x7f"))
	}
	f.Add(append(header(2, 4, 1, 1)[5:], 0), []byte{})
	f.Fuzz(func(t *testing.T, body, row []byte) {
		if _, err := Load(body, ""); err == nil {
			// Only what begins with the magic and ends with its checksum.
			if !bytes.HasPrefix(body, []byte(forestMagic)) {
				t.Fatalf("accepted %x", body)
			}
		}
		b := seal(append(append([]byte(forestMagic), version), body...))
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
		if !forest.scorable(x) {
			if s != 1 {
				t.Fatalf("a row with NaN scores %v", s)
			}
		} else if s != linkedScore(&forest, x) || !(s > 0 && s < 1) {
			t.Fatalf("score %v by the flat form, %v by the trees", s, linkedScore(&forest, x))
		}
		sum := 0.0
		for _, c := range forest.Explain(x) {
			sum += c.Credit
		}
		if got := forest.BaseScore() * math.Exp2(sum/forest.CreditUnit()); math.Abs(got-s) > 1e-9 {
			t.Fatalf("credits give score %v, Score %v", got, s)
		}
	})
}
