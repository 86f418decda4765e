package telemetry

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// DecisionMessage is the message of the canonical decision line, by which log pipelines find it.
const DecisionMessage = "SALLYPORT-DECISION"

// Recorder sends each record to the log, the metrics and a sink. The log line has no evidence: what is learned from goes to the sink only, which is the controller.
type Recorder struct {
	log  *zap.Logger
	sink func(json []byte)

	calls     *prometheus.CounterVec
	faults    *prometheus.CounterVec
	findings  *prometheus.CounterVec
	tokens    [4]prometheus.Counter // by kind: input, output, cached, reasoning
	judge     prometheus.Histogram
	firstByte prometheus.Histogram
	unencoded prometheus.Counter
}

// NewRecorder returns a Recorder that registers its metrics with reg. The sink gets each record as JSON; it must not block
// and may be nil.
func NewRecorder(log *zap.Logger, reg prometheus.Registerer, sink func(json []byte)) (*Recorder, error) {
	x := &Recorder{
		log:  log,
		sink: sink,
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_calls_total",
			Help: "Decisions by outcome (released, refused, relaxed, cut), kind of destination, surface and the rule that decided.",
		}, []string{"outcome", "destination", "surface", "rule"}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_faults_total",
			Help: "Decisions that stand in for one that could not be had, by fault.",
		}, []string{"fault"}),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_findings_total",
			Help: "What strict decoding objected to, by code.",
		}, []string{"code"}),
		judge: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sallyport_judge_seconds",
			Help:    "Time a call spent in the gate: decoding, features, detector and policy.",
			Buckets: prometheus.ExponentialBuckets(25e-6, 2, 14),
		}),
		firstByte: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sallyport_first_byte_seconds",
			Help:    "Time from a released call's arrival to the first byte of its response.",
			Buckets: prometheus.ExponentialBuckets(1e-3, 2, 18),
		}),
		unencoded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_records_unencodable_total",
			Help: "Decision records that could not be encoded; the log says which.",
		}),
	}
	tokens := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sallyport_tokens_total",
		Help: "Tokens that providers reported, by kind (input, output, cached, reasoning).",
	}, []string{"kind"})
	for i, kind := range []string{"input", "output", "cached", "reasoning"} {
		x.tokens[i] = tokens.WithLabelValues(kind)
	}
	for _, c := range []prometheus.Collector{x.calls, x.faults, x.findings, tokens, x.judge, x.firstByte, x.unencoded} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return x, nil
}

// Emit sends the record on its ways. The record must not change afterwards.
func (x *Recorder) Emit(r *Record) {
	x.calls.WithLabelValues(string(r.Outcome), string(r.Destination.Kind), r.Call.Surface, r.Rule).Inc()
	if r.Fault != "" {
		x.faults.WithLabelValues(r.Fault).Inc()
	}
	for _, f := range r.Call.Findings {
		x.findings.WithLabelValues(f).Inc()
	}
	x.judge.Observe(float64(r.JudgeMicros) / 1e6)
	if r.FirstByteMicros > 0 {
		x.firstByte.Observe(float64(r.FirstByteMicros) / 1e6)
	}
	for i, n := range [...]int64{r.Usage.InputTokens, r.Usage.OutputTokens, r.Usage.CachedTokens, r.Usage.ReasoningTokens} {
		if n > 0 {
			x.tokens[i].Add(float64(n))
		}
	}

	e, err := encode(r)
	if err != nil {
		x.unencoded.Inc()
		x.log.Error("decision record lost", zap.String("id", r.ID), zap.Error(err))
		return
	}
	x.log.Info(DecisionMessage, zap.Reflect("record", e))
	if x.sink != nil {
		x.sink(e.whole)
	}
}
