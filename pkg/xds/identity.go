package xds

import (
	"context"
	"errors"
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
