package webhook

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	total    *prometheus.CounterVec
	duration prometheus.Histogram
}

func newMetrics() metrics {
	return metrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_injection_total",
			Help: "Pods that the webhook was asked about, by result (injected, skipped, refused) and reason.",
		}, []string{"result", "reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sallyport_injection_duration_seconds",
			Help: "Time that the webhook took to answer, without the network.",
			// An answer takes a good tenth of a millisecond; the API server waits for five seconds at most.
			Buckets: []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5},
		}),
	}
}

func (m metrics) register(r prometheus.Registerer) error {
	if err := r.Register(m.total); err != nil {
		return err
	}
	return r.Register(m.duration)
}

func (m metrics) observe(report *Report, d time.Duration) {
	m.total.WithLabelValues(string(report.Result), string(report.Reason)).Inc()
	m.duration.Observe(d.Seconds())
}
