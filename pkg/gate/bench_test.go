package gate_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// ordinary is a call of a kilobyte, the k-th of a workload.
func ordinary(k int) *gate.Request {
	const sentence = " The oak table was packed on Monday and handed to the carrier in Lyon; the lamp follows later this week."
	r := chat(fmt.Sprintf(`{"model":"gpt-4o-mini","max_tokens":512,"messages":[{"role":"system","content":"You are the support assistant of a small furniture shop. Look things up before you answer."},`+
		`{"role":"user","content":"Customer %d asks for the state of order %d.%s"}]}`, 1000+k%97, 41000+k%973, strings.Repeat(sentence, 2+k%7)))
	r.Time = start.Add(time.Duration(k) * time.Second)
	r.Salt = features.RecordedSalt
	r.Header = http.Header{"Authorization": {"Bearer none"}}
	return r
}

// learned is a gate with a model of its own calls.
func learned(t testing.TB) *gate.Gate {
	t.Helper()
	g := newGate(t, nil)
	var rows []detector.Row
	for k := range 1024 {
		row, _, err := detector.FromRecord(g.Judge(context.Background(), ordinary(k)).Record)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	model, err := detector.Train(rows, detector.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Model = func() *detector.Model { return model }
	return g
}

// What the gate adds to a call of a kilobyte: its judgement with everything on, and its record.
func BenchmarkCall(b *testing.B) {
	g := learned(b)
	began := time.Now()
	g.Elapsed = func() time.Duration { return time.Since(began) }
	requests := make([]*gate.Request, 8192)
	for k := range requests {
		requests[k] = ordinary(k + 1024)
	}
	config := zap.NewProductionEncoderConfig()
	config.NewReflectedEncoder = telemetry.NewReflectedEncoder
	bytes := 0
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(config), counting{&bytes}, zap.InfoLevel))
	recorder, err := telemetry.NewRecorder(log, prometheus.NewRegistry(), func([]byte) {})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	released, k := 0, 0
	for b.Loop() {
		r := requests[k%len(requests)]
		r.Time = start.Add(time.Duration(k+1024) * time.Second)
		v := g.Judge(b.Context(), r)
		if v.Release {
			released++
		}
		v.Record.TotalMicros = 1
		recorder.Emit(v.Record)
		k++
	}
	b.ReportMetric(float64(released)/float64(k), "released")
	b.ReportMetric(float64(bytes)/float64(k), "line-bytes")
}

// counting counts what is written.
type counting struct{ bytes *int }

func (c counting) Write(b []byte) (int, error) { *c.bytes += len(b); return len(b), nil }

func (counting) Sync() error { return nil }
