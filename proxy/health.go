package proxy

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one condition of being started.
type Check struct {
	// Name says what is awaited.
	Name string
	// Err returns nil when the condition holds, and otherwise why it does not yet.
	Err func(ctx context.Context) error
}

// checkPatience bounds all checks of one probe: the kubelet asks again.
const checkPatience = 900 * time.Millisecond

// Health serves the probes and the metrics. It holds no secret and changes nothing, since everybody may ask.
type Health struct {
	checks   []Check
	started  atomic.Bool
	draining atomic.Bool
	mux      http.ServeMux
}

// NewHealth makes the handler of /startup, /ready, /live and /metrics. /startup succeeds once all checks have held at the same time, and from then on.
func NewHealth(metrics prometheus.Gatherer, checks ...Check) *Health {
	h := &Health{checks: checks}
	h.mux.HandleFunc("GET /startup", func(w http.ResponseWriter, r *http.Request) { answerProbe(w, h.startup(r.Context())) })
	h.mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		if h.draining.Load() {
			answerProbe(w, []string{"draining"})
			return
		}
		answerProbe(w, h.startup(r.Context()))
	})
	h.mux.HandleFunc("GET /live", func(w http.ResponseWriter, _ *http.Request) { answerProbe(w, nil) })
	h.mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return h
}

// ServeHTTP is part of http.Handler.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// Drain makes /ready fail from now on.
func (h *Health) Drain() { h.draining.Store(true) }

// startup returns what is still awaited.
func (h *Health) startup(ctx context.Context) []string {
	if h.started.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	var waits []string
	for _, c := range h.checks {
		if err := c.Err(ctx); err != nil {
			waits = append(waits, c.Name+": "+err.Error())
		}
	}
	if len(waits) == 0 {
		h.started.Store(true)
	}
	return waits
}

func answerProbe(w http.ResponseWriter, waits []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(waits) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, strings.Join(waits, "\n"))
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}
