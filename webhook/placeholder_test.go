package webhook

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestKeyPlaceholders(t *testing.T) {
	for name, tc := range map[string]struct {
		before corev1.Container
		added  []string
	}{
		"neither":     {corev1.Container{}, []string{"OPENAI_API_KEY", "ANTHROPIC_API_KEY"}},
		"own key":     {corev1.Container{Env: []corev1.EnvVar{{Name: "OPENAI_API_KEY", Value: "sk-own"}}}, []string{"ANTHROPIC_API_KEY"}},
		"own token":   {corev1.Container{Env: []corev1.EnvVar{{Name: "ANTHROPIC_AUTH_TOKEN", Value: "own"}}}, []string{"OPENAI_API_KEY"}},
		"from Secret": {corev1.Container{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{}}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.before.DeepCopy()
			addKeyPlaceholders(c)
			addKeyPlaceholders(c) // a second time changes nothing
			added := c.Env[len(tc.before.Env):]
			if len(added) != len(tc.added) {
				t.Fatalf("added %v, want %v", added, tc.added)
			}
			for i, e := range added {
				if e.Name != tc.added[i] || e.Value != KeyPlaceholder {
					t.Errorf("added %v, want a placeholder for %s", e, tc.added[i])
				}
			}
		})
	}
}
