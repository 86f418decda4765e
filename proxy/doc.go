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
// Bytes of a response go on as they arrive and are read on the side, unless the policy asks for more (policy.ResponseMode). Then the provider is asked not
// to compress, its stream goes on frame by frame as it is judged, and what is no stream, or is compressed all the same, is held whole. A violation ends
// the stream in its own form, or where nothing was sent yet, is an error in the provider's dialect.
//
// A WebSocket is judged as a call, and so is each message of the caller's, before any of its frames goes on; they go on as they were sent,
// under masks of our own. Extensions other than permessage-deflate are not agreed on, and of that the caller may not let one message refer to another: the
// provider never sees those that are refused. WebSockets over HTTP/2 (RFC 8441) are not offered.
//
// Trailers are headers that come later: they are forwarded as those are, those of a request with the body that was judged.
//
// The package does not decide (pkg/gate), capture (proxy/capture) or hold keys (certs), and knows nothing of Kubernetes.
package proxy
