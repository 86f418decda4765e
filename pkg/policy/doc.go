// Package policy is the second door: Rego, evaluated in process by OPA.
//
// An Engine holds the active bundle and decides on typed input documents. Everything that is not a well-formed decision
// (undefined, error, panic, timeout, NaN, no bundle) is a denial. The package also holds what the control plane
// needs to check, assemble and sign the bundles that an Engine loads.
package policy
