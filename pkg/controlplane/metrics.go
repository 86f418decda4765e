package controlplane

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the controller's own; controller-runtime's come besides.
type metrics struct {
	records         *prometheus.CounterVec
	trained         prometheus.Counter
	trainingsFailed prometheus.Counter
	trainingSeconds prometheus.Histogram
	signed          *prometheus.CounterVec
	refusedPolicies *prometheus.GaugeVec
	feedback        *prometheus.CounterVec
	keptBytes       *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_controller_records_total",
			Help: "Decision records of authenticated sidecars, by what became of them for learning: received counts all that are well-formed.",
		}, []string{"result"}),
		trained: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_controller_models_trained_total",
			Help: "Detector models trained.",
		}),
		trainingsFailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_controller_trainings_failed_total",
			Help: "Trainings that failed; the workload's Baseline says why, and when it is tried again.",
		}),
		trainingSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sallyport_controller_training_seconds", Help: "How long training a model took.",
			Buckets: prometheus.ExponentialBuckets(0.05, 2, 10),
		}),
		signed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_controller_certificate_requests_total",
			Help: "Certificate requests of sidecars, by result: signed or a gRPC code.",
		}, []string{"result"}),
		refusedPolicies: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "sallyport_controller_policy_bundle_refused",
			Help: "1 while a ClusterPolicyBundle's spec is refused and its last good is in force.",
		}, []string{"bundle"}),
		feedback: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_controller_feedback_total",
			Help: "Labels that people gave to calls, by label (false-positive, attack), or unknown for calls that are not remembered and refused for what could not be read.",
		}, []string{"label"}),
		keptBytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_controller_kept_bytes_total",
			Help: "Bytes written to ConfigMaps of the controller's namespace, and so to etcd, by kind (baseline, baseline-wordless, last-good, clock).",
		}, []string{"kind"}),
	}
}

// register adds them to a registry, with gauges of what the plane knows.
func (m *metrics) register(r prometheus.Registerer, sidecars, workloads, taken func() float64, phases prometheus.Collector) error {
	var errs []error
	for _, c := range []prometheus.Collector{
		m.records, m.trained, m.trainingsFailed, m.trainingSeconds, m.signed, m.refusedPolicies, m.feedback, m.keptBytes, phases,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sallyport_controller_sidecars", Help: "Connected sidecars."}, sidecars),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sallyport_controller_learned_workloads", Help: "Workloads that are learned."}, workloads),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sallyport_controller_learned_bytes", Help: "Memory that all baselines take; a bound is set to it, from which on the largest give up what they can."}, taken),
	} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

// phases counts the workloads that are learned by where learning stands.
type phases struct{ learner *Learner }

var phasesDesc = prometheus.NewDesc("sallyport_controller_baselines", "Workloads by phase: learning, prior (judged by others' calls), ready, drifting or frozen; and such as there is no room to learn of.", []string{"phase"}, nil)

// Describe implements prometheus.Collector.
func (phases) Describe(to chan<- *prometheus.Desc) { to <- phasesDesc }

// Collect implements prometheus.Collector.
func (p phases) Collect(to chan<- prometheus.Metric) {
	for phase, n := range p.learner.phases() {
		to <- prometheus.MustNewConstMetric(phasesDesc, prometheus.GaugeValue, float64(n), phase)
	}
}
