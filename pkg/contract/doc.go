// Package contract holds the names that the webhook, the control plane and the sidecar agree on: labels, annotations, ports, environment
// variables and paths.
//
// It imports nothing, so that the sidecar, which must stay small, need not link the Kubernetes API types. Everybody else
// may use the same names through pkg/api/v1alpha1.
package contract
