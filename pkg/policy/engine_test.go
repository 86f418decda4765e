package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// models allows one model and denies another, by a rule that has an id.
func models(allowed, denied string) Source {
	return Source{Name: "models", Modules: map[string]string{"models.rego": `package sallyport.bundle.models

allow if input.call.model == "` + allowed + `"

# METADATA
# labels:
#   rule: M-1
deny contains {"rule": "M-1", "message": "Not this one."} if input.call.model == "` + denied + `"
`}}
}

func call(model string) *Input { return with(func(in *Input) { in.Call.Model = model }) }

func TestEngineLoadsSwapsAndReports(t *testing.T) {
	s, key := newService(t), newKey(t)
	first, err := Assemble([]Source{models("one", "two")}, "")
	if err != nil {
		t.Fatal(err)
	}
	s.serve(sign(t, first, key, 1))
	c := s.config(t, key)
	l := load(t, c)
	l.awaitReady(t)
	if revision, digest := l.Active(); revision != first.Digest || digest != first.Digest {
		t.Errorf("active %s %s, want %s", revision, digest, first.Digest)
	}
	d := l.Decide(t.Context(), call("one"))
	if d.Action != ActionAllow || d.Digest != first.Digest || d.Revision != first.Revision {
		t.Errorf("%+v, want an allow by %s", d, first.Digest)
	}
	d = l.Decide(t.Context(), call("two"))
	if d.Action != ActionDeny || !slices.Equal(d.Rules, []string{"M-1"}) {
		t.Errorf("%+v, want a denial by M-1", d)
	}
	s.reported(t, "the first revision", func(r report) bool {
		return r.Bundles[bundleName].ActiveRevision == first.Revision && r.Bundles[bundleName].Message == "" && r.Labels["pod"] == "triage-0" && r.Labels["id"] == "agents/triage-0"
	})
	if st := l.told(t, "loaded", func(s Status) bool { return s.Revision != "" }); st.Error != "" || !st.IssuedAt.Equal(epoch.Add(time.Second)) || st != l.Status() {
		t.Errorf("%+v", st)
	}

	// The token is read anew, and a change arrives by the long poll.
	if err := os.WriteFile(c.TokenPath, []byte("token-2"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.set(func() { s.token = "token-2" })
	s.serve(signed(t, key, 2, models("two", "one")))
	st := l.told(t, "the second", func(s Status) bool { return s.IssuedAt.Equal(epoch.Add(2 * time.Second)) })
	if st.Revision == first.Revision {
		t.Errorf("%+v", st)
	}
	if d := l.Decide(t.Context(), call("two")); d.Action != ActionAllow || d.Digest != st.Digest {
		t.Errorf("%+v, want an allow by the second", d)
	}
	s.mu.Lock()
	if !s.tokens["Bearer token-1"] || !s.tokens["Bearer token-2"] {
		t.Errorf("tokens seen: %v", slices.Sorted(maps.Keys(s.tokens)))
	}
	s.mu.Unlock()

	l.Close(t.Context())
	if d := l.Decide(t.Context(), call("two")); d.Action != ActionAllow {
		t.Errorf("after Close: %+v", d)
	}
}

// forged is a bundle with a good signature whose content no control plane of ours would sign.
func forged(t *testing.T, key *ecdsa.PrivateKey, n int, change func(files map[string]string)) []byte {
	t.Helper()
	b, err := Assemble([]Source{models("one", "two")}, "")
	if err != nil {
		t.Fatal(err)
	}
	b.files = maps.Clone(b.files)
	change(b.files)
	b.Digest = digest(b.files)
	b.Revision = b.Digest
	return sign(t, b, key, n)
}

// repack rewrites the files of a tarball.
func repack(t *testing.T, raw []byte, change func(files map[string]string)) []byte {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for tape := tar.NewReader(zip); ; {
		h, err := tape.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(tape)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(h.Name, "/")] = string(text)
	}
	change(files)
	out, err := tarball(files)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEngineKeepsTheLastGood(t *testing.T) {
	s, key, stranger := newService(t), newKey(t), newKey(t)
	module := func(text string) func(map[string]string) {
		return func(files map[string]string) { files["bundle/models/models.rego"] = text }
	}
	otherScope := func() []byte {
		b, err := Assemble([]Source{models("one", "two")}, "")
		if err != nil {
			t.Fatal(err)
		}
		raw, err := b.Sign(key, SignOptions{KeyID: KeyID(&key.PublicKey), Scope: "other", IssuedAt: epoch.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	good := signed(t, key, 10, models("one", "two"))
	for _, tc := range []struct {
		name   string
		bundle []byte
		want   string // in the status
	}{
		{"unsigned", repack(t, good, func(f map[string]string) { delete(f, ".signatures.json") }), "missing .signatures.json"},
		{"another's key under our id", func() []byte {
			b, err := Assemble([]Source{models("evil", "two")}, "")
			if err != nil {
				t.Fatal(err)
			}
			raw, err := b.Sign(stranger, SignOptions{KeyID: KeyID(&key.PublicKey), Scope: "agents", IssuedAt: epoch.Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}(), "verify JWT signature"},
		{"another's key", signed(t, stranger, 3600, models("evil", "two")), "verify JWT signature"},
		{"another scope", otherScope(), "scope mismatch"},
		{"tampered module", repack(t, good, module("package sallyport.bundle.models\n\nallow := true\n")), "digest mismatch"},
		{"file added", repack(t, good, func(f map[string]string) {
			f["bundle/models/more.rego"] = "package sallyport.bundle.models\n\nallow := true\n"
		}), "not included in bundle signature"},
		{"rollback", signed(t, key, 9, models("evil", "two")), ErrRollback.Error()},
		{"another of the same time", signed(t, key, 10, models("evil", "two")), ErrRollback.Error()},
		{"compile error", forged(t, key, 20, module("package sallyport.bundle.models\n\nallow if undefined_function(1)\n")), "undefined function"},
		{"strictness", forged(t, key, 20, module("package sallyport.bundle.models\n\nallow if {\n\tx := 1\n\tinput.version == 1\n}\n")), "unused"},
		{"forbidden built-in", forged(t, key, 20, module("package sallyport.bundle.models\n\nallow if http.send({\"url\": \"http://x\", \"method\": \"get\"}).status_code == 200\n")), "undefined function http.send"},
		{"clock", forged(t, key, 20, module("package sallyport.bundle.models\n\nallow if time.now_ns() > 0\n")), "undefined function time.now_ns"},
		{"deny that is no set", forged(t, key, 20, module("package sallyport.bundle.models\n\nallow := true\n\ndeny if input.version == 1\n")), "deny must be a set"},
		{"package of ours", forged(t, key, 20, module("package sallyport\n\npermitted if true\n")), "package must be"},
		{"package elsewhere", forged(t, key, 20, module("package elsewhere\n\nallow := true\n")), "do not permit"},
		{"no entry point", forged(t, key, 20, func(f map[string]string) { delete(f, systemFile) }), "does not define data.sallyport.decision"},
		{"WebAssembly", forged(t, key, 20, func(f map[string]string) { f["policy.wasm"] = "\x00asm\x01\x00\x00\x00" }), "Rego modules and data only"},
		{"a patch", repack(t, good, func(f map[string]string) {
			clear(f)
			f["patch.json"] = `{"data": [{"op": "upsert", "path": "/sallyport/x", "value": 1}]}`
		}), "delta bundles do not support signature"},
		{"garbage", []byte("<html>not a bundle</html>"), "gzip"},
		{"truncated", good[:len(good)/2], "unexpected EOF"},
		{"empty", []byte{}, ""},
		{"bomb", bomb(t), "unpacked"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.serve(good)
			l := load(t, s.config(t, key))
			l.awaitReady(t)
			revision, digest := l.Active()
			l.told(t, "the good one", func(s Status) bool { return s.Revision == revision && s.Error == "" })
			s.serve(tc.bundle)
			st := l.told(t, "the refusal", func(s Status) bool { return s.Error != "" })
			if !strings.Contains(st.Error, tc.want) {
				t.Errorf("status %q, want %q", st.Error, tc.want)
			}
			if r, d := l.Active(); r != revision || d != digest || st.Revision != revision {
				t.Errorf("active %s, want the last good %s", r, revision)
			}
			if d := l.Decide(t.Context(), call("one")); d.Action != ActionAllow || d.Digest != digest {
				t.Errorf("%+v, want an allow by the last good", d)
			}
			if d := l.Decide(t.Context(), call("evil")); d.Action != ActionDeny {
				t.Errorf("%+v", d)
			}
			s.reported(t, "the refusal", func(r report) bool {
				b := r.Bundles[bundleName]
				return b.Message != "" && b.ActiveRevision == revision
			})
			s.serve(signed(t, key, 30, models("two", "one")))
			l.told(t, "recovery", func(s Status) bool { return s.Error == "" && s.Revision != revision })
			if d := l.Decide(t.Context(), call("two")); d.Action != ActionAllow {
				t.Errorf("%+v, want an allow by the next good", d)
			}
		})
	}
}

// bomb is a tarball that unpacks to more than an engine reads.
func bomb(t *testing.T) []byte {
	t.Helper()
	zeros := strings.Repeat("\x00", maxFileBytes-1)
	raw, err := tarball(map[string]string{"a.rego": zeros, "b.rego": zeros, "c.rego": zeros, "d.rego": zeros, "e.rego": zeros})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestEngineRefusesBadManifests(t *testing.T) {
	s, key := newService(t), newKey(t)
	for name, manifest := range map[string]string{
		"no roots":          `{"revision": "r", "metadata": {"issued_at": "2026-01-02T03:04:05.000000000Z", "digest": "d"}}`,
		"wider roots":       `{"revision": "r", "roots": ["sallyport", "x"], "metadata": {"issued_at": "2026-01-02T03:04:05.000000000Z", "digest": "d"}}`,
		"no metadata":       `{"revision": "r", "roots": ["sallyport"]}`,
		"no revision":       `{"roots": ["sallyport"], "metadata": {"issued_at": "2026-01-02T03:04:05.000000000Z", "digest": "d"}}`,
		"no digest":         `{"revision": "r", "roots": ["sallyport"], "metadata": {"issued_at": "2026-01-02T03:04:05.000000000Z"}}`,
		"time as a number":  `{"revision": "r", "roots": ["sallyport"], "metadata": {"issued_at": 1767323045, "digest": "d"}}`,
		"hour of one digit": `{"revision": "r", "roots": ["sallyport"], "metadata": {"issued_at": "2026-01-02T3:04:05.000000000Z", "digest": "d"}}`,
		"time without zone": `{"revision": "r", "roots": ["sallyport"], "metadata": {"issued_at": "2026-01-02 03:04:05", "digest": "d"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			b, err := Assemble([]Source{models("one", "two")}, "")
			if err != nil {
				t.Fatal(err)
			}
			files := maps.Clone(b.files)
			files[".manifest"] = manifest
			raw, err := signFiles(files, key, KeyID(&key.PublicKey), "agents")
			if err != nil {
				t.Fatal(err)
			}
			s.serve(raw)
			l := load(t, s.config(t, key))
			st := l.told(t, "the refusal", func(s Status) bool { return s.Error != "" })
			if !strings.Contains(st.Error, "manifest lacks") && !strings.Contains(st.Error, "roots are not") {
				t.Errorf("status %q", st.Error)
			}
			if d := l.Decide(t.Context(), call("one")); d.Fault != FaultNoPolicy {
				t.Errorf("%+v", d)
			}
		})
	}
}

func TestEngineRestarts(t *testing.T) {
	key := newKey(t)
	persisted := func(c Config) string { return filepath.Join(c.Dir, "bundles", bundleName, "bundle.tar.gz") }
	old := signed(t, key, 5, models("evil", "two"))
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, c Config)
		works  bool
		why    string
	}{
		{"untouched", func(*testing.T, Config) {}, true, ""},
		{"mark lost", func(t *testing.T, c Config) {
			if err := os.Remove(filepath.Join(c.Dir, markFile)); err != nil {
				t.Fatal(err)
			}
		}, true, ""},
		{"unsigned", func(t *testing.T, c Config) {
			raw, err := os.ReadFile(persisted(c))
			if err != nil {
				t.Fatal(err)
			}
			replace(t, persisted(c), repack(t, raw, func(f map[string]string) { delete(f, ".signatures.json") }))
		}, false, ""},
		{"tampered", func(t *testing.T, c Config) {
			raw, err := os.ReadFile(persisted(c))
			if err != nil {
				t.Fatal(err)
			}
			replace(t, persisted(c), repack(t, raw, func(f map[string]string) {
				f["bundle/models/models.rego"] = strings.ReplaceAll(f["bundle/models/models.rego"], "one", "evil")
			}))
		}, false, ""},
		{"older one put in its place", func(t *testing.T, c Config) { replace(t, persisted(c), old) }, false, ""},
		{"garbage", func(t *testing.T, c Config) { replace(t, persisted(c), []byte("x")) }, false, ""},
		{"gone", func(t *testing.T, c Config) {
			if err := os.Remove(persisted(c)); err != nil {
				t.Fatal(err)
			}
		}, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newService(t)
			s.serve(signed(t, key, 10, models("one", "two")))
			c := s.config(t, key)
			first := load(t, c)
			first.awaitReady(t)
			first.told(t, "loaded and kept", func(s Status) bool { return s.Revision != "" && s.Error == "" })
			revision, _ := first.Active()
			first.Close(t.Context())
			s.set(func() { s.status = http.StatusServiceUnavailable })

			tc.change(t, c)
			second := load(t, c)
			if tc.works {
				second.awaitReady(t) // from the disk alone
				if r, _ := second.Active(); r != revision {
					t.Errorf("active %s, want %s", r, revision)
				}
				if d := second.Decide(t.Context(), call("one")); d.Action != ActionAllow {
					t.Errorf("%+v", d)
				}
				if d := second.Decide(t.Context(), call("two")); !slices.Equal(d.Rules, []string{"M-1"}) {
					t.Errorf("%+v: rule ids are lost on the way over the disk", d)
				}
			} else if d := second.Decide(t.Context(), call("one")); d.Fault != FaultNoPolicy || d.Action != ActionDeny {
				t.Errorf("%+v, want no policy", d)
			}
			second.told(t, "the service's absence", func(s Status) bool { return strings.Contains(s.Error, "Service Unavailable") })

			s.serve(signed(t, key, 10, models("one", "two"))) // the service comes back with what it had
			second.told(t, "recovery", func(s Status) bool { return s.Error == "" && s.Revision == revision })
			s.serve(old)
			second.told(t, "rollback", func(s Status) bool { return strings.Contains(s.Error, ErrRollback.Error()) })
			if d := second.Decide(t.Context(), call("evil")); d.Action != ActionDeny {
				t.Errorf("%+v", d)
			}
		})
	}
}

func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestEngineTakesTheSameContentAgain has two replicas of the control plane sign the same bundle at different times.
func TestEngineTakesTheSameContentAgain(t *testing.T) {
	s, key := newService(t), newKey(t)
	c := s.config(t, key)
	s.serve(signed(t, key, 10, models("one", "two")))
	l := load(t, c)
	l.awaitReady(t)
	l.told(t, "the first", func(s Status) bool { return s.Revision != "" })
	s.serve(signed(t, key, 7, models("one", "two")))
	if st := l.told(t, "the second", func(Status) bool { return true }); st.Error != "" || !st.IssuedAt.Equal(epoch.Add(10*time.Second)) {
		t.Errorf("%+v: the same content is refused, or takes the mark back", st)
	}
	s.serve(signed(t, key, 8, models("two", "one")))
	l.told(t, "rollback", func(s Status) bool { return strings.Contains(s.Error, ErrRollback.Error()) })
	l.Close(t.Context())

	s.serve(signed(t, key, 7, models("one", "two")))
	again := load(t, c)
	if st := again.told(t, "after a restart", func(Status) bool { return true }); st.Error != "" || !st.IssuedAt.Equal(epoch.Add(10*time.Second)) {
		t.Errorf("%+v", st)
	}
}

func TestEngineNeverReady(t *testing.T) {
	key := newKey(t)
	for _, tc := range []struct {
		name  string
		serve func(t *testing.T, s *service, c *Config)
		want  string
	}{
		{"no bundle", func(*testing.T, *service, *Config) {}, "Not Found"},
		{"token refused", func(t *testing.T, s *service, c *Config) {
			s.serve(signed(t, key, 1, models("one", "two")))
			replace(t, c.TokenPath, []byte("stolen"))
		}, "Unauthorized"},
		{"no token", func(t *testing.T, s *service, c *Config) { c.TokenPath += ".gone" }, "token"},
		{"empty token", func(t *testing.T, s *service, c *Config) { replace(t, c.TokenPath, []byte("\n")) }, "token"},
		{"redirected", func(t *testing.T, s *service, c *Config) {
			s.set(func() { s.bundle, s.status = []byte{}, http.StatusFound })
		}, "replied with Found"},
		{"server of another root", func(t *testing.T, s *service, c *Config) {
			c.TrustAnchors = otherRoot(t)
		}, "certificate"},
		{"server gone", func(t *testing.T, s *service, c *Config) { s.Server.Close() }, "connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newService(t)
			c := s.config(t, key)
			tc.serve(t, s, &c)
			l := load(t, c)
			for range 2 {
				st := l.told(t, "failure", func(s Status) bool { return s.Error != "" })
				if !strings.Contains(st.Error, tc.want) || st.Revision != "" {
					t.Errorf("%+v, want %q", st, tc.want)
				}
			}
			select {
			case <-l.Ready():
				t.Error("ready without a bundle")
			default:
			}
			for _, in := range []*Input{ordinary(), tunnel()} {
				if d := l.Decide(t.Context(), in); d.Action != ActionDeny || d.Fault != FaultNoPolicy {
					t.Errorf("%+v, want a denial for want of a policy", d)
				}
			}
			if r, d := l.Active(); r != "" || d != "" {
				t.Errorf("active %s %s", r, d)
			}
		})
	}
}

// otherRoot is a certificate that signed nothing here.
func otherRoot(t *testing.T) []byte {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"}, NotBefore: epoch, NotAfter: epoch.AddDate(100, 0, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestEngineRotatesKeys(t *testing.T) {
	s, was, next, stranger := newService(t), newKey(t), newKey(t), newKey(t)
	s.serve(signed(t, was, 1, models("one", "two")))
	l := load(t, s.config(t, was, next))
	l.awaitReady(t)
	s.serve(signed(t, next, 2, models("two", "one")))
	l.told(t, "the next key's", func(s Status) bool { return s.IssuedAt.Equal(epoch.Add(2 * time.Second)) })
	s.serve(signed(t, stranger, 3, models("evil", "one")))
	l.told(t, "the stranger's refusal", func(s Status) bool { return s.Error != "" })
	s.serve(repack(t, signed(t, next, 4, models("evil", "one")), func(f map[string]string) { delete(f, ".signatures.json") }))
	l.told(t, "the refusal for want of a signature", func(s Status) bool { return strings.Contains(s.Error, ".signatures.json") })
	if d := l.Decide(t.Context(), call("two")); d.Action != ActionAllow {
		t.Errorf("%+v", d)
	}
}

func TestNewRefusesABadConfig(t *testing.T) {
	s, key := newService(t), newKey(t)
	for name, change := range map[string]func(c *Config){
		"plain http":    func(c *Config) { c.URL = strings.Replace(c.URL, "https", "http", 1) },
		"no URL":        func(c *Config) { c.URL = "" },
		"no scope":      func(c *Config) { c.Scope = "" },
		"no directory":  func(c *Config) { c.Dir = "" },
		"no keys":       func(c *Config) { c.Keys = nil },
		"a certificate": func(c *Config) { c.Keys = c.TrustAnchors },
		"text in keys":  func(c *Config) { c.Keys = append(c.Keys, "and more"...) },
		"private key":   func(c *Config) { c.Keys = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte{1}}) },
		"no anchors":    func(c *Config) { c.TrustAnchors = []byte("x") },
		"spoilt mark": func(c *Config) {
			if err := os.MkdirAll(c.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			replace(t, filepath.Join(c.Dir, markFile), []byte("{"))
		},
		"mark without a time": func(c *Config) {
			if err := os.MkdirAll(c.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(mark{Digest: "d"})
			if err != nil {
				t.Fatal(err)
			}
			replace(t, filepath.Join(c.Dir, markFile), raw)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.config(t, key)
			change(&c)
			e, err := New(t.Context(), c)
			if err == nil {
				e.Close(t.Context())
				t.Fatal("no error")
			}
		})
	}
}

// TestEngineDecidesWhileItLoads is for the race detector.
func TestEngineDecidesWhileItLoads(t *testing.T) {
	s, key := newService(t), newKey(t)
	s.serve(signed(t, key, 1, models("one", "two")))
	l := load(t, s.config(t, key))
	l.awaitReady(t)
	stop, done := make(chan struct{}), make(chan struct{})
	for range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				d := l.Decide(t.Context(), call("one"))
				if d.Action != ActionAllow || d.Fault != FaultNone {
					t.Errorf("%+v", d)
					return
				}
			}
		}()
	}
	for n := 2; n < 6; n++ {
		s.serve(signed(t, key, n, models("one", strings.Repeat("x", n))))
		l.told(t, "the next", func(s Status) bool { return s.IssuedAt.Equal(epoch.Add(time.Duration(n) * time.Second)) })
	}
	close(stop)
	<-done
	<-done
}
