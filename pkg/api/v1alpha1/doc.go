// Package v1alpha1 holds the Kubernetes API types of the group sallyport.dev, version v1alpha1.
//
// The types are plain data: what they mean is said at each field, and what is done with them is
// the control plane's business. CustomResourceDefinitions in deploy/crds are generated from this
// package by controller-gen (make generate).
//
// +kubebuilder:object:generate=true
// +groupName=sallyport.dev
package v1alpha1
