// Package policy is the second door: Rego, evaluated in process by OPA.
//
// An Engine holds the active bundle and decides on typed input documents; Decide is the call that most readers came for:
//
//	engine, err := policy.New(ctx, policy.Config{
//		URL: "https://controller:15013", TrustAnchors: roots, TokenPath: token,
//		Keys: bundleKeys, Scope: namespace, Dir: "/var/lib/sallyport/policy",
//	})
//	…
//	decision := engine.Decide(ctx, &input) // never fails; what is no well-formed decision is a denial with a Fault
//
// Everything that is not a well-formed decision (undefined, error, panic, timeout, NaN, no bundle) is a denial.
//
// # What an Engine loads
//
// An Engine is OPA's plugin manager with its bundle and status plugins: long polling with ETags, a signature (ES256) by
// one of the configured keys for the configured scope, the last good bundle kept on disk, and status reports to the service. On top of
// that, a bundle is admitted only if it is newer than any admitted before or the same, holds nothing but package
// sallyport and packages sallyport.bundle.<name>, and compiles strictly without the built-ins that Capabilities leaves
// out. A bundle that is not admitted leaves the one in force as it is, and the status says why.
//
// # How a decision comes about
//
// The package sallyport (SystemModule) is part of every bundle. Its rules SYS-001 to SYS-007 deny what no bundle may allow. After
// them, any element of any bundle's deny refuses. Then a tunnel that the profile names is allowed, and a model call if
// at least one bundle's allow is true. All conditions of a release are positive, so that a field that is missing or null opens
// nothing.
//
// # The control plane's side
//
// Check says whether a source may be served, Assemble makes the bundle of a namespace's sources, and Bundle.Sign signs it.
//
// The package does not know where a call came from or what its text says, keeps no decision log (the decision record is telemetry's),
// and logs nothing. Once New has been called, OPA's bundle activator, which there is one of in a process, is this
// package's; stores other than an Engine's keep OPA's own behaviour.
package policy
