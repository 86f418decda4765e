package telemetry_test

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/telemetry"
)

// TestEncodeIsEncodingJSON compares the record's form with the one that its tags say, for records with anything in any field.
func TestEncodeIsEncodingJSON(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	records := []*telemetry.Record{{}, full()}
	for range 300 {
		r := &telemetry.Record{}
		fill(reflect.ValueOf(r).Elem(), rng)
		records = append(records, r)
	}
	for _, r := range records {
		got, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := json.Unmarshal(got, &a); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		if err := json.Unmarshal(want, &b); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		var again telemetry.Record
		if err := json.Unmarshal(got, &again); err != nil {
			t.Fatal(err)
		}
	}
}

// fill sets every field to something random, some to nothing.
func fill(v reflect.Value, rng *rand.Rand) {
	if t, ok := v.Addr().Interface().(*time.Time); ok {
		*t = time.Unix(rng.Int64N(1<<33), rng.Int64N(1e9)).In(time.FixedZone("", int(rng.Int64N(20)-10)*3600))
		return
	}
	if v.Kind() != reflect.Struct && rng.IntN(4) == 0 {
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), rng)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rng.IntN(4), 4))
		for i := range v.Len() {
			fill(v.Index(i), rng)
		}
	case reflect.Map:
		v.Set(reflect.ValueOf(map[string]int{"email": rng.IntN(9), "a\"b": 1}))
	case reflect.String:
		v.SetString([]string{"", "a", "<&>", "\"\\\x00\n", "\u2028é", "bad \xff", "日本\x7f"}[rng.IntN(7)])
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{-1, 1, 443, 1 << 50, math.MaxInt64}[rng.IntN(5)])
	case reflect.Uint8:
		v.SetUint(rng.Uint64N(256))
	case reflect.Float32:
		v.SetFloat(float64([]float32{-1, .1, math.MaxFloat32, 1e-30, 3}[rng.IntN(5)]))
	case reflect.Float64:
		v.SetFloat([]float64{-1, .1, math.MaxFloat64, 1e-300, 1e21}[rng.IntN(5)])
	default:
		panic(v.Kind())
	}
}

// What JSON has no form for is refused in whatever field it is.
func TestEncodeRefusesWhatIsNoNumber(t *testing.T) {
	fields := 0
	r := full()
	floats(reflect.ValueOf(r).Elem(), func(v reflect.Value) {
		fields++
		before := v.Float()
		for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
			v.SetFloat(f)
			if b, err := r.Encode(); err == nil {
				t.Errorf("%v is encoded: %s", f, b)
			}
		}
		v.SetFloat(before)
	})
	if fields != 10 {
		t.Errorf("%d numbers with a fraction, not 10", fields)
	}
	if _, err := r.Encode(); err != nil {
		t.Error(err)
	}
}

// floats calls do with every number in v that may have a fraction.
func floats(v reflect.Value, do func(reflect.Value)) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			floats(v.Field(i), do)
		}
	case reflect.Slice:
		for i := range v.Len() {
			floats(v.Index(i), do)
		}
	case reflect.Float32, reflect.Float64:
		do(v)
	}
}

// Numbers come back to the last bit, in the form that strconv has for them.
func TestEncodeKeepsNumbers(t *testing.T) {
	r := full()
	r.Features = []float32{0, float32(math.Copysign(0, -1)), 1, -1, 999999, -999999, 1e6, 1234567, 1 << 24, 3e9, .1, -1. / 3, 1e-30, math.MaxFloat32, math.SmallestNonzeroFloat32}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var again telemetry.Record
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	for i, f := range r.Features {
		if math.Float32bits(again.Features[i]) != math.Float32bits(f) {
			t.Errorf("%v comes back as %v", f, again.Features[i])
		}
	}
	if !bytes.Contains(b, []byte(`[0,-0,1,-1,999999,-999999,1e+06,1.234567e+06,1.6777216e+07,3e+09,0.1,-0.33333334,`)) {
		t.Errorf("%s", b)
	}
}

func TestReflectedEncoder(t *testing.T) {
	var out bytes.Buffer
	for _, v := range []any{json.RawMessage(`{"a": 1}`), map[string]string{"b": "<"}} {
		if err := telemetry.NewReflectedEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	if out.String() != "{\"a\":1}\n{\"b\":\"<\"}\n" {
		t.Errorf("%q", out.String())
	}
}

func BenchmarkEncode(b *testing.B) {
	r := full()
	r.Features, r.Evidence = make([]float32, 61), make([]byte, 400)
	for i := range r.Features { // whole numbers, as most are, and others
		if r.Features[i] = float32(i % 7); i%3 == 0 {
			r.Features[i] /= 9
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}
