package webhook

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// The rule is Kubernetes' own, so that a rendered pod equals one that the API server has filled in.
func TestPullPolicy(t *testing.T) {
	for image, want := range map[string]corev1.PullPolicy{
		"sallyport-proxy":                           corev1.PullAlways,
		"sallyport-proxy:latest":                    corev1.PullAlways,
		"127.0.0.1:5000/sallyport-proxy":            corev1.PullAlways,
		"127.0.0.1:5000/sallyport-proxy:latest":     corev1.PullAlways,
		"registry.example/sallyport-proxy:v1":       corev1.PullIfNotPresent,
		"registry.example:5000/sallyport-proxy:v1":  corev1.PullIfNotPresent,
		"registry.example/sallyport-proxy@sha256:0": corev1.PullIfNotPresent,
	} {
		if got := (&Config{}).pullPolicy(image); got != want {
			t.Errorf("%s: %s, want %s", image, got, want)
		}
		if got := (&Config{ImagePullPolicy: corev1.PullNever}).pullPolicy(image); got != corev1.PullNever {
			t.Errorf("%s with a policy set: %s", image, got)
		}
	}
}
