package policy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/keys"
)

func TestAssembleAndSignAreDeterministic(t *testing.T) {
	key := newKey(t)
	one, two := models("one", "two"), Source{Name: "all-of-it", Modules: map[string]string{
		"z.rego": "package sallyport.bundle.all_of_it\n\nallow := true\n", "a.rego": "package sallyport.bundle.all_of_it.lib\n\nx := 1\n",
	}}
	a, err := Assemble([]Source{one, two}, "")
	if err != nil {
		t.Fatal(err)
	}
	b, err := Assemble([]Source{two, one}, "")
	if err != nil {
		t.Fatal(err)
	}
	if a.Digest != b.Digest || a.Revision != a.Digest || !bytes.Equal(sign(t, a, key, 1), sign(t, b, key, 1)) {
		t.Error("the order of the sources shows")
	}
	if bytes.Equal(sign(t, a, key, 1), sign(t, a, key, 2)) {
		t.Error("the time of issue is not in the bytes")
	}
	named, err := Assemble([]Source{one, two}, "v7")
	if err != nil {
		t.Fatal(err)
	}
	if named.Digest != a.Digest || named.Revision != "v7" {
		t.Errorf("revision %s, digest %s", named.Revision, named.Digest)
	}
	withTest := Source{Name: one.Name, Modules: maps.Clone(one.Modules)}
	withTest.Modules["models_test.rego"] = "package sallyport.bundle.models_test\n\ntest_x if true\n"
	c, err := Assemble([]Source{withTest, two}, "")
	if err != nil {
		t.Fatal(err)
	}
	if c.Digest != a.Digest || SourceDigest(withTest) != SourceDigest(one) {
		t.Error("a test changes the digest")
	}
	changed, err := Assemble([]Source{models("one", "three"), two}, "")
	if err != nil {
		t.Fatal(err)
	}
	if changed.Digest == a.Digest {
		t.Error("a rule does not change the digest")
	}
	if digest(map[string]string{"a": "bc"}) == digest(map[string]string{"ab": "c"}) {
		t.Error("names and contents run into each other in the digest")
	}
}

// TestSignedBundleReadsBack reads what Sign wrote with OPA's own reader and verifier.
func TestSignedBundleReadsBack(t *testing.T) {
	key := newKey(t)
	b, err := Assemble([]Source{models("one", "two")}, "")
	if err != nil {
		t.Fatal(err)
	}
	id := KeyID(&key.PublicKey)
	config := bundle.NewVerificationConfig(map[string]*keys.Config{id: {Key: string(publicPEM(t, key)), Algorithm: "ES256"}}, id, "agents", nil)
	got, err := bundle.NewReader(bytes.NewReader(sign(t, b, key, 1))).WithBundleVerificationConfig(config).WithLazyLoadingMode(false).Read()
	if err != nil {
		t.Fatal(err)
	}
	if got.Manifest.Revision != b.Digest || !slices.Equal(*got.Manifest.Roots, []string{"sallyport"}) ||
		got.Manifest.Metadata["issued_at"] != "2026-01-02T03:04:06.000000006Z" || got.Manifest.Metadata["digest"] != b.Digest {
		t.Errorf("%+v", got.Manifest)
	}
	sources := got.Data["sallyport"].(map[string]any)["manifest"].(map[string]any)["sources"].(map[string]any)
	if len(sources) != 1 || sources["models"] != SourceDigest(models("one", "two")) {
		t.Errorf("sources %v", sources)
	}
	if len(got.Modules) != 2 {
		t.Errorf("%d modules", len(got.Modules))
	}
}

func TestAssembleRefuses(t *testing.T) {
	for name, sources := range map[string][]Source{
		"name given twice": {models("a", "b"), models("a", "c")},
		"name with a dot":  {{Name: "a.b", Modules: map[string]string{"a.rego": allowAll}}},
		"path as a name":   {{Name: "all", Modules: map[string]string{"../a.rego": allowAll}}},
		"does not compile": {{Name: "all", Modules: map[string]string{"a.rego": "package sallyport.bundle.all\n\nallow if nothing\n"}}},
		"reads the system": {{Name: "all", Modules: map[string]string{"a.rego": "package sallyport.bundle.all\n\nallow if data.sallyport.decision.action == \"deny\"\n"}}},
		"speaks for another": {
			{Name: "a", Modules: map[string]string{"a.rego": "package sallyport.bundle.a\n\nallow := true\n"}},
			{Name: "b", Modules: map[string]string{"b.rego": "package sallyport.bundle.a\n\nx := 1\n"}},
		},
	} {
		if b, err := Assemble(sources, ""); err == nil {
			t.Errorf("%s: no error, %s", name, b.Digest)
		}
	}
	if b, err := Assemble(nil, ""); err != nil || b.Digest == "" {
		t.Errorf("no sources: %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	b, err := Assemble(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	good := SignOptions{KeyID: "k", Scope: "agents", IssuedAt: epoch}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key     *ecdsa.PrivateKey
		options SignOptions
	}{
		"no key":           {nil, good},
		"another curve":    {p384, good},
		"no key id":        {newKey(t), SignOptions{Scope: "agents", IssuedAt: epoch}},
		"no scope":         {newKey(t), SignOptions{KeyID: "k", IssuedAt: epoch}},
		"no time of issue": {newKey(t), SignOptions{KeyID: "k", Scope: "agents"}},
	} {
		if _, err := b.Sign(tc.key, tc.options); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if KeyID(nil) != "" || KeyID(&p384.PublicKey) != "" {
		t.Error("an id for a key that cannot sign")
	}
}

func TestParsePublicKeys(t *testing.T) {
	one, two := newKey(t), newKey(t)
	both := slices.Concat(publicPEM(t, one), []byte("\n"), publicPEM(t, two))
	got, err := ParsePublicKeys(both)
	if err != nil || len(got) != 2 || !got[KeyID(&one.PublicKey)].Equal(&one.PublicKey) || !got[KeyID(&two.PublicKey)].Equal(&two.PublicKey) {
		t.Errorf("%v, %v", got, err)
	}
	if !strings.HasPrefix(KeyID(&one.PublicKey), "es256-") || KeyID(&one.PublicKey) == KeyID(&two.PublicKey) {
		t.Errorf("key ids %s, %s", KeyID(&one.PublicKey), KeyID(&two.PublicKey))
	}
}

func FuzzParsePublicKeys(f *testing.F) {
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"))
	f.Add([]byte(""))
	f.Add(publicPEM(f, newKey(f)))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := ParsePublicKeys(text)
		if (err == nil) != (len(got) > 0) {
			t.Errorf("%v, %v", got, err)
		}
		for id, k := range got {
			if id == "" || id != KeyID(k) {
				t.Errorf("id %q", id)
			}
		}
	})
}

func TestIssuedAtKeepsItsWidth(t *testing.T) {
	for _, at := range []time.Time{epoch, time.Unix(0, 0), epoch.Truncate(time.Hour).In(time.FixedZone("x", 3600))} {
		if s := at.UTC().Format(issuedAtLayout); len(s) != len(issuedAtLayout) {
			t.Errorf("%s", s)
		}
	}
}
