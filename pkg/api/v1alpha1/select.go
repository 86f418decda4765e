package v1alpha1

import (
	"fmt"
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// SelectsNamespace says whether a namespace selector selects a namespace with these labels. A nil or
// empty selector selects every namespace. A selector that Kubernetes does not understand is an error
// and selects nothing.
func SelectsNamespace(sel *metav1.LabelSelector, nsLabels map[string]string) (bool, error) {
	if sel == nil {
		return true, nil
	}
	s, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		return false, fmt.Errorf("namespace selector: %w", err)
	}
	return s.Matches(labels.Set(nsLabels)), nil
}

// SelectProfile returns the EgressProfile that applies to a namespace, or nil if there is none.
//
// Of the profiles other than "default" that select the namespace, the first by
// name applies; where there is none, the one named "default" does. A profile other than "default"
// without a selector selects every namespace, as its field says. A profile whose selector is invalid
// selects nothing.
//
// The namespace's name can be selected by the label kubernetes.io/metadata.name, which the API server
// sets on every namespace; SelectProfile adds it where the caller's labels lack it, as they do offline.
func SelectProfile(profiles []EgressProfile, nsName string, nsLabels map[string]string) *EgressProfile {
	if _, ok := nsLabels[nameLabel]; !ok {
		withName := make(map[string]string, len(nsLabels)+1)
		maps.Copy(withName, nsLabels)
		withName[nameLabel] = nsName
		nsLabels = withName
	}
	var chosen, fallback *EgressProfile
	for i := range profiles {
		p := &profiles[i]
		if p.Name == DefaultProfile {
			fallback = p
			continue
		}
		if chosen != nil && chosen.Name <= p.Name {
			continue
		}
		if ok, err := SelectsNamespace(p.Spec.NamespaceSelector, nsLabels); err == nil && ok {
			chosen = p
		}
	}
	if chosen != nil {
		return chosen
	}
	return fallback
}

// nameLabel is the label by which the API server repeats a namespace's name.
const nameLabel = "kubernetes.io/metadata.name"
