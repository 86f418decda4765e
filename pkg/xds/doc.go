// Package xds is the channel between the control plane and the sidecars for everything that must be quick or aimed:
// providers, mode, kill switch, credentials and detector models go out by delta ADS; decision records come back as
// access-log entries; and a sidecar's intermediate is signed over the same connection.
//
// What a sidecar gets follows from who it is, never from what it says of itself: an Authenticator turns the bearer
// token of each call into an Identity, and the server writes that over the node that the client named. A stream without
// an identity is not served at all.
//
// Policy does not travel here: Rego goes out in signed bundles over HTTPS, see pkg/policy.
//
// This package holds what both halves must agree on: names of types, identities, bounds. Package xdsserver is the control plane's half and
// package xdsclient the sidecar's, which links no more of go-control-plane than the messages. Nothing here imports client-go.
package xds
