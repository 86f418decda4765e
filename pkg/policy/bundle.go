package policy

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/open-policy-agent/opa/v1/bundle"
)

// Names and values in a bundle's manifest that Assemble writes and an Engine reads.
const (
	bundleRoot     = "sallyport"
	metaIssuedAt   = "issued_at"
	metaDigest     = "digest"
	issuedAtLayout = "2006-01-02T15:04:05.000000000Z" // fixed width, so that order of text is order of time
)

// Bundle is what one namespace's sidecars load: the system rules and the sources that select the namespace.
type Bundle struct {
	// Revision is the bundle's revision: its digest, unless Assemble was given another.
	Revision string
	// Digest is the SHA-256, in hexadecimal, of the bundle's content without revision, scope and time of issue.
	Digest string

	files map[string]string // by path in the tarball
}

// Assemble makes the bundle of the given sources. They must have passed Check; tests are left out. The order of the sources does
// not matter. An empty revision stands for the digest. No sources make a bundle that denies every model call.
func Assemble(sources []Source, revision string) (*Bundle, error) {
	digests := make(map[string]string, len(sources))
	files := map[string]string{systemFile: systemModule}
	for _, s := range sources {
		if _, err := confine(s); err != nil {
			return nil, fmt.Errorf("source %s: %w", s.Name, err)
		}
		if _, ok := digests[s.Name]; ok {
			return nil, fmt.Errorf("source %s is given twice", s.Name)
		}
		digests[s.Name] = SourceDigest(s)
		for file, text := range served(s.Modules) {
			files["bundle/"+s.Name+"/"+file] = text
		}
	}
	data, err := json.Marshal(map[string]any{bundleRoot: map[string]any{"manifest": map[string]any{"sources": digests}}})
	if err != nil {
		return nil, fmt.Errorf("write the bundle's manifest: %w", err)
	}
	files["data.json"] = string(data)

	b := &Bundle{Revision: revision, Digest: digest(files), files: files}
	if b.Revision == "" {
		b.Revision = b.Digest
	}
	modules := maps.Clone(files)
	delete(modules, "data.json")
	if err := compileCheck(modules); err != nil {
		return nil, err
	}
	return b, nil
}

// SignOptions are what a signature says beside the content.
type SignOptions struct {
	// KeyID names the key: KeyID of its public half.
	KeyID string
	// Scope is the namespace that the bundle is for. An Engine of another scope refuses it.
	Scope string
	// IssuedAt orders bundles of a scope: an Engine refuses one that is not newer than the newest it has accepted, unless its content is
	// the same. Whoever signs sees to it that it never goes back, and that it is not far ahead: until that time has come, nothing
	// newer can be signed.
	IssuedAt time.Time
}

// Sign returns the bundle as a gzipped tarball with an ES256 signature. The same bundle, key and options give the same bytes.
func (b *Bundle) Sign(key *ecdsa.PrivateKey, o SignOptions) ([]byte, error) {
	switch {
	case key == nil || key.Curve != elliptic.P256():
		return nil, errors.New("sign bundle: the key is not ECDSA P-256")
	case o.KeyID == "" || o.Scope == "" || o.IssuedAt.IsZero():
		return nil, errors.New("sign bundle: key id, scope and time of issue are required")
	}
	manifest, err := json.Marshal(map[string]any{
		"revision":     b.Revision,
		"roots":        []string{bundleRoot},
		"rego_version": 1,
		"metadata": map[string]any{
			metaIssuedAt: o.IssuedAt.UTC().Format(issuedAtLayout),
			metaDigest:   b.Digest,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	files := maps.Clone(b.files)
	files[".manifest"] = string(manifest)
	return signFiles(files, key, o.KeyID, o.Scope)
}

// signFiles adds the signature over all files and packs them.
func signFiles(files map[string]string, key *ecdsa.PrivateKey, keyID, scope string) ([]byte, error) {
	hasher, err := bundle.NewSignatureHasher(bundle.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	var infos []bundle.FileInfo
	for _, path := range slices.Sorted(maps.Keys(files)) {
		var value any = []byte(files[path])
		if bundle.IsStructuredDoc(path) {
			if err := json.Unmarshal([]byte(files[path]), &value); err != nil {
				return nil, fmt.Errorf("sign bundle: %s: %w", path, err)
			}
		}
		sum, err := hasher.HashFile(value)
		if err != nil {
			return nil, fmt.Errorf("sign bundle: %s: %w", path, err)
		}
		infos = append(infos, bundle.NewFile(path, hex.EncodeToString(sum), string(bundle.SHA256)))
	}
	token, err := signToken(key, keyID, map[string]any{"files": infos, "scope": scope})
	if err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	signatures, err := json.Marshal(bundle.SignaturesConfig{Signatures: []string{token}})
	if err != nil {
		return nil, fmt.Errorf("sign bundle: %w", err)
	}
	files[".signatures.json"] = string(signatures)
	return tarball(files)
}

// signToken is a JSON Web Token in compact form, signed with ES256 as RFC 7518 has it and deterministically as RFC 6979 has it.
func signToken(key *ecdsa.PrivateKey, keyID string, claims map[string]any) (string, error) {
	header, err := json.Marshal(map[string]string{"alg": "ES256", "kid": keyID, "typ": "JWT"})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString(header) + "." + enc.EncodeToString(payload)
	sum := sha256.Sum256([]byte(signed))
	der, err := key.Sign(nil, sum[:], crypto.SHA256)
	if err != nil {
		return "", err
	}
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &pair); err != nil {
		return "", err
	}
	signature := make([]byte, 64)
	pair.R.FillBytes(signature[:32])
	pair.S.FillBytes(signature[32:])
	return signed + "." + enc.EncodeToString(signature), nil
}

// tarball writes files in the order of their names, without times or owners.
func tarball(files map[string]string) ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	tape := tar.NewWriter(zip)
	for _, path := range slices.Sorted(maps.Keys(files)) {
		err := tape.WriteHeader(&tar.Header{Name: "/" + path, Mode: 0o600, Typeflag: tar.TypeReg, Size: int64(len(files[path]))})
		if err != nil {
			return nil, fmt.Errorf("write bundle: %w", err)
		}
		if _, err := tape.Write([]byte(files[path])); err != nil {
			return nil, fmt.Errorf("write bundle: %w", err)
		}
	}
	if err := errors.Join(tape.Close(), zip.Close()); err != nil {
		return nil, fmt.Errorf("write bundle: %w", err)
	}
	return out.Bytes(), nil
}

// KeyID is the id that a signing key goes by: derived from the public key, so that nobody has to hand it around. It is "" for a key
// that is not ECDSA P-256.
func KeyID(pub *ecdsa.PublicKey) string {
	if pub == nil || pub.Curve != elliptic.P256() {
		return ""
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return "es256-" + hex.EncodeToString(sum[:8])
}

// ParsePublicKeys reads one or more PKIX public keys, ECDSA P-256, from PEM. They are returned by KeyID.
func ParsePublicKeys(pemBytes []byte) (map[string]*ecdsa.PublicKey, error) {
	keys := map[string]*ecdsa.PublicKey{}
	for rest := pemBytes; ; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			if len(bytes.TrimSpace(rest)) != 0 {
				return nil, errors.New("bundle keys: text that is no PEM")
			}
			break
		}
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("bundle keys: a PEM block %q, want PUBLIC KEY", block.Type)
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("bundle keys: %w", err)
		}
		pub, ok := parsed.(*ecdsa.PublicKey)
		if !ok || KeyID(pub) == "" {
			return nil, errors.New("bundle keys: a key is not ECDSA P-256")
		}
		keys[KeyID(pub)] = pub
	}
	if len(keys) == 0 {
		return nil, errors.New("bundle keys: no key")
	}
	return keys, nil
}
