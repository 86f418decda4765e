package controlplane

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/net/netutil"

	"sallyport.dev/sallyport/pkg/xds"
)

// Limits of the bundle service.
const (
	maxStatusBytes      = 1 << 20
	maxWait             = 5 * time.Minute
	headerTimeout       = 10 * time.Second
	requestTimeout      = 30 * time.Second
	idleTimeout         = 2 * time.Minute
	shutdownTimeout     = 5 * time.Second
	maxReportedSidecars = 32_768
	maxMessageRunes     = 512
)

// bundleType tells OPA's downloader that long polling is understood.
const bundleType = "application/vnd.openpolicyagent.bundles"

// PolicyState is what a sidecar last said of its policy.
type PolicyState struct {
	// Revision is the one it runs; empty while it runs none.
	Revision string
	// Error is why it did not take a newer one.
	Error string
	// At is when it said so.
	At time.Time
}

// BundleService serves bundles to OPA's bundle plugin and takes the reports of its status plugin. Which namespace is meant follows from the
// bearer token alone.
type BundleService struct {
	authenticator xds.Authenticator
	bundles       *Bundles
	now           func() time.Time
	changed       func() // a report says something new
	// maxConnections is how many there may be at once. A sidecar has one, which mostly waits.
	maxConnections int

	mu      sync.Mutex
	reports *lru.Cache[string, PolicyState] // by pod uid
}

// NewBundleService returns a service over the bundles. changed is called when a sidecar reports something new; it must not block.
func NewBundleService(a xds.Authenticator, b *Bundles, now func() time.Time, changed func()) (*BundleService, error) {
	reports, err := lru.New[string, PolicyState](maxReportedSidecars)
	if err != nil {
		return nil, err
	}
	return &BundleService{authenticator: a, bundles: b, now: now, changed: changed, reports: reports, maxConnections: defaultMemory.sidecars()}, nil
}

// Policy is what the pod's sidecar last said of its policy.
func (s *BundleService) Policy(podUID string) (PolicyState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reports.Peek(podUID)
}

// Handler answers GET /v1/bundle, and POST /status and below.
func (s *BundleService) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/bundle", s.authenticated(s.bundle))
	mux.HandleFunc("POST /status", s.authenticated(s.status))
	mux.HandleFunc("POST /status/", s.authenticated(s.status))
	return mux
}

// Serve answers over TLS 1.3 until ctx is done.
func (s *BundleService) Serve(ctx context.Context, listener net.Listener, getCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) error {
	// Long polls end with ctx, so that a stop does not wait for them.
	server := &http.Server{
		Handler:           s.Handler(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: getCertificate},
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    32 << 10,
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(netutil.LimitListener(listener, s.maxConnections), "", "") }()
	select {
	case err := <-served:
		return fmt.Errorf("serve bundles: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		_ = server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve bundles: %w", err)
	}
	return nil
}

func (s *BundleService) authenticated(next func(http.ResponseWriter, *http.Request, xds.Identity)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
		if !ok || !strings.EqualFold(scheme, "bearer") {
			refuse(w, http.StatusUnauthorized, "no bearer token")
			return
		}
		id, err := s.authenticator.Authenticate(r.Context(), token)
		switch {
		case errors.Is(err, xds.ErrUnauthenticated):
			refuse(w, http.StatusUnauthorized, "token refused")
		case err != nil:
			refuse(w, http.StatusServiceUnavailable, "token could not be checked")
		case !id.Valid():
			refuse(w, http.StatusUnauthorized, "token names no pod")
		default:
			next(w, r, id)
		}
	}
}

// refuse writes an error, which must not look like a service that knows long polling.
func refuse(w http.ResponseWriter, code int, message string) {
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	http.Error(w, message, code)
}

// bundle answers with the namespace's bundle; where the caller has it already, it waits for another as long as the caller prefers.
func (s *BundleService) bundle(w http.ResponseWriter, r *http.Request, id xds.Identity) {
	wait := preferredWait(r.Header.Values("Prefer"))
	// One who waits must not be cut off, nor one who then reads slowly kept for ever.
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(wait + requestTimeout))
	_ = connection.SetWriteDeadline(time.Now().Add(wait + requestTimeout))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for expired := wait == 0; ; {
		b, changed, err := s.bundles.Get(id.Namespace)
		switch {
		case err != nil:
			refuse(w, http.StatusInternalServerError, "the bundle could not be made")
			return
		case b == nil:
			refuse(w, http.StatusServiceUnavailable, "namespace is not known yet")
			return
		}
		w.Header().Set("Content-Type", bundleType)
		w.Header().Set("ETag", b.ETag)
		w.Header().Set("Cache-Control", "no-store")
		if !matches(r.Header.Values("If-None-Match"), b.ETag) {
			w.Header().Set("Content-Length", strconv.Itoa(len(b.Tarball)))
			_, _ = w.Write(b.Tarball)
			return
		}
		// OPA names the ETag of a bundle that it has activated, and forgets it when an activation fails. So this is a report too, and the one
		// that comes by itself after a restart of this service, which OPA's status plugin knows nothing of.
		s.note(id, PolicyState{Revision: b.Revision})
		if expired {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			expired = true
		case <-r.Context().Done():
			expired = true
		}
	}
}

// preferredWait reads wait=N (seconds) of RFC 7240 out of Prefer headers, with the separators that OPA uses as well as the standard's.
func preferredWait(headers []string) time.Duration {
	for _, header := range headers {
		for _, part := range strings.FieldsFunc(header, func(r rune) bool { return r == ';' || r == ',' }) {
			value, ok := strings.CutPrefix(strings.TrimSpace(part), "wait=")
			if !ok {
				continue
			}
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return 0
			}
			return min(time.Duration(seconds)*time.Second, maxWait)
		}
	}
	return 0
}

// matches says whether an If-None-Match names the ETag.
func matches(headers []string, etag string) bool {
	for _, header := range headers {
		for _, tag := range strings.Split(header, ",") {
			if tag = strings.TrimSpace(tag); tag == etag || tag == "W/"+etag || `"`+tag+`"` == etag {
				return true
			}
		}
	}
	return false
}

// opaStatus is what we read of the document that OPA's status plugin posts.
type opaStatus struct {
	Bundles map[string]*struct {
		ActiveRevision string            `json:"active_revision"`
		Code           string            `json:"code"`
		Message        string            `json:"message"`
		Errors         []json.RawMessage `json:"errors"`
	} `json:"bundles"`
}

// status notes a sidecar's report.
func (s *BundleService) status(w http.ResponseWriter, r *http.Request, id xds.Identity) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxStatusBytes))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "report too large or cut off")
		return
	}
	state, err := parseStatus(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, "not a status report")
		return
	}
	s.note(id, state)
	w.WriteHeader(http.StatusOK)
}

// note keeps what a sidecar runs, and tells when that is news.
func (s *BundleService) note(id xds.Identity, state PolicyState) {
	state.At = s.now()
	s.mu.Lock()
	old, known := s.reports.Get(id.PodUID)
	s.reports.Add(id.PodUID, state)
	s.mu.Unlock()
	if !known || old.Revision != state.Revision || old.Error != state.Error {
		s.changed()
	}
}

// parseStatus reads a report. A sidecar has one bundle; of several, all must run one revision to count as running it.
func parseStatus(body []byte) (PolicyState, error) {
	var report opaStatus
	if err := json.Unmarshal(body, &report); err != nil {
		return PolicyState{}, fmt.Errorf("parse status report: %w", err)
	}
	var state PolicyState
	first := true
	for _, b := range report.Bundles {
		if b == nil {
			continue
		}
		if !first && b.ActiveRevision != state.Revision {
			state.Revision = ""
			continue
		}
		state.Revision, first = b.ActiveRevision, false
		if b.Code != "" || b.Message != "" {
			state.Error = shorten(strings.TrimSpace(b.Message + " " + joinRaw(b.Errors)))
		}
	}
	return state, nil
}

func joinRaw(errs []json.RawMessage) string {
	texts := make([]string, 0, len(errs))
	for _, e := range errs {
		texts = append(texts, string(e))
	}
	return strings.Join(texts, "; ")
}

// shorten keeps what fits into a condition, in whole runes.
func shorten(s string) string {
	s = strings.ToValidUTF8(s, "�")
	if runes := []rune(s); len(runes) > maxMessageRunes {
		return string(runes[:maxMessageRunes]) + " …"
	}
	return s
}
