package proxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"sallyport.dev/sallyport/pkg/policy"
)

// Timeouts and limits are in force for the calls that begin after an update, and for those alone.
func TestSettingsOfASnapshot(t *testing.T) {
	t.Run("first byte", func(t *testing.T) {
		r := newRig(t)
		release := make(chan struct{})
		entered := make(chan struct{}, 2)
		r.provider(t, true, func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			entered <- struct{}{}
			select {
			case <-release:
				_, _ = io.WriteString(w, "late")
			case <-req.Context().Done():
			}
		})
		client := r.client(t, true)
		early := make(chan string, 1)
		go func() {
			res, err := client.Do(post(t, t.Context(), strings.NewReader(`{}`)))
			if err != nil {
				early <- err.Error()
				return
			}
			b, _ := io.ReadAll(res.Body)
			early <- string(b)
		}()
		<-entered
		before := r.p.view.Load()
		r.snap.Timeouts.FirstByte = 50 * time.Millisecond
		must(t, r.p.Update(r.snap))
		for id := range r.p.view.Load().upstreams {
			if before.upstreams[id] != nil {
				t.Error("the transport was taken over")
			}
		}
		res, err := client.Do(post(t, t.Context(), strings.NewReader(`{}`)))
		must(t, err)
		if text := readAll(t, res); res.StatusCode != 504 || !strings.Contains(text, "first_byte_timeout") {
			t.Errorf("%d %q", res.StatusCode, text)
		}
		if rec := r.records.next(t); rec.UpstreamError != "first_byte_timeout" {
			t.Errorf("record %+v", rec)
		}
		close(release)
		if got := <-early; got != "late" {
			t.Errorf("the call that was under way: %q", got)
		}
	})
	t.Run("idle", func(t *testing.T) {
		r := newRig(t)
		r.provider(t, true, func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.WriteString(w, "x")
			_ = http.NewResponseController(w).Flush()
			<-req.Context().Done()
		})
		before := r.p.view.Load()
		r.snap.Timeouts.Idle = 50 * time.Millisecond
		must(t, r.p.Update(r.snap))
		for id, u := range r.p.view.Load().upstreams {
			if before.upstreams[id] != u {
				t.Error("the transport was made anew")
			}
		}
		res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{}`)))
		must(t, err)
		if _, err := io.ReadAll(res.Body); err == nil {
			t.Error("the response ended well")
		}
		if rec := r.records.next(t); rec.UpstreamError != "idle_timeout" {
			t.Errorf("record %+v", rec)
		}
	})
	t.Run("connect", func(t *testing.T) {
		r := newRig(t)
		l, err := net.Listen("tcp", "127.0.0.1:0") // nobody takes up the TLS handshake
		must(t, err)
		t.Cleanup(func() { _ = l.Close() })
		r.at(443, l.Addr().String())
		r.snap.Timeouts.Connect = 50 * time.Millisecond
		must(t, r.p.Update(r.snap))
		res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{}`)))
		must(t, err)
		if text := readAll(t, res); res.StatusCode < 502 || res.StatusCode > 504 {
			t.Errorf("%d %q", res.StatusCode, text)
		}
		if rec := r.records.next(t); rec.UpstreamError == "" || rec.UpstreamError == "first_byte_timeout" {
			t.Errorf("record %+v", rec)
		}
	})
	t.Run("memory", func(t *testing.T) {
		r := newRig(t)
		r.arrivals(t, true)
		first := r.p.view.Load().memory
		must(t, r.p.Update(r.snap))
		if r.p.view.Load().memory != first {
			t.Error("the memory was divided anew though nothing changed")
		}
		r.snap.Limits.Memory = 1000
		must(t, r.p.Update(r.snap))
		res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(strings.Repeat("x", 2000))))
		must(t, err)
		if text := readAll(t, res); res.StatusCode != 413 || !strings.Contains(text, "larger than 1000 bytes") {
			t.Errorf("%d %q", res.StatusCode, text)
		}
	})
	t.Run("held", func(t *testing.T) {
		r := newRig(t)
		r.gate.mode = policy.ResponseHoldAll
		r.provider(t, true, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"x":"`+strings.Repeat("x", 2000)+`"}`)
		})
		call := func() string {
			res, err := r.client(t, true).Do(post(t, t.Context(), strings.NewReader(`{}`)))
			must(t, err)
			return readAll(t, res)
		}
		if got := call(); len(got) < 2000 {
			t.Errorf("%q", got)
		}
		r.snap.Limits.HeldResponse = 1000
		must(t, r.p.Update(r.snap))
		if got := call(); !strings.Contains(got, ruleHeldTooLarge) {
			t.Errorf("%q", got)
		}
		r.snap.Limits.HeldResponse = 0 // the default again
		must(t, r.p.Update(r.snap))
		if got := call(); len(got) < 2000 {
			t.Errorf("%q", got)
		}
	})
}

// What the Options say is in force where a snapshot says nothing, and what is negative in Options is no setting.
func TestSettingsHaveDefaults(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Timeouts.Idle, o.Timeouts.Hold, o.Limits.HeldToolCalls, o.Limits.Memory = time.Hour, -1, 7, -1
	})
	r.snap.Timeouts.Connect = time.Second
	must(t, r.p.Update(r.snap))
	v := r.p.view.Load()
	want := defaultTimeouts.CallTimeouts
	want.Idle, want.Connect = time.Hour, time.Second
	if v.timeouts != want || v.limits != (Limits{Memory: 128 << 20, HeldToolCalls: 7, HeldResponse: 16 << 20}) || v.memory.size != 128<<20 || v.maxBytes != DefaultMaxRequestBytes {
		t.Errorf("%+v, %+v", v.timeouts, v.limits)
	}
}

// A body that does not arrive is neither judged nor forwarded.
func TestAbandonedBody(t *testing.T) {
	r := newRig(t)
	r.provider(t, true, func(http.ResponseWriter, *http.Request) { t.Error("forwarded") })
	r.snap.Timeouts.RequestBody = 50 * time.Millisecond
	must(t, r.p.Update(r.snap))
	res := r.raw(t, "POST /v1/chat/completions HTTP/1.1\r\nHost: "+modelHost+"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	if res.StatusCode != http.StatusRequestTimeout || !res.Close {
		t.Errorf("%d, close %v", res.StatusCode, res.Close)
	}
	if n := testutil.ToFloat64(r.p.metrics.abandoned); n != 1 {
		t.Errorf("%v counted", n)
	}
	if asked := r.gate.requests(); len(asked) > 0 {
		t.Errorf("judged: %+v", asked)
	}
	r.records.none(t)
}
