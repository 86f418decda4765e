package xds

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Identity is who a sidecar is, as the control plane found out for itself.
type Identity struct {
	Namespace      string
	ServiceAccount string
	Pod            string
	PodUID         string
	// Kind and Name are the workload: the owner of the pod, or the pod itself where nothing owns it.
	Kind string
	Name string
}

// Workload is who calls, whichever of its pods it is.
type Workload struct {
	Namespace string
	Kind      string
	Name      string
}

// Workload is the workload of the identity.
func (i Identity) Workload() Workload {
	return Workload{Namespace: i.Namespace, Kind: i.Kind, Name: i.Name}
}

// Valid says whether the identity names a pod and a workload.
func (i Identity) Valid() bool {
	return i.Namespace != "" && i.Pod != "" && i.PodUID != "" && i.Kind != "" && i.Name != ""
}

// ErrUnauthenticated is wrapped by an Authenticator's error when the token proves nothing. Any other error means that the question could not be
// answered now, and the sidecar may ask again.
var ErrUnauthenticated = errors.New("not authenticated")

// Authenticator turns a bearer token into an identity.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (Identity, error)
}

type identityKey struct{}

// identityFrom is the identity that authenticate put in the context.
func identityFrom(ctx context.Context) (Identity, error) {
	id, ok := ctx.Value(identityKey{}).(Identity)
	if !ok || !id.Valid() {
		return Identity{}, status.Error(codes.Unauthenticated, "no identity")
	}
	return id, nil
}

// authenticate returns ctx with the identity of the token in its metadata. What went wrong is not told to a caller who could not prove
// who it is.
func authenticate(ctx context.Context, a Authenticator) (context.Context, error) {
	token, ok := bearer(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no bearer token")
	}
	id, err := a.Authenticate(ctx, token)
	switch {
	case errors.Is(err, ErrUnauthenticated):
		return nil, status.Error(codes.Unauthenticated, "token refused")
	case err != nil:
		return nil, status.Error(codes.Unavailable, "token could not be checked")
	case !id.Valid():
		return nil, status.Error(codes.Unauthenticated, "token names no pod")
	}
	return context.WithValue(ctx, identityKey{}, id), nil
}

// bearer is the token of the authorization metadata, of which there must be exactly one.
func bearer(ctx context.Context) (string, bool) {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if !ok || !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", false
	}
	return token, true
}
