package v1alpha1

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func profile(name string, sel *metav1.LabelSelector) EgressProfile {
	return EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: EgressProfileSpec{NamespaceSelector: sel}}
}

func TestSelectProfile(t *testing.T) {
	team := &metav1.LabelSelector{MatchLabels: map[string]string{"team": "research"}}
	byName := &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": "agents"}}
	broken := &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: "Roughly"}}}
	tests := []struct {
		name     string
		profiles []EgressProfile
		labels   map[string]string
		want     string
	}{
		{"no profile at all", nil, nil, ""},
		{"default where no other selects", []EgressProfile{profile("default", nil), profile("research", team)}, nil, "default"},
		{"a selecting profile goes before default", []EgressProfile{profile("default", nil), profile("research", team)}, map[string]string{"team": "research"}, "research"},
		{"first by name of several", []EgressProfile{profile("zeta", team), profile("alpha", team), profile("mid", team)}, map[string]string{"team": "research"}, "alpha"},
		{"the name is selectable offline", []EgressProfile{profile("named", byName)}, nil, "named"},
		{"an invalid selector selects nothing", []EgressProfile{profile("a-broken", broken), profile("default", nil)}, map[string]string{"team": "research"}, "default"},
		{"no selector selects all", []EgressProfile{profile("everything", nil), profile("default", nil)}, nil, "everything"},
		{"none selects and there is no default", []EgressProfile{profile("research", team)}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if p := SelectProfile(tt.profiles, "agents", tt.labels); p != nil {
				got = p.Name
			}
			if got != tt.want {
				t.Errorf("SelectProfile = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSelectsNamespaceInvalid(t *testing.T) {
	ok, err := SelectsNamespace(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}}, nil)
	if ok || err == nil {
		t.Fatalf("SelectsNamespace = %v, %v; want false and an error", ok, err)
	}
}
