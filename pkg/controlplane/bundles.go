package controlplane

import (
	"cmp"
	"crypto/ecdsa"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"sallyport.dev/sallyport/pkg/policy"
)

// maxAssembled is how many different bundles are kept. Namespaces that the same sources select share one.
const maxAssembled = 256

// Bundles makes each namespace's bundle from the sources that select it. A bundle is assembled and signed when it is first asked for.
type Bundles struct {
	key   *ecdsa.PrivateKey
	keyID string
	issue func() time.Time

	mu         sync.Mutex
	namespaces map[string]*namespaceBundle
	// assembled are bundles by the digests of their sources, and revisions what sources a revision is made of; both are bounded.
	assembled *lru.Cache[string, *policy.Bundle]
	revisions *lru.Cache[string, map[string]string]
}

// namespaceBundle is what one namespace is served.
type namespaceBundle struct {
	sources []policy.Source
	key     string        // of the sources
	changed chan struct{} // closed when the sources change
	signed  *SignedBundle
}

// SignedBundle is a bundle as it is served.
type SignedBundle struct {
	Tarball  []byte
	Revision string
	// ETag is quoted, as HTTP has it. It follows from the content, so that a restart makes nobody load again what he has.
	ETag string
}

// NewBundles returns an empty store. issue gives the time of issue, which never goes back.
func NewBundles(key *ecdsa.PrivateKey, issue func() time.Time) (*Bundles, error) {
	id := ""
	if key != nil {
		id = policy.KeyID(&key.PublicKey)
	}
	if id == "" {
		return nil, fmt.Errorf("bundle signing key is not ECDSA P-256")
	}
	assembled, err := lru.New[string, *policy.Bundle](maxAssembled)
	if err != nil {
		return nil, err
	}
	revisions, err := lru.New[string, map[string]string](4 * maxAssembled)
	if err != nil {
		return nil, err
	}
	return &Bundles{key: key, keyID: id, issue: issue, namespaces: map[string]*namespaceBundle{}, assembled: assembled, revisions: revisions}, nil
}

// SetNamespace says which sources judge the namespace's calls. If they have changed, whoever waits for that is woken.
func (b *Bundles) SetNamespace(namespace string, sources []policy.Source) {
	sources = slices.SortedFunc(slices.Values(sources), func(a, c policy.Source) int { return cmp.Compare(a.Name, c.Name) })
	key := sourcesKey(sources)
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.namespaces[namespace]
	if old != nil && old.key == key {
		return
	}
	b.namespaces[namespace] = &namespaceBundle{sources: sources, key: key, changed: make(chan struct{})}
	if old != nil {
		close(old.changed)
	}
}

// DeleteNamespace forgets a namespace.
func (b *Bundles) DeleteNamespace(namespace string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.namespaces[namespace]; old != nil {
		delete(b.namespaces, namespace)
		close(old.changed)
	}
}

// Get returns the namespace's bundle and a channel that is closed when another takes its place. It is nil for a namespace that is not
// known.
func (b *Bundles) Get(namespace string) (*SignedBundle, <-chan struct{}, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.namespaces[namespace]
	if n == nil {
		return nil, nil, nil
	}
	if n.signed == nil {
		signed, err := b.sign(namespace, n)
		if err != nil {
			return nil, nil, fmt.Errorf("bundle of namespace %s: %w", namespace, err)
		}
		n.signed = signed
	}
	return n.signed, n.changed, nil
}

// sign assembles and signs. The lock is held by the caller: a bundle is made once however many ask for it.
func (b *Bundles) sign(namespace string, n *namespaceBundle) (*SignedBundle, error) {
	bundle, ok := b.assembled.Get(n.key)
	if !ok {
		var err error
		if bundle, err = policy.Assemble(n.sources, ""); err != nil {
			return nil, err
		}
		b.assembled.Add(n.key, bundle)
	}
	tarball, err := bundle.Sign(b.key, policy.SignOptions{KeyID: b.keyID, Scope: namespace, IssuedAt: b.issue()})
	if err != nil {
		return nil, err
	}
	digests := make(map[string]string, len(n.sources))
	for _, s := range n.sources {
		digests[s.Name] = policy.SourceDigest(s)
	}
	b.revisions.Add(bundle.Revision, digests)
	return &SignedBundle{Tarball: tarball, Revision: bundle.Revision, ETag: `"` + bundle.Digest + "." + b.keyID + `"`}, nil
}

// Selects says whether the source is in the namespace's bundle.
func (b *Bundles) Selects(namespace, source string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.namespaces[namespace]
	return n != nil && slices.ContainsFunc(n.sources, func(s policy.Source) bool { return s.Name == source })
}

// SourceIn is the digest of a source in a revision; "" where the revision has none, or is not known.
func (b *Bundles) SourceIn(revision, source string) string {
	digests, _ := b.revisions.Get(revision)
	return digests[source]
}

func sourcesKey(sources []policy.Source) string {
	var key strings.Builder
	for _, s := range sources {
		key.WriteString(s.Name + "=" + policy.SourceDigest(s) + ";")
	}
	return key.String()
}
