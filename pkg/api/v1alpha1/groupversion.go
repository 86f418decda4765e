package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

var (
	// GroupVersion is sallyport.dev/v1alpha1.
	GroupVersion = schema.GroupVersion{Group: "sallyport.dev", Version: "v1alpha1"}
	// SchemeBuilder collects the types of this package.
	SchemeBuilder = runtime.NewSchemeBuilder(addTypes)
	// AddToScheme adds the types of this package to a scheme.
	AddToScheme = SchemeBuilder.AddToScheme
)

func addTypes(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&ClusterPolicyBundle{}, &ClusterPolicyBundleList{},
		&ModelProvider{}, &ModelProviderList{},
		&EgressProfile{}, &EgressProfileList{},
		&Baseline{}, &BaselineList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
