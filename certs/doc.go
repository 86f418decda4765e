// Package certs makes and checks the certificates by which an agent trusts its sidecar: a short-lived intermediate that is
// constrained to the hosts of model providers, a leaf for each of those hosts, and the files of roots that the agent reads.
//
// Most readers come for the Minter, which gives the sidecar a certificate for a host:
//
//	m := certs.NewMinter()
//	m.SetAuthority(authority)
//	cert, err := m.Leaf(ctx, "api.openai.com")
//
// The package does not hold a root: the cluster's root is cert-manager's, and an intermediate comes from it by a signing
// request (IntermediateRequest in the sidecar, CheckIntermediateRequest in the control plane). It opens no socket.
package certs
