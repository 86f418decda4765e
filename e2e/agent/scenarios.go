package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/openai/openai-go/v3"
)

// result is what came of a scenario.
type result struct {
	Scenario string `json:"scenario"`
	// OK says that the thing tried went through, whether or not it should have.
	OK     bool   `json:"ok"`
	Text   string `json:"text,omitempty"`
	Error  string `json:"error,omitempty"` // as the SDK or the standard library says it
	Status int    `json:"status,omitempty"`
	// DecisionID is the header that a refusal carries.
	DecisionID string `json:"decision_id,omitempty"`
	// Issuer is who signed the certificate that the agent saw.
	Issuer string `json:"issuer,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // of the body sent, where a scenario sends its own
	// Stream says how the events of a stream came: each with the time it was sent and the time it arrived, in Unix nanoseconds.
	Stream []stamped `json:"stream,omitempty"`
	Millis int64     `json:"ms"`
}

type stamped struct {
	Sent    int64 `json:"sent"`
	Arrived int64 `json:"arrived"`
}

// scenarios by name. Arguments are given after the name.
var scenarios = map[string]func(ctx context.Context, args []string) result{
	// task BACKEND [plain|stream] [MODEL]: one of the agent's ordinary tasks.
	"task": func(ctx context.Context, args []string) result {
		o := options{stream: arg(args, 1) == "stream", model: arg(args, 2)}
		return outcome(backendFor(arg(args, 0)).do(ctx, someTask(returnPolicy), o))
	},
	// hijack BACKEND: a task whose first tool result carries an attacker's instructions.
	"hijack": func(ctx context.Context, args []string) result {
		return outcome(backendFor(arg(args, 0)).do(ctx, someTask(careInstructions), options{poison: hijack}))
	},
	// stamps BACKEND N GAP: a stream of N events, GAP apart, each stamped by its sender.
	"stamps": func(ctx context.Context, args []string) result {
		var stamps []stamped
		o := options{stream: true, header: map[string]string{
			"X-Standin-Events": arg(args, 1), "X-Standin-Gap": arg(args, 2), "X-Standin-Stamp": "1",
		}, onText: func(piece string, at time.Time) {
			if sent, err := strconv.ParseInt(strings.TrimSpace(piece), 10, 64); err == nil {
				stamps = append(stamps, stamped{Sent: sent, Arrived: at.UnixNano()})
			}
		}}
		r := outcome(backendFor(arg(args, 0)).do(ctx, someTask(returnPolicy), o))
		r.Stream = stamps
		return r
	},
	// abort BACKEND: leaves in the middle of a stream.
	"abort": func(ctx context.Context, args []string) result {
		ctx, cancel := context.WithCancel(ctx)
		o := options{stream: true, header: map[string]string{"X-Standin-Events": "1000", "X-Standin-Gap": "50ms"},
			onText: func(string, time.Time) { cancel() }}
		return outcome(backendFor(arg(args, 0)).do(ctx, someTask(returnPolicy), o))
	},
	// exact: a body that no library would write, byte for byte.
	"exact": func(ctx context.Context, _ []string) result {
		body := []byte("{ \"stream\" :false,\n\t\"messages\":[ {\"content\":\"caf\\u00e9 \\/ caf\xc3\xa9 <b>&\",\"role\":\"user\"}],\r\n  \"model\": \"" + openAIModel + "\", \"temperature\":1.0e0 }  ")
		r := fetch(ctx, http.MethodPost, "https://api.openai.com/v1/chat/completions", body, nil)
		sum := sha256.Sum256(body)
		r.SHA256 = hex.EncodeToString(sum[:])
		return r
	},
	// post URL BODY: a body as it stands.
	"post": func(ctx context.Context, args []string) result {
		return fetch(ctx, http.MethodPost, arg(args, 0), []byte(arg(args, 1)), nil)
	},
	// get URL [HOST]: a plain request, with another Host header where one is given.
	"get": func(ctx context.Context, args []string) result {
		return fetch(ctx, http.MethodGet, arg(args, 0), nil, func(r *http.Request) {
			if h := arg(args, 1); h != "" {
				r.Host = h
			}
		})
	},
	// hammer URL DURATION: the same request over and over; OK when any went through.
	"hammer": func(ctx context.Context, args []string) result {
		d, err := time.ParseDuration(arg(args, 1))
		if err != nil {
			return result{Error: err.Error()}
		}
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		through, tries := 0, 0
		for ctx.Err() == nil {
			if r := fetch(ctx, http.MethodGet, arg(args, 0), nil, nil); r.OK {
				through++
			}
			tries++
		}
		return result{OK: through > 0, Text: fmt.Sprintf("%d of %d tries went through", through, tries)}
	},
	// tcp ADDRESS: connects, says something that is neither TLS nor HTTP and waits for an answer.
	"tcp": func(ctx context.Context, args []string) result {
		return dial(ctx, "tcp", arg(args, 0))
	},
	// udp ADDRESS: sends one datagram.
	"udp": func(ctx context.Context, args []string) result {
		return dial(ctx, "udp", arg(args, 0))
	},
	// ip ADDRESS: TLS to an address, without a server name and without checking the certificate.
	"ip": func(ctx context.Context, args []string) result {
		return fetch(ctx, http.MethodGet, "https://"+arg(args, 0)+"/", nil, nil)
	},
}

func scenarioNames() string {
	names := make([]string, 0, len(scenarios))
	for n := range scenarios {
		names = append(names, n)
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

func arg(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

func backendFor(name string) backend {
	if name == "anthropic" {
		return newAnthropic()
	}
	return newOpenAI()
}

// outcome says what an SDK surfaced.
func outcome(text string, err error) result {
	r := result{OK: err == nil, Text: text}
	r.DecisionID, _ = lastDecision.Load().(string)
	var oe *openai.Error
	var ae *anthropic.Error
	switch {
	case err == nil:
		r.Status = http.StatusOK
		return r
	case errors.As(err, &oe):
		// This SDK's Error() leaves out what the API said; the error has it.
		r.Status, r.Error = oe.StatusCode, fmt.Sprintf("%s: %s", err, oe.Message)
		return r
	case errors.As(err, &ae):
		r.Status = ae.StatusCode
	}
	r.Error = err.Error()
	return r
}

// fetch sends one request with the standard library.
func fetch(ctx context.Context, method, url string, body []byte, edit func(*http.Request)) result {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return result{Error: err.Error()}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if edit != nil {
		edit(req)
	}
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	if net.ParseIP(strings.Trim(req.URL.Hostname(), "[]")) != nil {
		// An address in a URL is how somebody gets around a name: such a caller does not check names either.
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the point of the attempt
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return result{Error: err.Error()}
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	r := result{OK: err == nil && resp.StatusCode < 400, Status: resp.StatusCode, Text: string(text), DecisionID: resp.Header.Get("Sallyport-Decision-Id")}
	if err != nil {
		r.Error = err.Error()
	}
	if resp.TLS != nil && len(resp.TLS.PeerCertificates) > 0 {
		r.Issuer = resp.TLS.PeerCertificates[0].Issuer.CommonName
	}
	return r
}

// dial sends a few bytes and waits for an answer over TCP; over UDP having sent is all there is to see.
func dial(ctx context.Context, network, address string) result {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
	if err != nil {
		return result{Error: err.Error()}
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprint(conn, "\x00hello\n"); err != nil {
		return result{Error: err.Error()}
	}
	if network == "udp" {
		return result{OK: true, Text: "sent"}
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	if err != nil {
		return result{Error: err.Error()}
	}
	return result{OK: true, Text: string(buf[:n])}
}
