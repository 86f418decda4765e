// Package clients runs real, unmodified model clients through the gate and compares what their users see with what they see without it.
//
// It has no exported names: its test is the matrix client × surface × scenario × way, where the ways are
//
//	direct    no gate; the client has the provider's key and trusts the provider's CA
//	capture   the client's namespace has the capture rules and the gate, as a pod has; the client has a placeholder for a key
//	explicit  the client finds the gate by HTTPS_PROXY or a base URL, and has no other way out
//
// The providers are those of package standin, over TLS and under their own names. What comes through the gate must be, for the provider, byte for
// byte what comes directly, and for the user the same text or the same exception. The programs that drive the clients are in go (a module of its
// own), node and python; they know nothing of the gate. What ran is in matrix.json:
//
//	npm ci --prefix e2e/clients/node --ignore-scripts && go test ./e2e/clients -update
package clients
