package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// free waits until all the memory is free.
func (r *rig) free(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.p.view.Load().memory.sem.Acquire(ctx, r.p.view.Load().memory.size); err != nil {
		t.Fatal("memory was not given back")
	}
	r.p.view.Load().memory.sem.Release(r.p.view.Load().memory.size)
}

// Calls wait for memory that other calls have, until those were sent.
func TestCallsWaitForMemory(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Limits.Memory = 100 << 10 })
	judging, decide := make(chan struct{}, 8), make(chan struct{})
	r.gate.decide = func(*gate.Request) bool {
		judging <- struct{}{}
		<-decide
		return true
	}
	r.arrivals(t, true)
	client := r.client(t, true)
	var calls sync.WaitGroup
	for range 4 { // of which one has room
		calls.Go(func() {
			res, err := client.Do(post(t, t.Context(), strings.NewReader(strings.Repeat("x", 60<<10))))
			if err != nil {
				t.Error(err)
				return
			}
			if readAll(t, res); res.StatusCode != 200 {
				t.Errorf("status %d", res.StatusCode)
			}
		})
	}
	for range 4 {
		<-judging
		if len(judging) > 0 {
			t.Error("two at once have memory for one")
		}
		decide <- struct{}{}
	}
	calls.Wait()
	r.free(t)
}

func TestNoMemory(t *testing.T) {
	for name, tc := range map[string]struct {
		size    int
		chunked bool
		status  int
		rule    string
	}{
		"length said":             {60 << 10, false, 503, "PROXY-MEMORY"},
		"chunked":                 {60 << 10, true, 503, "PROXY-MEMORY"},
		"more than there ever is": {200 << 10, false, 413, "PROXY-OVERSIZE"},
		"fits":                    {2, false, 200, ""},
	} {
		for _, h2 := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				r := newRig(t, func(o *Options) {
					o.Limits.Memory = 100 << 10
					o.Timeouts.RequestBody = 50 * time.Millisecond
				})
				r.arrivals(t, true)
				must(t, r.p.view.Load().memory.sem.Acquire(t.Context(), 60<<10)) // what others have
				body := io.Reader(strings.NewReader(strings.Repeat("x", tc.size)))
				if tc.chunked {
					body = io.MultiReader(body)
				}
				res, err := r.client(t, h2).Do(post(t, t.Context(), body))
				must(t, err)
				text := readAll(t, res)
				rec := r.records.next(t)
				if res.StatusCode != tc.status || rec.Status != tc.status || rec.Rule != tc.rule || !strings.Contains(text, tc.rule) {
					t.Errorf("%d %q, record %+v", res.StatusCode, text, rec)
				}
				if (res.Header.Get("Retry-After") != "") != (tc.status == 503) {
					t.Errorf("retry after %q", res.Header.Get("Retry-After"))
				}
				if tc.status != 200 && rec.Outcome != telemetry.OutcomeRefused {
					t.Errorf("outcome %s", rec.Outcome)
				}
				r.p.view.Load().memory.sem.Release(60 << 10)
				r.free(t)
			})
		}
	}
}

// A stream that goes on holds nothing of its request.
func TestStreamsHoldNoRequests(t *testing.T) {
	versions(t, func(t *testing.T, callerH2, providerH2 bool) {
		r := newRig(t)
		goOn := make(chan struct{})
		r.provider(t, providerH2, func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			_ = http.NewResponseController(w).Flush()
			<-goOn
		})
		res, err := r.client(t, callerH2).Do(post(t, t.Context(), strings.NewReader(bigBody(1<<20))))
		must(t, err)
		r.free(t) // while the response is under way
		close(goOn)
		readAll(t, res)
	})
}

// However a call ends, its memory is given back.
func TestMemoryIsGivenBack(t *testing.T) {
	for name, tc := range map[string]struct {
		set  func(*rig)
		body io.Reader
	}{
		"refused":      {func(r *rig) { r.gate.decide = func(*gate.Request) bool { return false } }, strings.NewReader(bigBody(100 << 10))},
		"gate panics":  {func(r *rig) { r.gate.decide = func(*gate.Request) bool { panic("boom") } }, strings.NewReader(bigBody(100 << 10))},
		"nobody there": {func(r *rig) { r.at(443, "") }, strings.NewReader(bigBody(100 << 10))},
		"breaks off":   {func(*rig) {}, io.MultiReader(strings.NewReader(bigBody(100<<10)), iotest.ErrReader(errors.New("gone")))},
		"held":         {func(r *rig) { r.gate.mode = policy.ResponseHoldAll }, strings.NewReader(bigBody(100 << 10))},
		"withheld": {func(r *rig) {
			r.gate.mode, r.gate.decideReply = policy.ResponseHoldToolCalls, denyTool("send_mail")
		}, strings.NewReader(bigBody(100 << 10))},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.provider(t, true, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, saying+asking+finishing)
			})
			tc.set(r)
			res, err := r.client(t, true).Do(post(t, t.Context(), tc.body))
			if err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			r.free(t)
		})
	}
}

// A body of 64 MiB is judged and forwarded where the settings say so.
func TestLargeBody(t *testing.T) {
	r := newRig(t)
	r.snap.MaxRequestBytes = 64 << 20
	must(t, r.p.Update(r.snap))
	seen := r.arrivals(t, true)
	body := bytes.Repeat([]byte("0123456789abcde\n"), 4<<20)
	for _, in := range []io.Reader{bytes.NewReader(body), io.MultiReader(bytes.NewReader(body))} {
		res, err := r.client(t, true).Do(post(t, t.Context(), in))
		must(t, err)
		readAll(t, res)
		if a := <-seen; res.StatusCode != 200 || !bytes.Equal(a.body, body) {
			t.Errorf("%d, %d bytes", res.StatusCode, len(a.body))
		}
	}
	r.free(t)
}

// A small body is sent with the head of its request, in one write, and may be sent again.
func TestSmallBodiesGoInOneWrite(t *testing.T) {
	for size, one := range map[int]bool{1: true, inOneWrite / 2: true, inOneWrite + 1: false} {
		here, there := net.Pipe()
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return here, nil }}
		p := &payload{bytes: bytes.Repeat([]byte("x"), size), share: share{of: newBudget(1 << 20)}}
		out, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://provider.example/", http.NoBody)
		must(t, err)
		p.attach(out, nil)
		var calls sync.WaitGroup
		calls.Go(func() {
			res, err := transport.RoundTrip(out)
			if err != nil {
				t.Error(err)
				return
			}
			_ = res.Body.Close()
		})
		first := make([]byte, 16<<10) // a pipe hands over one write at most
		n, err := there.Read(first)
		must(t, err)
		if whole := strings.HasSuffix(string(first[:n]), strings.Repeat("x", size)); whole != one {
			t.Errorf("%d bytes in one write: %v", size, whole)
		}
		go func() { _, _ = io.Copy(io.Discard, there) }()
		_, err = io.WriteString(there, "HTTP/1.1 204 No Content\r\n\r\n")
		must(t, err)
		calls.Wait()
		transport.CloseIdleConnections()
		if again, err := out.GetBody(); err != nil {
			t.Error(err)
		} else if b, err := io.ReadAll(again); err != nil || len(b) != size {
			t.Errorf("again: %d bytes of %d, %v", len(b), size, err)
		}
	}
}
