package policy

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/open-policy-agent/opa/v1/plugins/rest"
)

// Bounds on what the bundle service may make an engine read before a signature is checked.
const (
	maxPackedBytes   = 8 << 20
	maxUnpackedBytes = 32 << 20
	maxTokenBytes    = 64 << 10
	requestMargin    = 30 * time.Second // over the long poll, for connecting and reading
)

// credentials is how an engine reaches the bundle service: TLS to the trust anchors alone, a bearer token, no proxy and no
// redirects, everything bounded. OPA's own client would wait forever for a service that accepts a long poll and hangs.
type credentials struct {
	tokenPath string
	client    *http.Client
}

func newCredentials(c Config) (*credentials, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.TrustAnchors) {
		return nil, errors.New("policy: the trust anchors hold no certificate")
	}
	wait := c.LongPoll
	if wait <= 0 {
		wait = DefaultLongPoll
	}
	return &credentials{
		tokenPath: c.TokenPath,
		client: &http.Client{
			Timeout: wait + requestMargin,
			Transport: boundedTransport{&http.Transport{
				// A connection that was begun while nobody answered is not waited for when somebody does again.
				DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
				TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
				TLSHandshakeTimeout: 10 * time.Second,
				IdleConnTimeout:     90 * time.Second,
				ForceAttemptHTTP2:   true,
			}},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// NewClient implements rest.HTTPAuthPlugin.
func (c *credentials) NewClient(rest.Config) (*http.Client, error) { return c.client, nil }

// Prepare implements rest.HTTPAuthPlugin: it adds the token as it is now.
func (c *credentials) Prepare(req *http.Request) error {
	f, err := os.Open(c.tokenPath)
	if err != nil {
		return fmt.Errorf("read the bundle service's token: %w", err)
	}
	defer func() { _ = f.Close() }()
	token, err := io.ReadAll(io.LimitReader(f, maxTokenBytes+1))
	token = bytes.TrimSpace(token)
	if err != nil {
		return fmt.Errorf("read the bundle service's token: %w", err)
	}
	if len(token) == 0 || len(token) > maxTokenBytes {
		return fmt.Errorf("read the bundle service's token: %d bytes", len(token))
	}
	req.Header.Set("Authorization", "Bearer "+string(token))
	return nil
}

// Start implements plugins.Plugin.
func (c *credentials) Start(context.Context) error { return nil }

// Stop implements plugins.Plugin.
func (c *credentials) Stop(context.Context) { c.client.CloseIdleConnections() }

// Reconfigure implements plugins.Plugin.
func (c *credentials) Reconfigure(context.Context, any) {}

// boundedTransport reads a bundle whole and refuses one that is too large, packed or unpacked: OPA unpacks before it verifies.
type boundedTransport struct{ next *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil || req.Method != http.MethodGet || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	defer func() { _ = resp.Body.Close() }()
	packed, err := io.ReadAll(io.LimitReader(resp.Body, maxPackedBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if len(packed) > maxPackedBytes {
		return nil, fmt.Errorf("read bundle: more than %d bytes", maxPackedBytes)
	}
	if zip, err := gzip.NewReader(bytes.NewReader(packed)); err == nil { // what is no gzip is OPA's to refuse
		n, _ := io.Copy(io.Discard, io.LimitReader(zip, maxUnpackedBytes+1))
		if n > maxUnpackedBytes {
			return nil, fmt.Errorf("read bundle: more than %d bytes unpacked", maxUnpackedBytes)
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(packed))
	return resp, nil
}

// CloseIdleConnections lets http.Client close what is idle.
func (t boundedTransport) CloseIdleConnections() { t.next.CloseIdleConnections() }
