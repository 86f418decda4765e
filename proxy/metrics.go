package proxy

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are of the proxy itself; those of decisions are pkg/telemetry's.
type metrics struct {
	connections *prometheus.CounterVec
	open        prometheus.Gauge
	calls       prometheus.Gauge
	upstream    *prometheus.CounterVec
	abandoned   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_connections_total",
			Help: "Captured connections by what became of them: model, tunnel, refused, unreachable, unauthorized, not_redirected, probe, gone, handshake_failed, panic.",
		}, []string{"result"}),
		open: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sallyport_connections_open",
			Help: "Captured connections that are open.",
		}),
		calls: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "sallyport_calls_in_flight",
			Help: "Calls between their arrival and the end of their response.",
		}),
		upstream: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sallyport_upstream_errors_total",
			Help: "Released calls and tunnels that did not end well, by class.",
		}, []string{"class"}),
		abandoned: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "sallyport_calls_abandoned_total",
			Help: "Requests whose body did not arrive whole; they are neither judged nor forwarded.",
		}),
	}
	for _, c := range []prometheus.Collector{m.connections, m.open, m.calls, m.upstream, m.abandoned} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}
