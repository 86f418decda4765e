package controlplane

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the controller's own; controller-runtime's come besides.
type metrics struct {
	records         *prometheus.CounterVec
	trained         prometheus.Counter
	trainingSeconds prometheus.Histogram
	signed          *prometheus.CounterVec
	refusedPolicies *prometheus.GaugeVec
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
	}
}

// register adds them to a registry, with gauges of what the plane knows.
func (m *metrics) register(r prometheus.Registerer, sidecars, workloads func() float64) error {
	var errs []error
	for _, c := range []prometheus.Collector{
		m.records, m.trained, m.trainingSeconds, m.signed, m.refusedPolicies,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sallyport_controller_sidecars", Help: "Connected sidecars."}, sidecars),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sallyport_controller_learned_workloads", Help: "Workloads that are learned."}, workloads),
	} {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}
