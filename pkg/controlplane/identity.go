package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/xds"
)

// Bounds of what is remembered of tokens. A refused token is remembered so that it cannot be used to keep the API server busy.
const (
	maxTokens        = 32_768
	maxTokenBytes    = 16 << 10
	acceptedFor      = time.Minute
	refusedFor       = 10 * time.Second
	maxOwners        = 8_192
	ownerFor         = 10 * time.Minute
	reviewTimeout    = 10 * time.Second
	maxReviewsAtOnce = 64
)

// Keys of a TokenReview's extra under which the API server names the pod that a token is bound to.
const (
	extraPodName = "authentication.kubernetes.io/pod-name"
	extraPodUID  = "authentication.kubernetes.io/pod-uid"
)

// Reviewer says who a sidecar is: the API server reviews its token for our audience, the token must be bound to a pod, the pod must exist with that
// uid, and the workload is its owner. It implements xds.Authenticator.
type Reviewer struct {
	client client.Writer
	reader client.Reader
	now    func() time.Time
	slots  chan struct{}

	tokens *lru.Cache[[sha256.Size]byte, verdict]
	owners *lru.Cache[types.UID, ownerEntry]
}

// verdict is what is remembered of a token.
type verdict struct {
	identity xds.Identity
	err      error
	until    time.Time
}

type ownerEntry struct {
	kind, name string
	until      time.Time
}

// NewReviewer returns a Reviewer. The reader must not be a cache: pods are read one by one.
func NewReviewer(writer client.Writer, reader client.Reader, now func() time.Time) (*Reviewer, error) {
	tokens, err := lru.New[[sha256.Size]byte, verdict](maxTokens)
	if err != nil {
		return nil, err
	}
	owners, err := lru.New[types.UID, ownerEntry](maxOwners)
	if err != nil {
		return nil, err
	}
	return &Reviewer{client: writer, reader: reader, now: now, slots: make(chan struct{}, maxReviewsAtOnce), tokens: tokens, owners: owners}, nil
}

// Authenticate says who holds the token. An answer is remembered for a minute at most and never beyond the token's own end.
func (r *Reviewer) Authenticate(ctx context.Context, token string) (xds.Identity, error) {
	if token == "" || len(token) > maxTokenBytes {
		return xds.Identity{}, xds.ErrUnauthenticated
	}
	key := sha256.Sum256([]byte(token))
	now := r.now()
	if v, ok := r.tokens.Get(key); ok && now.Before(v.until) {
		return v.identity, v.err
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return xds.Identity{}, fmt.Errorf("review token: %w", ctx.Err())
	}
	id, err := r.review(ctx, token)
	switch {
	case err == nil:
		until := now.Add(acceptedFor)
		if end, ok := expiry(token); ok && end.Before(until) {
			until = end
		}
		r.tokens.Add(key, verdict{identity: id, until: until})
	case errors.Is(err, xds.ErrUnauthenticated):
		r.tokens.Add(key, verdict{err: err, until: now.Add(refusedFor)})
	}
	return id, err
}

func (r *Reviewer) review(ctx context.Context, token string) (xds.Identity, error) {
	review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{v1alpha1.TokenAudience}}}
	if err := r.client.Create(ctx, review); err != nil {
		return xds.Identity{}, fmt.Errorf("review token: %w", err)
	}
	status := review.Status
	if !status.Authenticated {
		return xds.Identity{}, fmt.Errorf("%w: token is not valid", xds.ErrUnauthenticated)
	}
	// An API server that knows no audiences would accept any token; it then leaves this empty.
	if len(status.Audiences) != 1 || status.Audiences[0] != v1alpha1.TokenAudience {
		return xds.Identity{}, fmt.Errorf("%w: token is not for us", xds.ErrUnauthenticated)
	}
	namespace, account, ok := serviceAccount(status.User.Username)
	if !ok {
		return xds.Identity{}, fmt.Errorf("%w: %q is no service account", xds.ErrUnauthenticated, status.User.Username)
	}
	names, uids := status.User.Extra[extraPodName], status.User.Extra[extraPodUID]
	if len(names) != 1 || len(uids) != 1 {
		return xds.Identity{}, fmt.Errorf("%w: token is not bound to a pod", xds.ErrUnauthenticated)
	}
	pod := metadataOf(schema.GroupVersionKind{Version: "v1", Kind: "Pod"})
	err := r.reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: names[0]}, pod)
	switch {
	case apierrors.IsNotFound(err):
		return xds.Identity{}, fmt.Errorf("%w: its pod is gone", xds.ErrUnauthenticated)
	case err != nil:
		return xds.Identity{}, fmt.Errorf("read the pod of a token: %w", err)
	case string(pod.UID) != uids[0]:
		return xds.Identity{}, fmt.Errorf("%w: its pod was replaced", xds.ErrUnauthenticated)
	}
	kind, name, err := r.owner(ctx, pod)
	if err != nil {
		return xds.Identity{}, err
	}
	return xds.Identity{Namespace: namespace, ServiceAccount: account, Pod: pod.Name, PodUID: string(pod.UID), Kind: kind, Name: name}, nil
}

// middle are the kinds that stand between a workload and its pods.
var middle = map[schema.GroupKind]bool{
	{Group: "apps", Kind: "ReplicaSet"}: true,
	{Group: "batch", Kind: "Job"}:       true,
}

// owner resolves a pod to its workload: the controller of its ReplicaSet or Job, else its own controller, else the pod itself.
func (r *Reviewer) owner(ctx context.Context, pod *metav1.PartialObjectMetadata) (kind, name string, err error) {
	ref := metav1.GetControllerOf(pod)
	if ref == nil {
		return "Pod", pod.Name, nil
	}
	group, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", "", fmt.Errorf("owner of pod %s: %w", pod.Name, err)
	}
	if !middle[schema.GroupKind{Group: group.Group, Kind: ref.Kind}] {
		return ref.Kind, ref.Name, nil
	}
	if e, ok := r.owners.Get(ref.UID); ok && r.now().Before(e.until) {
		return e.kind, e.name, nil
	}
	object := metadataOf(group.WithKind(ref.Kind))
	// An owner that is gone is about to take the pod with it, or will be taken out of its references: ask again later.
	if err := r.reader.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: ref.Name}, object); err != nil {
		return "", "", fmt.Errorf("read %s of pod %s: %w", ref.Kind, pod.Name, err)
	}
	if object.UID != ref.UID {
		return "", "", fmt.Errorf("%s of pod %s was replaced", ref.Kind, pod.Name)
	}
	kind, name = ref.Kind, ref.Name
	if above := metav1.GetControllerOf(object); above != nil {
		kind, name = above.Kind, above.Name
	}
	r.owners.Add(ref.UID, ownerEntry{kind: kind, name: name, until: r.now().Add(ownerFor)})
	return kind, name, nil
}

func metadataOf(gvk schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(gvk)
	return m
}

// serviceAccount reads system:serviceaccount:<namespace>:<name>.
func serviceAccount(username string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(username, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}

// expiry is the end of a token that the API server has already accepted, as the token says.
func expiry(token string) (time.Time, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, false
	}
	var claims struct {
		Expires int64 `json:"exp"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.Expires <= 0 {
		return time.Time{}, false
	}
	return time.Unix(claims.Expires, 0), true
}

var _ xds.Authenticator = (*Reviewer)(nil)

// limiter lets each key act a few times in a while.
type limiter struct {
	mu    sync.Mutex
	most  int
	every time.Duration
	now   func() time.Time
	seen  *lru.Cache[string, []time.Time]
}

func newLimiter(keys, most int, every time.Duration, now func() time.Time) (*limiter, error) {
	seen, err := lru.New[string, []time.Time](keys)
	if err != nil {
		return nil, err
	}
	return &limiter{most: most, every: every, now: now, seen: seen}, nil
}

func (l *limiter) allow(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	times, _ := l.seen.Get(key)
	for len(times) > 0 && now.Sub(times[0]) >= l.every {
		times = times[1:]
	}
	if len(times) >= l.most {
		return false
	}
	l.seen.Add(key, append(times[:len(times):len(times)], now))
	return true
}
