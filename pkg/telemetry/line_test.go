package telemetry

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParseLine(t *testing.T) {
	const record = `{"id":"a","outcome":"released"}`
	for line, want := range map[string]string{
		record: "a", " " + record + "\n": "a", `{"level":"info","msg":"SALLYPORT-DECISION","record":` + record + `}`: "a", "": "", `{"msg":"started"}`: "",
	} {
		r, b, err := ParseLine([]byte(line))
		if err != nil || (r == nil) != (want == "") {
			t.Errorf("%q: %v, %v", line, r, err)
		}
		if r != nil && (r.ID != want || string(b) != record) {
			t.Errorf("%q: %q of %s", line, r.ID, b)
		}
	}
	for line, want := range map[string]string{
		"boom": "not a line of JSON", "[1]": "not a line of JSON", "{}": "no id or no outcome", `{"id":7}`: "not a decision record", `{"msg":"m","record":7}`: "not a decision record",
	} {
		if _, _, err := ParseLine([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add([]byte(`{"id":"a","outcome":"released","features":[1,2],"time":"2026-01-01T00:00:00Z"}`))
	f.Add([]byte(`{"msg":"SALLYPORT-DECISION","record":{"id":"a","outcome":"released"}}`))
	f.Add([]byte(`{"msg":"x"}`))
	f.Add([]byte(`{"record":null}`))
	f.Add([]byte(`null`))
	f.Add([]byte(` `))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := ParseLine(b)
		if err != nil || r == nil {
			return
		}
		if r.ID == "" || r.Outcome == "" || !json.Valid(b) {
			t.Errorf("read a record out of %q", b)
		}
	})
}
