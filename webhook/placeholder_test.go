package webhook

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestKeyPlaceholders(t *testing.T) {
	rest := func(but ...string) (names []string) {
		for _, v := range keyVariables {
			if !slices.Contains(but, v.name) {
				names = append(names, v.name)
			}
		}
		return names
	}
	env := func(name string) corev1.Container {
		return corev1.Container{Env: []corev1.EnvVar{{Name: name, Value: "own"}}}
	}
	for name, tc := range map[string]struct {
		before corev1.Container
		added  []string
	}{
		"none":               {corev1.Container{}, rest()},
		"own key":            {env("OPENAI_API_KEY"), rest("OPENAI_API_KEY")},
		"own token":          {env("ANTHROPIC_AUTH_TOKEN"), rest("ANTHROPIC_API_KEY")},
		"Google's key":       {env("GOOGLE_API_KEY"), rest("GEMINI_API_KEY")},
		"Vertex AI":          {env("GOOGLE_GENAI_USE_VERTEXAI"), rest("GEMINI_API_KEY")},
		"the pod's AWS role": {env("AWS_WEB_IDENTITY_TOKEN_FILE"), rest("AWS_BEARER_TOKEN_BEDROCK")},
		"Cohere's new name":  {env("COHERE_API_KEY"), rest("CO_API_KEY")},
		"from Secret":        {corev1.Container{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{}}}}, nil},
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
