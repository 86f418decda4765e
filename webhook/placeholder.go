package webhook

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// KeyPlaceholder stands where a client library insists on an API key. It is no key: the proxy puts the provider's credential in its place
// when a call is released, and a provider that gets it (because no ModelProvider names a credential) refuses it by name.
const KeyPlaceholder = "added-by-sallyport"

// keyVariables are the variables without which the providers' own libraries refuse to make a client, each with others that serve them as well, or say
// that the key comes from elsewhere. For Bedrock it is the key of that service alone: AWS_ACCESS_KEY_ID would stand in the way of the identity that the
// pod has for everything else. Vertex AI has none: Google's libraries want a file.
var keyVariables = []struct {
	name   string
	orElse []string
}{
	{"OPENAI_API_KEY", []string{"OPENAI_ADMIN_KEY"}},
	{"ANTHROPIC_API_KEY", []string{"ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_PROFILE", "ANTHROPIC_FEDERATION_RULE_ID"}},
	{"AZURE_OPENAI_API_KEY", []string{"AZURE_OPENAI_AD_TOKEN"}},
	{"GEMINI_API_KEY", []string{"GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI", "GOOGLE_APPLICATION_CREDENTIALS"}},
	{"AWS_BEARER_TOKEN_BEDROCK", []string{
		"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
	}},
	{"CO_API_KEY", []string{"COHERE_API_KEY"}},
	{"MISTRAL_API_KEY", nil},
	{"GROQ_API_KEY", nil},
	{"DEEPSEEK_API_KEY", nil},
	{"OPENROUTER_API_KEY", nil},
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
