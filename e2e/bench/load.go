package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// load is what a caller does. It is bounded by For or by Calls.
type load struct {
	Bytes       int // of a request's body
	Connections int
	PerSecond   int // over all connections; 0 means as fast as answers come
	Stream      bool
	Pace        time.Duration // between the events of a stream
	For         time.Duration
	Calls       int
}

// result is what came of it.
type result struct {
	Calls     int
	Errors    int
	LastError string
	PerSecond float64
	P50, P99  time.Duration
	FirstP50  time.Duration // time to the first byte of the body
	GapP50    time.Duration // between two events of a stream
	GapP99    time.Duration
	All       int // calls answered, those of the warm-up too

	// What the benchmark adds of the process under test: CPU time a call, and the most resident memory in MB.
	CPUMicros float64
	RSS       float64
}

// warmUp is not measured.
const warmUp = 500 * time.Millisecond

// body is an ordinary chat call of about n bytes; k varies it.
func body(n int, stream bool, k int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"stream":%v,"model":"gpt-4o-mini","max_tokens":512,"messages":[{"role":"system","content":"You are the support assistant of a small furniture shop. Look things up before you answer."},{"role":"user","content":"Customer %d asks for the state of order %d.`, stream, 1000+k%997, 41000+k%9973)
	const sentence = " The oak table was packed on Monday and handed to the carrier in Lyon; the lamp follows later this week."
	for b.Len()+len(sentence)+4 < n {
		b.WriteString(sentence)
	}
	b.WriteString(`"}]}`)
	return b.Bytes()
}

// loadRole runs a load against an address and prints the result.
func loadRole(ctx context.Context, dir, address string, l load) error {
	if err := pin(loadCore); err != nil {
		return err
	}
	root := "root.crt"
	uid := agentUID
	if address == "direct" {
		// The proxy's own uid is not captured: the way past both.
		root, uid, address = "web.crt", proxyUID, net443(modelHost)
	}
	roots, err := certificate(filepath.Join(dir, root))
	if err != nil {
		return err
	}
	if err := syscall.Setuid(uid); err != nil {
		return err
	}
	config := &tls.Config{RootCAs: roots, ServerName: modelHost, NextProtos: []string{"http/1.1"}}

	end := time.Now().Add(warmUp + l.For)
	measure := time.Now().Add(warmUp)
	if l.Calls > 0 {
		end, measure = time.Now().Add(patience), time.Now()
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()

	var mu sync.Mutex
	var totals, firsts, gaps []time.Duration
	var errs, made, all atomic.Int64
	var wg sync.WaitGroup
	var lastErr atomic.Value
	for c := range l.Connections {
		wg.Go(func() {
			var conn net.Conn
			var reader *bufio.Reader
			defer func() {
				if conn != nil {
					_ = conn.Close()
				}
			}()
			next := time.Now().Add(time.Duration(c) * interval(l) / time.Duration(l.Connections))
			for k := c; ctx.Err() == nil; k += l.Connections {
				if l.Calls > 0 && int(made.Add(1)) > l.Calls {
					return
				}
				begun := time.Now()
				if l.PerSecond > 0 {
					timer := time.NewTimer(time.Until(next))
					select {
					case <-ctx.Done():
						timer.Stop()
						return
					case <-timer.C:
					}
					// Measured from when the call was due, so that a stall counts for all calls it delays.
					begun, next = next, next.Add(interval(l))
				}
				if conn == nil {
					d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: config}
					var err error
					if conn, err = d.DialContext(ctx, "tcp", address); err != nil {
						if ctx.Err() == nil || l.Calls > 0 {
							errs.Add(1)
							lastErr.Store(err.Error())
						}
						conn = nil
						continue
					}
					reader = bufio.NewReaderSize(conn, 64<<10)
				}
				first, between, err := call(conn, reader, body(l.Bytes, l.Stream, k), l)
				if err != nil {
					errs.Add(1)
					lastErr.Store(err.Error())
					_ = conn.Close()
					conn = nil
					continue
				}
				all.Add(1)
				if begun.After(measure) {
					mu.Lock()
					gaps = append(gaps, between...)
					totals = append(totals, time.Since(begun))
					firsts = append(firsts, first.Sub(begun))
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if len(totals) == 0 {
		return fmt.Errorf("no call was answered; %d errors, the last: %v", errs.Load(), lastErr.Load())
	}
	slices.Sort(totals)
	slices.Sort(firsts)
	slices.Sort(gaps)
	at := func(d []time.Duration, q float64) time.Duration {
		if len(d) == 0 {
			return 0
		}
		return d[min(len(d)-1, int(q*float64(len(d))))]
	}
	r := result{
		Calls: len(totals), All: int(all.Load()), Errors: int(errs.Load()), P50: at(totals, .5), P99: at(totals, .99),
		FirstP50: at(firsts, .5), GapP50: at(gaps, .5), GapP99: at(gaps, .99),
	}
	if l.For > 0 {
		r.PerSecond = float64(len(totals)) / l.For.Seconds()
	}
	r.LastError, _ = lastErr.Load().(string)
	return json.NewEncoder(os.Stdout).Encode(r)
}

// interval is the time between two calls of one connection.
func interval(l load) time.Duration {
	if l.PerSecond == 0 {
		return 0
	}
	return time.Second * time.Duration(l.Connections) / time.Duration(l.PerSecond)
}

// authorization is the caller's own, which the gate replaces and the detector knows.
const authorization = "Bearer none"

// paceHeader tells the stand-in how long to wait between the events of a stream.
const paceHeader = "Bench-Pace"

// call makes one call on a kept-alive connection. It returns when the first byte of the response's body came, and the times between the
// events of a stream that has a pace.
func call(conn net.Conn, reader *bufio.Reader, body []byte, l load) (first time.Time, gaps []time.Duration, err error) {
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return first, nil, err
	}
	header := fmt.Sprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nContent-Type: application/json\r\nAuthorization: %s\r\n%s: %s\r\nContent-Length: %d\r\n\r\n",
		modelHost, authorization, paceHeader, l.Pace, len(body))
	if _, err := conn.Write(append([]byte(header), body...)); err != nil {
		return first, nil, err
	}
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		return first, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var one [1]byte
	n, err := resp.Body.Read(one[:])
	first = time.Now()
	if err != nil && n == 0 {
		return first, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		rest, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return first, nil, fmt.Errorf("status %d: %s", resp.StatusCode, strings.TrimSpace(string(one[:n])+string(rest)))
	}
	if l.Pace == 0 {
		_, err = io.Copy(io.Discard, resp.Body)
		return first, nil, err
	}
	lines := bufio.NewScanner(resp.Body)
	last := first
	for events := 0; lines.Scan(); {
		if !bytes.Contains(lines.Bytes(), []byte("ata: ")) { // the first line's first byte is gone
			continue
		}
		now := time.Now()
		if events++; events > 1 {
			gaps = append(gaps, now.Sub(last))
		}
		last = now
	}
	return first, gaps, lines.Err()
}
