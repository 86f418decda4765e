package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// root is a certificate authority as cert-manager holds one, good enough to sign requests with.
type root struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newRoot(t testing.TB) *root {
	t.Helper()
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	id, err := keyID(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test root"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: id,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &root{cert, key}
}

func (r *root) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})
}

// sign makes the intermediate that a request asks for: its extensions are copied as cert-manager copies them.
func (r *root) sign(t testing.TB, csrDER []byte, life time.Duration) *x509.Certificate {
	t.Helper()
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keyID(csr.PublicKey.(*ecdsa.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: csr.Subject, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		ExtraExtensions: csr.Extensions, SubjectKeyId: id,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, r.cert, csr.PublicKey, r.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (r *root) authority(t testing.TB, life time.Duration, hosts ...string) *Authority {
	t.Helper()
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := IntermediateRequest(key, "sallyport sidecar agents/agent-1", hosts)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAuthority([]*x509.Certificate{r.sign(t, csr, life)}, key)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestLeafVerifies(t *testing.T) {
	r := newRoot(t)
	m := NewMinter()
	a := r.authority(t, 12*time.Hour, "api.openai.com", "api.anthropic.com")
	m.SetAuthority(a)
	cert, err := m.Leaf(context.Background(), "api.openai.com")
	if err != nil {
		t.Fatal(err)
	}
	if cert.Leaf.NotAfter.After(a.Chain[0].NotAfter) || cert.Leaf.NotBefore.Before(a.Chain[0].NotBefore) {
		t.Errorf("leaf lives from %v to %v, outside its intermediate", cert.Leaf.NotBefore, cert.Leaf.NotAfter)
	}
	if len(cert.Leaf.SubjectKeyId) == 0 || !bytes.Equal(cert.Leaf.AuthorityKeyId, a.Chain[0].SubjectKeyId) {
		t.Errorf("subject key id %x, authority key id %x", cert.Leaf.SubjectKeyId, cert.Leaf.AuthorityKeyId)
	}

	t.Run("go", func(t *testing.T) {
		roots, inter := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(r.cert)
		inter.AddCert(a.Chain[0])
		if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter, DNSName: "api.openai.com"}); err != nil {
			t.Error(err)
		}
	})
	t.Run("handshake", func(t *testing.T) {
		cl, srv := net.Pipe()
		defer cl.Close()
		go func() {
			defer srv.Close()
			_ = tls.Server(srv, &tls.Config{Certificates: []tls.Certificate{*cert}}).Handshake()
		}()
		pool := x509.NewCertPool()
		pool.AddCert(r.cert)
		c := tls.Client(cl, &tls.Config{RootCAs: pool, ServerName: "api.openai.com"})
		if err := c.Handshake(); err != nil {
			t.Error(err)
		}
	})
	t.Run("openssl strict", func(t *testing.T) {
		path, err := exec.LookPath("openssl")
		if err != nil {
			t.Log("no openssl on this machine; Go's verification stands alone")
			return
		}
		dir := t.TempDir()
		file := func(name string, ders ...[]byte) string {
			var b []byte
			for _, d := range ders {
				b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d})...)
			}
			p := filepath.Join(dir, name)
			if err := os.WriteFile(p, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return p
		}
		out, err := exec.Command(path, "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "api.openai.com",
			"-no-CAfile", "-no-CApath", "-CAfile", file("root.pem", r.cert.Raw),
			"-untrusted", file("inter.pem", cert.Certificate[1]), file("leaf.pem", cert.Certificate[0])).CombinedOutput()
		if err != nil {
			t.Errorf("openssl: %v\n%s", err, out)
		}
	})
}

func TestConstraintsHold(t *testing.T) {
	r := newRoot(t)
	a := r.authority(t, time.Hour, "api.openai.com")
	ca := a.Chain[0]
	if !ca.PermittedDNSDomainsCritical || len(ca.ExcludedIPRanges) != 2 || !ca.MaxPathLenZero || ca.MaxPathLen != 0 {
		t.Fatalf("constraints did not survive: %v %v %v", ca.PermittedDNSDomains, ca.ExcludedIPRanges, ca.MaxPathLen)
	}
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(r.cert)
	inter.AddCert(ca)
	for name, tmpl := range map[string]*x509.Certificate{
		"other host":     {DNSNames: []string{"example.com"}},
		"address":        {DNSNames: []string{"api.openai.com"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)}},
		"v6 address":     {DNSNames: []string{"api.openai.com"}, IPAddresses: []net.IP{net.ParseIP("2001:db8::7")}},
		"further CA":     {DNSNames: []string{"api.openai.com"}, IsCA: true, BasicConstraintsValid: true},
		"host and other": {DNSNames: []string{"api.openai.com", "example.com"}},
	} {
		t.Run(name, func(t *testing.T) {
			tmpl.SerialNumber, tmpl.NotBefore, tmpl.NotAfter = big.NewInt(7), ca.NotBefore, ca.NotAfter
			tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			key, err := GenerateKey()
			if err != nil {
				t.Fatal(err)
			}
			if tmpl.IsCA { // a leaf of a further CA is what must fail
				tmpl.KeyUsage = x509.KeyUsageCertSign
			}
			der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, &key.PublicKey, a.Key)
			if err != nil {
				t.Fatal(err)
			}
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if tmpl.IsCA {
				inter.AddCert(c)
				der, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(8), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
					DNSNames: []string{"api.openai.com"}}, c, &key.PublicKey, key)
				if err != nil {
					t.Fatal(err)
				}
				if c, err = x509.ParseCertificate(der); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter}); err == nil {
				t.Error("verified")
			}
		})
	}
}

func TestMinterCache(t *testing.T) {
	r := newRoot(t)
	m := NewMinter()
	ctx := context.Background()
	if _, err := m.Leaf(ctx, "api.openai.com"); !errors.Is(err, ErrNoAuthority) {
		t.Fatalf("without an authority: %v", err)
	}
	m.SetAuthority(r.authority(t, 12*time.Hour, "api.openai.com"))
	first, err := m.Leaf(ctx, "api.openai.com")
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := m.Leaf(ctx, "api.openai.com"); again != first {
		t.Error("a leaf that lasts was minted again")
	}
	if _, err := m.Leaf(ctx, "example.com"); err == nil {
		t.Error("minted for a host outside the constraints")
	}
	for _, h := range []string{"", "10.0.0.1", "API.openai.com", "a..openai.com", "com", "api.openai.com."} {
		if _, err := m.Leaf(ctx, h); err == nil {
			t.Errorf("minted for %q", h)
		}
	}
	m.SetAuthority(r.authority(t, 12*time.Hour, "api.openai.com"))
	next, err := m.Leaf(ctx, "api.openai.com")
	if err != nil {
		t.Fatal(err)
	}
	if next == first {
		t.Error("the leaf of an earlier authority is still handed out")
	}
	base := time.Now()
	m.now = func() time.Time { return base.Add(10 * time.Hour) }
	if late, err := m.Leaf(ctx, "api.openai.com"); err != nil || late == next {
		t.Errorf("a leaf at its end was handed out (%v)", err)
	}
	m.now = func() time.Time { return base.Add(13 * time.Hour) }
	if _, err := m.Leaf(ctx, "api.openai.com"); !errors.Is(err, ErrNoAuthority) {
		t.Errorf("minted from an intermediate that has ended: %v", err)
	}
}

func TestMinterConcurrent(t *testing.T) {
	r := newRoot(t)
	m := NewMinter()
	m.SetAuthority(r.authority(t, time.Hour, "example.com"))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				if _, err := m.Leaf(context.Background(), fmt.Sprintf("h%d.example.com", (i+j)%7)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := m.leaves.Len(); n != 7 {
		t.Errorf("%d leaves kept, want 7", n)
	}
	for i := range maxLeaves + 10 {
		if _, err := m.Leaf(context.Background(), fmt.Sprintf("n%d.example.com", i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := m.leaves.Len(); n != maxLeaves {
		t.Errorf("%d leaves kept, want at most %d", n, maxLeaves)
	}
}

func TestAuthorityRoundTrip(t *testing.T) {
	r := newRoot(t)
	a := r.authority(t, time.Hour, "api.openai.com")
	chain, key, err := a.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseAuthority(append(chain, r.pem()...), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Chain) != 1 || !b.Chain[0].Equal(a.Chain[0]) {
		t.Error("the root was not left off")
	}
	pool, err := Pool(r.pem())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.VerifyRoot(pool, time.Now()); err != nil {
		t.Error(err)
	}
	if err := b.VerifyRoot(pool, time.Now().Add(2*time.Hour)); err == nil {
		t.Error("verified after its end")
	}
	other := newRoot(t)
	otherPool, _ := Pool(other.pem())
	if err := b.VerifyRoot(otherPool, time.Now()); err == nil {
		t.Error("verified against another root")
	}
	_, otherKey, _ := r.authority(t, time.Hour, "api.openai.com").MarshalPEM()
	if _, err := ParseAuthority(chain, otherKey); err == nil {
		t.Error("accepted another's key")
	}
	leaf := NewMinter()
	leaf.SetAuthority(a)
	c, err := leaf.Leaf(context.Background(), "api.openai.com")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewAuthority([]*x509.Certificate{c.Leaf}, leaf.key); err == nil {
		t.Error("a leaf was taken for an authority")
	}
	if d := a.RenewAt().Sub(a.Chain[0].NotBefore); d < 40*time.Minute || d > 41*time.Minute {
		t.Errorf("renewed after %v of an hour and a minute", d)
	}
}

func TestCheckIntermediateRequest(t *testing.T) {
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	const cn = "sallyport sidecar agents/agent-1"
	good, err := IntermediateRequest(key, cn, []string{"api.openai.com"})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificateRequest(good)
	if err != nil {
		t.Fatal(err)
	}
	raw := func(k crypto.Signer, mutate func(*x509.CertificateRequest)) []byte {
		tmpl := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}, ExtraExtensions: append([]pkix.Extension(nil), parsed.Extensions...)}
		mutate(tmpl)
		der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, k)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	ext := func(id asn1.ObjectIdentifier, v any) func(*x509.CertificateRequest) {
		return func(c *x509.CertificateRequest) {
			der, err := asn1.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			for i := range c.ExtraExtensions {
				if c.ExtraExtensions[i].Id.Equal(id) {
					c.ExtraExtensions[i].Value = der
				}
			}
		}
	}
	dns := func(s string) generalSubtree {
		return generalSubtree{asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagDNSName, Bytes: []byte(s)}}
	}
	ip := func(b []byte) generalSubtree {
		return generalSubtree{asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagIPAddress, Bytes: b}}
	}
	noIP := []generalSubtree{ip(everyIP[0]), ip(everyIP[1])}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1

	for name, tc := range map[string]struct {
		csr     []byte
		cn      string
		allowed []string
		want    string // part of the error; "" for none
	}{
		"good":                   {good, cn, []string{"api.openai.com", "api.anthropic.com"}, ""},
		"rebuilt":                {raw(key, func(*x509.CertificateRequest) {}), cn, []string{"api.openai.com"}, ""},
		"not a request":          {[]byte("x"), cn, nil, "check intermediate request"},
		"signature":              {flipped, cn, []string{"api.openai.com"}, "signature"},
		"other pod":              {good, "sallyport sidecar agents/agent-2", []string{"api.openai.com"}, "subject"},
		"host not allowed":       {good, cn, []string{"api.anthropic.com"}, "no host"},
		"nothing allowed":        {good, cn, nil, "no host"},
		"RSA":                    {raw(rsaKey, func(*x509.CertificateRequest) {}), cn, []string{"api.openai.com"}, "P-256"},
		"other curve":            {raw(p384, func(*x509.CertificateRequest) {}), cn, []string{"api.openai.com"}, "P-256"},
		"organisation":           {raw(key, func(c *x509.CertificateRequest) { c.Subject.Organization = []string{"system:masters"} }), cn, []string{"api.openai.com"}, "subject"},
		"alternative name":       {raw(key, func(c *x509.CertificateRequest) { c.DNSNames = []string{"api.openai.com"} }), cn, []string{"api.openai.com"}, "2.5.29.17"},
		"no constraints":         {raw(key, func(c *x509.CertificateRequest) { c.ExtraExtensions = c.ExtraExtensions[:2] }), cn, []string{"api.openai.com"}, "missing"},
		"not critical":           {raw(key, func(c *x509.CertificateRequest) { c.ExtraExtensions[2].Critical = false }), cn, []string{"api.openai.com"}, "not critical"},
		"path length":            {raw(key, ext(oidBasicConstraints, basicConstraints{IsCA: true, MaxPathLen: 1})), cn, []string{"api.openai.com"}, "path length"},
		"no path length":         {raw(key, ext(oidBasicConstraints, basicConstraints{IsCA: true, MaxPathLen: -1})), cn, []string{"api.openai.com"}, "path length"},
		"no CA":                  {raw(key, ext(oidBasicConstraints, basicConstraints{MaxPathLen: 0})), cn, []string{"api.openai.com"}, "CA:TRUE"},
		"key usage":              {raw(key, ext(oidKeyUsage, asn1.BitString{Bytes: []byte{0b1000_0110}, BitLength: 7})), cn, []string{"api.openai.com"}, "keyCertSign"},
		"permits nothing":        {raw(key, ext(oidNameConstraints, nameConstraints{Excluded: noIP})), cn, []string{"api.openai.com"}, "constrains none"},
		"permits everything":     {raw(key, ext(oidNameConstraints, nameConstraints{Permitted: []generalSubtree{dns("")}, Excluded: noIP})), cn, []string{""}, "empty"},
		"permits a top domain":   {raw(key, ext(oidNameConstraints, nameConstraints{Permitted: []generalSubtree{dns("com")}, Excluded: noIP})), cn, []string{"com"}, "top-level"},
		"permits by suffix":      {raw(key, ext(oidNameConstraints, nameConstraints{Permitted: []generalSubtree{dns(".openai.com")}, Excluded: noIP})), cn, []string{"api.openai.com"}, "malformed"},
		"permits a second host":  {raw(key, ext(oidNameConstraints, nameConstraints{Permitted: []generalSubtree{dns("api.openai.com"), dns("example.com")}, Excluded: noIP})), cn, []string{"api.openai.com"}, "no host"},
		"permits addresses":      {raw(key, ext(oidNameConstraints, nameConstraints{Permitted: []generalSubtree{dns("api.openai.com"), ip(everyIP[0])}, Excluded: noIP})), cn, []string{"api.openai.com"}, "no DNS name"},
		"addresses not excluded": {raw(key, ext(oidNameConstraints, nameConstraints{Permitted: []generalSubtree{dns("api.openai.com")}})), cn, []string{"api.openai.com"}, "every IP"},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckIntermediateRequest(tc.csr, tc.cn, tc.allowed)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want one about %q", err, tc.want)
			}
		})
	}
	if _, err := IntermediateRequest(key, cn, nil); err == nil {
		t.Error("made a request without constraints")
	}
}

func FuzzCheckIntermediateRequest(f *testing.F) {
	key, err := GenerateKey()
	if err != nil {
		f.Fatal(err)
	}
	csr, err := IntermediateRequest(key, "cn", []string{"a.example", "b.example"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csr)
	f.Add([]byte{0x30, 0x00})
	f.Fuzz(func(t *testing.T, der []byte) {
		if CheckIntermediateRequest(der, "cn", []string{"a.example"}) == nil {
			t.Error("accepted: no input but one signed for a.example alone may be")
		}
	})
}

func TestWriteTrust(t *testing.T) {
	r := newRoot(t)
	dir := t.TempDir()
	system := filepath.Join(dir, "system.crt")
	other := newRoot(t)
	if err := os.WriteFile(system, bytes.TrimSpace(other.pem()), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "trust")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeTrust(out, r.pem(), []string{filepath.Join(dir, "absent"), system}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]int{rootFile: 1, bundleFile: 2} {
		p := filepath.Join(out, file)
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := parseCertificates(b); err != nil || len(c) != want {
			t.Errorf("%s: %d certificates (%v), want %d", file, len(c), err, want)
		}
		if st, _ := os.Stat(p); st.Mode().Perm() != 0o644 {
			t.Errorf("%s: mode %v", file, st.Mode())
		}
	}
	if err := WriteTrust(out, r.pem()); err != nil {
		t.Errorf("second write: %v", err)
	}
	left, err := os.ReadDir(out)
	if err != nil || len(left) != 3 {
		t.Errorf("%d files left (%v), want 3", len(left), err)
	}
	for name, b := range map[string][]byte{"nothing": nil, "no certificate": []byte("-----BEGIN KEY-----\n-----END KEY-----\n")} {
		if err := WriteTrust(out, b); err == nil {
			t.Errorf("wrote %s", name)
		}
	}
	if err := WriteTrust(filepath.Join(dir, "nowhere"), r.pem()); err == nil {
		t.Error("wrote to a directory that is not there")
	}
}
