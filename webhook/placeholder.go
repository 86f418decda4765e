package webhook

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// KeyPlaceholder stands where a client library insists on an API key. It is no key: the proxy puts the provider's credential in its place
// when a call is released, and a provider that gets it (because no ModelProvider names a credential) refuses it by name.
const KeyPlaceholder = "added-by-sallyport"

// keyVariables are the variables without which the providers' own libraries refuse to make a client, each with others that serve them as well.
var keyVariables = []struct {
	name   string
	orElse []string
}{
	{"OPENAI_API_KEY", []string{"OPENAI_ADMIN_KEY"}},
	{"ANTHROPIC_API_KEY", []string{"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_FEDERATION_RULE_ID"}},
}

// addKeyPlaceholders gives a container placeholders for the keys that it does not have, so that agents need none. A container that
// takes variables from a ConfigMap or Secret is left alone: what those hold is not known here, and it would be overridden.
func addKeyPlaceholders(c *corev1.Container) {
	if len(c.EnvFrom) > 0 {
		return
	}
	set := func(name string) bool {
		return slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name })
	}
	for _, v := range keyVariables {
		if !set(v.name) && !slices.ContainsFunc(v.orElse, set) {
			c.Env = append(c.Env, corev1.EnvVar{Name: v.name, Value: KeyPlaceholder})
		}
	}
}
