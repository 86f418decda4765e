// Package proxy is the sidecar's data plane: it accepts captured connections, finds out where they want to go, ends TLS for
// hosts of model providers, has every call judged, and forwards exactly the bytes that were judged.
//
// Most readers come for Proxy.Serve:
//
//	p, err := proxy.New(proxy.Options{Gate: g, Recorder: recorder, Minter: minter, Registerer: registry})
//	err = p.Update(snapshot)
//	err = p.Serve(listener)
//
// Proxy.ServeExplicit takes the same calls from callers that know of a proxy, by HTTPS_PROXY, HTTP_PROXY or a base URL.
//
// A destination has one canonical form (scheme, host, port, path), which the judgement, the dial and the forwarded request
// share. The name comes from the caller (ClientHello or Host, which must agree); the address never does: the proxy resolves the
// name itself, and verifies the provider's certificate for it. What has no name, or one that does not add up, is an unknown destination.
//
// The package does not decide (pkg/gate), capture (proxy/capture) or hold keys (certs), and knows nothing of Kubernetes.
package proxy
