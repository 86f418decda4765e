package proxy

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestHealth(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: "sallyport_test_total", Help: "x"})
	reg.MustRegister(c)
	var a, b error = errors.New("not yet"), nil
	h := NewHealth(reg, Check{"capture", func(context.Context) error { return a }}, Check{"policy", func(context.Context) error { return b }})
	want := func(path string, status int, text string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != status || !strings.Contains(w.Body.String(), text) {
			t.Errorf("%s: %d %q, want %d %q", path, w.Code, w.Body, status, text)
		}
	}
	want("/live", 200, "ok")
	want("/startup", 503, "capture: not yet")
	want("/ready", 503, "capture: not yet")
	a, b = nil, errors.New("none active")
	want("/startup", 503, "policy: none active")
	b = nil
	want("/startup", 200, "ok")
	b = errors.New("lost")
	want("/startup", 200, "ok") // it has started, once and for all
	want("/ready", 200, "ok")
	want("/metrics", 200, "sallyport_test_total 0")
	want("/debug/pprof/", 404, "")
	h.Drain()
	want("/ready", 503, "draining")
	want("/live", 200, "ok")
}
