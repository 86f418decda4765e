package xdsserver

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"sallyport.dev/sallyport/pkg/xds"
)

type identityKey struct{}

// identityFrom is the identity that authenticate put in the context.
func identityFrom(ctx context.Context) (xds.Identity, error) {
	id, ok := ctx.Value(identityKey{}).(xds.Identity)
	if !ok || !id.Valid() {
		return xds.Identity{}, status.Error(codes.Unauthenticated, "no identity")
	}
	return id, nil
}

// authenticate returns ctx with the identity of the token in its metadata. What went wrong is not told to a caller who could not prove
// who it is.
func authenticate(ctx context.Context, a xds.Authenticator) (context.Context, error) {
	token, ok := bearer(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no bearer token")
	}
	id, err := a.Authenticate(ctx, token)
	switch {
	case errors.Is(err, xds.ErrUnauthenticated):
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
