package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/scheme"
)

var (
	// GroupVersion is sallyport.dev/v1alpha1.
	GroupVersion = schema.GroupVersion{Group: "sallyport.dev", Version: "v1alpha1"}
	// SchemeBuilder collects the types of this package.
	SchemeBuilder = &scheme.Builder{GroupVersion: GroupVersion}
	// AddToScheme adds the types of this package to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

func init() {
	SchemeBuilder.Register(
		&ClusterPolicyBundle{}, &ClusterPolicyBundleList{},
		&ModelProvider{}, &ModelProviderList{},
		&EgressProfile{}, &EgressProfileList{},
		&Baseline{}, &BaselineList{},
	)
}
