package controlplane

import (
	"context"
	"crypto/rand"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/xds"
)

// Where the secret is from which the workloads' feature salts are derived.
const (
	saltSecret      = "sallyport-feature-salt"
	saltKey         = "secret"
	saltSecretBytes = 32
)

// saltOf makes the salts of workloads from a secret. Without a secret there are none, and nothing is learned of words.
func saltOf(secret []byte) func(xds.Workload) uint64 {
	return func(w xds.Workload) uint64 {
		if len(secret) != saltSecretBytes {
			return 0
		}
		return max(1, features.Salt(secret, w.Namespace, w.Kind, w.Name))
	}
}

// saltSecret reads the secret, or makes it where there is none. Only the leader asks. Somebody else's bytes under its name are not replaced: what was
// learned with the right ones, if they come back, would be lost.
func (p *Plane) saltSecret(ctx context.Context) ([]byte, error) {
	object := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: p.config.Namespace, Name: saltSecret, Labels: map[string]string{managedByLabel: managedBy}}}
	key := client.ObjectKeyFromObject(object)
	err := p.reader.Get(ctx, key, object)
	if apierrors.IsNotFound(err) {
		secret := make([]byte, saltSecretBytes)
		if _, err := rand.Read(secret); err != nil {
			return nil, fmt.Errorf("make Secret %s: %w", saltSecret, err)
		}
		object.Data = map[string][]byte{saltKey: secret}
		if err = p.client.Create(ctx, object); apierrors.IsAlreadyExists(err) {
			err = p.reader.Get(ctx, key, object) // of a leader that is one no longer
		}
	}
	if err != nil {
		return nil, fmt.Errorf("get Secret %s: %w", saltSecret, err)
	}
	if n := len(object.Data[saltKey]); n != saltSecretBytes {
		return nil, unusablef("key %q of Secret %s has %d bytes, not %d: nothing is learned of words until it is deleted, or right, and the controller restarted", saltKey, saltSecret, n, saltSecretBytes)
	}
	return object.Data[saltKey], nil
}
