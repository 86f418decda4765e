// Package sallyportv1 is the generated Go form of sallyport.proto: the messages between the control plane and the sidecars.
// Regenerate it with make generate.
package sallyportv1
