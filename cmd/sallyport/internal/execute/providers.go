package execute

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/util/yaml"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/proxy"
)

// placeholder is what the command finds where this process has an API key: the providers' libraries refuse to make a client without one.
const placeholder = "added-by-sallyport"

// known is a provider that people call from their machines.
type known struct {
	proxy.Provider
	// keys are the variables that hold its key, the first that is set counts.
	keys []string
	// base is the variable that tells its libraries another URL, and basePath what their URL ends in.
	base, basePath string
}

// knownProviders are served without being configured. A call to any of them still needs the policy's leave.
func knownProviders(getenv func(string) string) []known {
	list := []known{
		{proxy.Provider{Name: "openai", API: "openai", Hosts: []string{"api.openai.com"}}, []string{"OPENAI_API_KEY"}, "OPENAI_BASE_URL", "/v1"},
		{proxy.Provider{Name: "anthropic", API: "anthropic", Hosts: []string{"api.anthropic.com"}}, []string{"ANTHROPIC_API_KEY"}, "ANTHROPIC_BASE_URL", ""},
		{proxy.Provider{Name: "gemini", API: "gemini", Hosts: []string{"generativelanguage.googleapis.com"}}, []string{"GEMINI_API_KEY", "GOOGLE_API_KEY"}, "GOOGLE_GEMINI_BASE_URL", ""},
		{proxy.Provider{Name: "cohere", API: "cohere", Hosts: []string{"api.cohere.com", "api.cohere.ai"}}, []string{"CO_API_KEY", "COHERE_API_KEY"}, "CO_API_URL", ""},
		{proxy.Provider{Name: "mistral", API: "openai", Hosts: []string{"api.mistral.ai"}}, []string{"MISTRAL_API_KEY"}, "", ""},
		{proxy.Provider{Name: "groq", API: "openai", Hosts: []string{"api.groq.com"}, BasePath: "/openai"}, []string{"GROQ_API_KEY"}, "GROQ_BASE_URL", ""},
		{proxy.Provider{Name: "deepseek", API: "openai", Hosts: []string{"api.deepseek.com"}}, []string{"DEEPSEEK_API_KEY"}, "", ""},
		{proxy.Provider{Name: "openrouter", API: "openai", Hosts: []string{"openrouter.ai"}, BasePath: "/api"}, []string{"OPENROUTER_API_KEY"}, "", ""},
	}
	if region := firstSet(getenv, "AWS_REGION", "AWS_DEFAULT_REGION"); region != "" {
		list = append(list, known{proxy.Provider{Name: "bedrock", API: "bedrock", Hosts: []string{"bedrock-runtime." + region + ".amazonaws.com"}}, nil, "AWS_ENDPOINT_URL_BEDROCK_RUNTIME", ""})
	}
	vertex := []string{"aiplatform.googleapis.com"}
	if location := getenv("GOOGLE_CLOUD_LOCATION"); location != "" && location != "global" {
		vertex = append(vertex, location+"-aiplatform.googleapis.com")
	}
	list = append(list, known{proxy.Provider{Name: "vertex-ai", API: "vertex-ai", Hosts: vertex}, nil, "GOOGLE_VERTEX_BASE_URL", ""})
	if u, err := url.Parse(getenv("AZURE_OPENAI_ENDPOINT")); err == nil && u.Scheme == "https" && u.Hostname() != "" {
		list = append(list, known{proxy.Provider{Name: "azure-openai", API: "azure-openai", Hosts: []string{u.Hostname()}}, []string{"AZURE_OPENAI_API_KEY"}, "", ""})
	}
	for i := range list {
		list[i].Port = 443
	}
	return list
}

func firstSet(getenv func(string) string, names ...string) string {
	for _, n := range names {
		if v := getenv(n); v != "" {
			return v
		}
	}
	return ""
}

// providerSet is who may be called, with which credentials, and what the command is told of it.
type providerSet struct {
	providers   []proxy.Provider
	credentials map[string][]byte
	// replaced are variables of the command's environment that a placeholder takes the place of; removed are those that go.
	replaced, removed []string
	// bases are the variables for base URLs with what follows the provider's name in them.
	bases map[string]string
}

// gather finds the providers: those of the files, and the known ones whose names and hosts the files do not give to others. Credentials are
// taken from this process's environment.
func gather(files []string, getenv func(string) string) (*providerSet, error) {
	s := &providerSet{credentials: map[string][]byte{}, bases: map[string]string{}}
	names, hosts := map[string]bool{}, map[string]bool{}
	add := func(p proxy.Provider, key string) {
		names[p.Name] = true
		for _, h := range p.Hosts {
			hosts[h] = true
		}
		if key != "" {
			p.Credential = p.Name
			s.credentials[p.Name] = []byte(key)
		}
		s.providers = append(s.providers, p)
	}
	for _, file := range files {
		list, err := readProviders(file)
		if err != nil {
			return nil, err
		}
		for _, p := range list {
			if names[p.Name] {
				return nil, fmt.Errorf("%s: ModelProvider %q is there twice", file, p.Name)
			}
			variable := credentialVariable(p.Name)
			key := getenv(variable)
			if key != "" {
				s.removed = append(s.removed, variable)
			}
			add(p, key)
		}
	}
	configured := map[string]bool{}
	for name := range names {
		configured[name] = true
	}
	for _, k := range knownProviders(getenv) {
		key := firstSet(getenv, k.keys...)
		switch k.API {
		case "bedrock":
			key = awsKey(getenv)
			if key != "" {
				s.replaced = append(s.replaced, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
				s.removed = append(s.removed, "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE")
			}
		case "vertex-ai":
			if file := getenv("GOOGLE_APPLICATION_CREDENTIALS"); file != "" {
				b, err := os.ReadFile(file)
				if err != nil {
					return nil, fmt.Errorf("GOOGLE_APPLICATION_CREDENTIALS: %w", err)
				}
				key = string(b)
			}
		default:
			for _, v := range k.keys {
				if getenv(v) != "" {
					s.replaced = append(s.replaced, v)
				}
			}
		}
		if configured[k.Name] {
			if k.base != "" {
				s.bases[k.base] = k.Name + k.basePath
			}
			// The file says where it is; the well-known variable still holds its key.
			for i := range s.providers {
				if p := &s.providers[i]; p.Name == k.Name && p.Credential == "" && key != "" {
					p.Credential = p.Name
					s.credentials[p.Name] = []byte(key)
				}
			}
			continue
		}
		taken := false
		for _, h := range k.Hosts {
			taken = taken || hosts[h]
		}
		if taken {
			continue
		}
		if k.base != "" {
			s.bases[k.base] = k.Name + k.basePath
		}
		add(k.Provider, key)
	}
	return s, nil
}

// credentialVariable is the variable that holds the key of a provider that a file names.
func credentialVariable(name string) string {
	return "SALLYPORT_CREDENTIAL_" + strings.ToUpper(strings.NewReplacer("-", "_", ".", "_").Replace(name))
}

// awsKey is the secret by which calls to Bedrock are signed, in the form that a ModelProvider's Secret has.
func awsKey(getenv func(string) string) string {
	if token := getenv("AWS_BEARER_TOKEN_BEDROCK"); token != "" {
		return token
	}
	id, secret := getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY")
	if id == "" || secret == "" {
		return ""
	}
	key := map[string]string{"accessKeyId": id, "secretAccessKey": secret, "region": firstSet(getenv, "AWS_REGION", "AWS_DEFAULT_REGION")}
	if t := getenv("AWS_SESSION_TOKEN"); t != "" {
		key["sessionToken"] = t
	}
	b, err := json.Marshal(key)
	if err != nil {
		return "" // strings can be encoded
	}
	return string(b)
}

// readProviders reads the ModelProviders of a YAML file, as they are applied to a cluster. Objects of other kinds are an error: nobody
// would know that they do nothing.
func readProviders(file string) ([]proxy.Provider, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err // names the file
	}
	var out []proxy.Provider
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(b), 4096)
	for {
		var raw json.RawMessage
		switch err := documents.Decode(&raw); {
		case errors.Is(err, io.EOF) && len(out) == 0:
			return nil, fmt.Errorf("%s: no ModelProvider in it", file)
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(raw) == 0 || string(raw) == "null" {
			continue
		}
		var mp v1alpha1.ModelProvider
		d := json.NewDecoder(bytes.NewReader(raw))
		d.DisallowUnknownFields()
		if err := d.Decode(&mp); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if mp.Kind != "ModelProvider" || mp.APIVersion != v1alpha1.GroupVersion.String() {
			return nil, fmt.Errorf("%s: %s %s; accepted is %s ModelProvider", file, mp.APIVersion, mp.Kind, v1alpha1.GroupVersion)
		}
		p, err := fromObject(&mp)
		if err != nil {
			return nil, fmt.Errorf("%s: ModelProvider %q: %w", file, mp.Name, err)
		}
		out = append(out, p)
	}
}

// fromObject turns a ModelProvider into what the proxy takes.
func fromObject(mp *v1alpha1.ModelProvider) (proxy.Provider, error) {
	p := proxy.Provider{
		Name: mp.Name, API: string(mp.Spec.API), Hosts: mp.Spec.Hosts, Port: 443,
		BasePath: mp.Spec.BasePath, Plaintext: mp.Spec.Plaintext, Addresses: mp.Spec.Addresses, CABundle: mp.Spec.CABundle,
	}
	if mp.Name == "" || p.API == "" || len(p.Hosts) == 0 {
		return p, errors.New("metadata.name, spec.api and spec.hosts must be set")
	}
	if port := mp.Spec.Port; port != 0 {
		if port < 1 || port > math.MaxUint16 {
			return p, fmt.Errorf("spec.port: %d is no port", port)
		}
		p.Port = uint16(port)
	}
	return p, nil
}
