package policy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// service is a bundle service over TLS, with ETags, long polling and status reports.
type service struct {
	*httptest.Server
	mu      sync.Mutex
	token   string
	bundle  []byte
	etag    int
	status  int           // what GET answers where it is not 0
	changed chan struct{} // closed when any of the above changes
	tokens  map[string]bool
	reports chan report
}

// report is what the tests read of OPA's status report.
type report struct {
	Labels  map[string]string `json:"labels"`
	Bundles map[string]struct {
		ActiveRevision string `json:"active_revision"`
		Code           string `json:"code"`
		Message        string `json:"message"`
		Errors         []any  `json:"errors"`
	} `json:"bundles"`
}

func newService(t *testing.T) *service {
	s := &service{token: "token-1", changed: make(chan struct{}), tokens: map[string]bool{}, reports: make(chan report, 1000)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+BundlePath, s.get)
	mux.HandleFunc("POST "+StatusPath, s.post)
	s.Server = httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that a test cuts
	s.StartTLS()
	t.Cleanup(s.Server.Close)
	return s
}

// serve replaces the bundle.
func (s *service) serve(bundle []byte) { s.set(func() { s.bundle, s.status = bundle, 0; s.etag++ }) }

func (s *service) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *service) get(w http.ResponseWriter, r *http.Request) {
	wait := time.Duration(0)
	for _, p := range strings.FieldsFunc(r.Header.Get("Prefer"), func(r rune) bool { return r == ';' || r == ',' }) {
		if n, ok := strings.CutPrefix(strings.TrimSpace(p), "wait="); ok {
			seconds, err := strconv.Atoi(n)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			wait = time.Duration(seconds) * time.Second
		}
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		bundle, etag, status, changed := s.bundle, strconv.Quote(strconv.Itoa(s.etag)), s.status, s.changed
		bearer := r.Header.Get("Authorization")
		s.tokens[bearer] = true
		authorized := bearer == "Bearer "+s.token
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/vnd.openpolicyagent.bundles")
		switch {
		case !authorized:
			w.WriteHeader(http.StatusUnauthorized)
			return
		case status != 0:
			if status == http.StatusFound {
				w.Header().Set("Location", "/elsewhere")
			}
			w.WriteHeader(status)
			return
		case bundle == nil:
			w.WriteHeader(http.StatusNotFound)
			return
		case r.Header.Get("If-None-Match") != etag:
			w.Header().Set("ETag", etag)
			w.Write(bundle)
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			w.Header().Set("ETag", etag)
			w.WriteHeader(http.StatusNotModified)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (s *service) post(w http.ResponseWriter, r *http.Request) {
	var rep report
	if err := json.NewDecoder(r.Body).Decode(&rep); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	select {
	case s.reports <- rep:
	default: // a test that reads no reports
	}
}

// reported waits for a report that satisfies ok.
func (s *service) reported(t *testing.T, what string, ok func(report) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case r := <-s.reports:
			if ok(r) {
				return
			}
		case <-deadline:
			t.Fatalf("no report: %s", what)
		}
	}
}

// loader is an engine under test with the statuses it told.
type loader struct {
	*Engine
	statuses chan Status
}

// config is for the service and key, with a directory of its own and times that suit a test.
func (s *service) config(t *testing.T, keys ...*ecdsa.PrivateKey) Config {
	t.Helper()
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("token-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var public []byte
	for _, k := range keys {
		public = append(public, publicPEM(t, k)...)
	}
	return Config{
		URL: s.URL, TokenPath: token, Keys: public, Scope: "agents", Dir: filepath.Join(dir, "state"), ID: "agents/triage-0",
		Labels:       map[string]string{"pod": "triage-0"},
		TrustAnchors: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
		Timeout:      2 * time.Second, LongPoll: time.Second, MaxRetry: time.Second,
	}
}

func load(t *testing.T, c Config) *loader {
	t.Helper()
	l := &loader{statuses: make(chan Status, 1000)}
	c.OnStatus = func(s Status) {
		select {
		case l.statuses <- s:
		default:
		}
	}
	e, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	l.Engine = e
	t.Cleanup(func() { e.Close(t.Context()) })
	return l
}

// told waits for a status that satisfies ok.
func (l *loader) told(t *testing.T, what string, ok func(Status) bool) Status {
	t.Helper()
	deadline := time.After(patience)
	var last Status
	for {
		select {
		case last = <-l.statuses:
			if ok(last) {
				return last
			}
		case <-deadline:
			t.Fatalf("no status: %s; last %+v", what, last)
		}
	}
}

func (l *loader) awaitReady(t *testing.T) {
	t.Helper()
	select {
	case <-l.Ready():
	case <-time.After(patience):
		t.Fatalf("never ready: %+v", l.Status())
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func publicPEM(t testing.TB, k *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// epoch is when the first bundle of a test was issued; the nth was issued n seconds later.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)

func signed(t testing.TB, key *ecdsa.PrivateKey, n int, sources ...Source) []byte {
	t.Helper()
	b, err := Assemble(sources, "")
	if err != nil {
		t.Fatal(err)
	}
	return sign(t, b, key, n)
}

func sign(t testing.TB, b *Bundle, key *ecdsa.PrivateKey, n int) []byte {
	t.Helper()
	raw, err := b.Sign(key, SignOptions{KeyID: KeyID(&key.PublicKey), Scope: "agents", IssuedAt: epoch.Add(time.Duration(n) * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
