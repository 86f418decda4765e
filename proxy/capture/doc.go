// Package capture leads a pod's outgoing connections to the sidecar: nftables rules in the pod's network namespace, and the
// original destination of a connection that they redirected.
//
// Most readers come for Install, which an init container calls once before any other container starts:
//
//	err := capture.Install(capture.Options{Port: 15001, UID: 2113, Resolvers: resolvers})
//
// and for OriginalDst, which the sidecar asks of every connection it accepts. The package needs CAP_NET_ADMIN for
// Install and nothing for the rest. It captures what leaves the pod, not what comes in, and does not read what it captures.
package capture
