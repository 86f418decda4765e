package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

var (
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameConstraints  = asn1.ObjectIdentifier{2, 5, 29, 30}
)

// keyUsageCA is keyCertSign (bit 5) and cRLSign (bit 6) as the bit string of RFC 5280, 4.2.1.3.
var keyUsageCA = asn1.BitString{Bytes: []byte{0b0000_0110}, BitLength: 7}

// basicConstraints is RFC 5280, 4.2.1.9. A path length of zero must be told from an absent one, hence the default.
type basicConstraints struct {
	IsCA       bool `asn1:"optional"`
	MaxPathLen int  `asn1:"optional,default:-1"`
}

// nameConstraints is RFC 5280, 4.2.1.10.
type nameConstraints struct {
	Permitted []generalSubtree `asn1:"optional,tag:0"`
	Excluded  []generalSubtree `asn1:"optional,tag:1"`
}

// generalSubtree has one general name; minimum and maximum are not used on the internet.
type generalSubtree struct {
	Base asn1.RawValue
}

// Tags of the general names that the constraints use.
const (
	tagDNSName   = 2
	tagIPAddress = 7
)

// everyIP are the address ranges that an intermediate excludes. Without them a constraint on DNS names would leave
// certificates for addresses unconstrained.
var everyIP = [][]byte{make([]byte, 2*4), make([]byte, 2*16)}

// GenerateKey makes an ECDSA key on P-256.
func GenerateKey() (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	return key, nil
}

// IntermediateRequest makes a signing request, DER, for an intermediate that may issue leaves for the given DNS names and
// those below them, and for nothing else: it asks for CA:TRUE with path length 0, keyCertSign and cRLSign, and critical name
// constraints that permit the names and exclude every IP address. It needs at least one name, since an
// intermediate without constraints could speak for any host.
func IntermediateRequest(key crypto.Signer, commonName string, permittedDNS []string) ([]byte, error) {
	if len(permittedDNS) == 0 {
		return nil, errors.New("request intermediate: no permitted DNS name")
	}
	if commonName == "" {
		return nil, errors.New("request intermediate: no common name")
	}
	var nc nameConstraints
	for _, name := range slices.Compact(slices.Sorted(slices.Values(permittedDNS))) {
		if err := checkDNSName(name); err != nil {
			return nil, fmt.Errorf("request intermediate: %w", err)
		}
		nc.Permitted = append(nc.Permitted, generalSubtree{asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagDNSName, Bytes: []byte(name)}})
	}
	for _, ip := range everyIP {
		nc.Excluded = append(nc.Excluded, generalSubtree{asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tagIPAddress, Bytes: ip}})
	}
	exts := make([]pkix.Extension, 0, 3)
	for _, e := range []struct {
		id    asn1.ObjectIdentifier
		value any
	}{
		{oidBasicConstraints, basicConstraints{IsCA: true, MaxPathLen: 0}},
		{oidKeyUsage, keyUsageCA},
		{oidNameConstraints, nc},
	} {
		der, err := asn1.Marshal(e.value)
		if err != nil {
			return nil, fmt.Errorf("request intermediate: extension %s: %w", e.id, err)
		}
		exts = append(exts, pkix.Extension{Id: e.id, Critical: true, Value: der})
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:         pkix.Name{CommonName: commonName},
		ExtraExtensions: exts,
	}, key)
	if err != nil {
		return nil, fmt.Errorf("request intermediate: %w", err)
	}
	return der, nil
}

// CheckIntermediateRequest says whether a signing request may be signed for a sidecar: it is one that IntermediateRequest makes,
// signed by its own key (ECDSA on P-256), for exactly the common name wantCN, and permits only names of allowedDNS. Anything
// that is not understood refuses it: further extensions, alternative names, other parts of a subject.
func CheckIntermediateRequest(csrDER []byte, wantCN string, allowedDNS []string) error {
	csr, err := x509.ParseCertificateRequest(csrDER)
	if err != nil {
		return fmt.Errorf("check intermediate request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return fmt.Errorf("check intermediate request: signature: %w", err)
	}
	pub, ok := csr.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return errors.New("check intermediate request: the key is not ECDSA on P-256")
	}
	if len(csr.Subject.Names) != 1 || csr.Subject.CommonName != wantCN {
		return fmt.Errorf("check intermediate request: the subject is %q, want the common name %q alone", csr.Subject.String(), wantCN)
	}
	seen := map[string]bool{}
	for _, ext := range csr.Extensions {
		id := ext.Id.String()
		if seen[id] {
			return fmt.Errorf("check intermediate request: extension %s twice", id)
		}
		seen[id] = true
		if !ext.Critical {
			return fmt.Errorf("check intermediate request: extension %s is not critical", id)
		}
		switch {
		case ext.Id.Equal(oidBasicConstraints):
			err = checkBasicConstraints(ext.Value)
		case ext.Id.Equal(oidKeyUsage):
			err = checkKeyUsage(ext.Value)
		case ext.Id.Equal(oidNameConstraints):
			err = checkNameConstraints(ext.Value, allowedDNS)
		default:
			err = errors.New("not one that an intermediate has")
		}
		if err != nil {
			return fmt.Errorf("check intermediate request: extension %s: %w", id, err)
		}
	}
	for _, id := range []asn1.ObjectIdentifier{oidBasicConstraints, oidKeyUsage, oidNameConstraints} {
		if !seen[id.String()] {
			return fmt.Errorf("check intermediate request: extension %s is missing", id)
		}
	}
	return nil
}

func checkBasicConstraints(der []byte) error {
	var bc basicConstraints
	if err := unmarshal(der, &bc); err != nil {
		return err
	}
	if !bc.IsCA || bc.MaxPathLen != 0 {
		return errors.New("want CA:TRUE with path length 0")
	}
	return nil
}

func checkKeyUsage(der []byte) error {
	var ku asn1.BitString
	if err := unmarshal(der, &ku); err != nil {
		return err
	}
	for bit := range max(ku.BitLength, keyUsageCA.BitLength) {
		if ku.At(bit) != keyUsageCA.At(bit) {
			return errors.New("want keyCertSign and cRLSign alone")
		}
	}
	return nil
}

func checkNameConstraints(der []byte, allowedDNS []string) error {
	var nc nameConstraints
	if err := unmarshal(der, &nc); err != nil {
		return err
	}
	if len(nc.Permitted) == 0 {
		return errors.New("permits no name, and so constrains none")
	}
	for _, s := range nc.Permitted {
		if s.Base.Class != asn1.ClassContextSpecific || s.Base.Tag != tagDNSName {
			return errors.New("permits a name that is no DNS name")
		}
		name := string(s.Base.Bytes)
		if err := checkDNSName(name); err != nil {
			return err
		}
		if !slices.Contains(allowedDNS, name) {
			return fmt.Errorf("permits %q, which is no host of the workload's providers", name)
		}
	}
	excluded := map[string]bool{}
	for _, s := range nc.Excluded {
		if s.Base.Class != asn1.ClassContextSpecific || s.Base.Tag != tagIPAddress {
			return errors.New("excludes a name that is no address")
		}
		excluded[string(s.Base.Bytes)] = true
	}
	for _, ip := range everyIP {
		if !excluded[string(ip)] {
			return errors.New("does not exclude every IP address")
		}
	}
	return nil
}

// unmarshal decodes DER that must hold one value and nothing after it.
func unmarshal(der []byte, v any) error {
	rest, err := asn1.Unmarshal(der, v)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return errors.New("data after the value")
	}
	return nil
}

// checkDNSName accepts an exact name in canonical form: lower case, at least two labels, no leading or trailing dot.
func checkDNSName(name string) error {
	bad := func(why string) error { return fmt.Errorf("DNS name %q: %s", name, why) }
	if name == "" || len(name) > 253 {
		return bad("empty or too long")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return bad("is an address")
	}
	labels := strings.Split(name, ".")
	if len(labels) < 2 {
		return bad("one label alone would permit a whole top-level domain")
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return bad("has a malformed label")
		}
		for i := range len(l) {
			if c := l[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return bad("has a character that a canonical name has not")
			}
		}
	}
	return nil
}
