package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

const (
	// maxLeaves bounds the cache. Name constraints bound the hosts to the providers' and those below, so that only a caller who
	// makes up names comes near it.
	maxLeaves = 256
	// leafLife is how long a leaf is valid, unless its intermediate ends earlier.
	leafLife = 24 * time.Hour
	// clockSkew is how far the clocks of agent and sidecar may differ; they share a node, so that little is enough.
	clockSkew = 5 * time.Minute
)

// ErrNoAuthority is returned while a Minter has no authority, or one that has ended.
var ErrNoAuthority = errors.New("no valid intermediate to mint from")

// Minter makes leaves for hosts and keeps them. It is safe for concurrent use.
type Minter struct {
	authority atomic.Pointer[Authority]
	leaves    *lru.Cache[string, leaf]
	flight    singleflight.Group
	now       func() time.Time

	keyOnce sync.Once
	key     *ecdsa.PrivateKey // all leaves share one: it never leaves the process
	keyErr  error
}

// leaf remembers what minted it, so that a change of authority makes it stale.
type leaf struct {
	cert *tls.Certificate
	by   *Authority
}

// NewMinter returns a Minter without an authority: it mints nothing until SetAuthority.
func NewMinter() *Minter {
	cache, err := lru.New[string, leaf](maxLeaves)
	if err != nil {
		panic(err) // only for a size that is not positive
	}
	return &Minter{leaves: cache, now: time.Now}
}

// SetAuthority replaces the authority. Leaves of an earlier one are minted anew when they are next asked for; connections that
// use them go on undisturbed.
func (m *Minter) SetAuthority(a *Authority) { m.authority.Store(a) }

// Authority returns the authority in force, nil while there is none.
func (m *Minter) Authority() *Authority { return m.authority.Load() }

// Leaf returns a certificate for the host with the chain that an agent needs, minting one where there is none
// that will last. The host is in canonical form: lower case, no trailing dot.
func (m *Minter) Leaf(ctx context.Context, host string) (*tls.Certificate, error) {
	by, now := m.authority.Load(), m.now()
	if by == nil || !now.Before(by.Chain[0].NotAfter) {
		return nil, fmt.Errorf("mint leaf for %q: %w", host, ErrNoAuthority)
	}
	if l, ok := m.leaves.Get(host); ok && l.by == by && fresh(l.cert.Leaf, now) {
		return l.cert, nil
	}
	done := m.flight.DoChan(host, func() (any, error) {
		cert, err := m.mint(by, host, now)
		if err != nil {
			return nil, err
		}
		m.leaves.Add(host, leaf{cert, by})
		return cert, nil
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, fmt.Errorf("mint leaf for %q: %w", host, r.Err)
		}
		return r.Val.(*tls.Certificate), nil //nolint:forcetypeassert // mint returns nothing else
	case <-ctx.Done():
		return nil, fmt.Errorf("mint leaf for %q: %w", host, context.Cause(ctx))
	}
}

// fresh leaves a quarter of a leaf's life for connections that begin with it.
func fresh(c *x509.Certificate, now time.Time) bool {
	return now.Before(c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 4))
}

func (m *Minter) mint(by *Authority, host string, now time.Time) (*tls.Certificate, error) {
	if err := checkDNSName(host); err != nil {
		return nil, err
	}
	if !by.Permits(host) {
		return nil, errors.New("the intermediate's name constraints do not permit it")
	}
	m.keyOnce.Do(func() { m.key, m.keyErr = GenerateKey() })
	if m.keyErr != nil {
		return nil, m.keyErr
	}
	// Positive, 127 bits: no two leaves of an authority share a serial number.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	ca := by.Chain[0]
	notBefore, notAfter := now.Add(-clockSkew), now.Add(leafLife)
	if notBefore.Before(ca.NotBefore) {
		notBefore = ca.NotBefore
	}
	if notAfter.After(ca.NotAfter) {
		notAfter = ca.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		DNSNames:              []string{host},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	// A common name holds 64 characters; without one the alternative names must be critical, which crypto/x509 sees to.
	if len(host) <= 64 {
		template.Subject = pkix.Name{CommonName: host}
	}
	id, err := keyID(&m.key.PublicKey)
	if err != nil {
		return nil, err
	}
	template.SubjectKeyId = id
	// The parent is the parsed intermediate, never a template of it: only that has the subject key id which
	// becomes the leaf's authority key id, and strict clients refuse a leaf without.
	der, err := x509.CreateCertificate(rand.Reader, template, ca, &m.key.PublicKey, by.Key)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	out := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: m.key, Leaf: parsed}
	for _, c := range by.Chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}
