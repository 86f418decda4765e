package controlplane

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// verdictIs compares an error with the part of its text that is wanted; "" wants none.
func verdictIs(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got %v, want %q", err, want)
	case err != nil && !isUnusable(err):
		t.Errorf("%v is not for the author of the spec", err)
	}
}

func TestCheckProvider(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*v1alpha1.ModelProviderSpec)
		want   string
	}{
		{"right", func(*v1alpha1.ModelProviderSpec) {}, ""},
		{"unknown API", func(s *v1alpha1.ModelProviderSpec) { s.API = "smtp" }, "none of openai, azure-openai, anthropic, gemini, vertex-ai, bedrock, cohere, ollama, mcp, a2a"},
		{"no host", func(s *v1alpha1.ModelProviderSpec) { s.Hosts = nil }, "no host"},
		{"upper case", func(s *v1alpha1.ModelProviderSpec) { s.Hosts = []string{"API.model.test"} }, "no exact DNS name"},
		{"with port", func(s *v1alpha1.ModelProviderSpec) { s.Hosts = []string{"api.model.test:443"} }, "no exact DNS name"},
		{"wildcard", func(s *v1alpha1.ModelProviderSpec) { s.Hosts = []string{"*.model.test"} }, "no exact DNS name"},
		{"trailing dot", func(s *v1alpha1.ModelProviderSpec) { s.Hosts = []string{"api.model.test."} }, "no exact DNS name"},
		{"address", func(s *v1alpha1.ModelProviderSpec) { s.Hosts = []string{"10.0.0.1"} }, "is an address"},
		{"twice", func(s *v1alpha1.ModelProviderSpec) { s.Hosts = []string{"a.test", "a.test"} }, "given twice"},
		{"port", func(s *v1alpha1.ModelProviderSpec) { s.Port = 70_000 }, "port 70000"},
		{"ends in a number", func(s *v1alpha1.ModelProviderSpec) { s.Hosts = []string{"127.1"} }, "ends in a number"},
		{"long label", func(s *v1alpha1.ModelProviderSpec) { s.Hosts = []string{strings.Repeat("a", 64) + ".test"} }, "more than 63"},
		{"not by IDNA", func(s *v1alpha1.ModelProviderSpec) { s.Hosts = []string{"xn--a.test"} }, "IDNA"},
		{"plaintext", func(s *v1alpha1.ModelProviderSpec) { s.Plaintext, s.Port = true, 8000 }, ""},
		{"plaintext without a port", func(s *v1alpha1.ModelProviderSpec) { s.Plaintext = true }, "needs a port"},
		{"plaintext with roots", func(s *v1alpha1.ModelProviderSpec) { s.Plaintext, s.Port, s.CABundle = true, 80, "x" }, "no certificate"},
		{"base path", func(s *v1alpha1.ModelProviderSpec) { s.BasePath = "/v1/projects/p:q/openai" }, ""},
		{"base path with escapes", func(s *v1alpha1.ModelProviderSpec) { s.BasePath = "/a%2Fb" }, "basePath"},
		{"base path that is a URL", func(s *v1alpha1.ModelProviderSpec) { s.BasePath = "https://a.test/openai" }, "basePath"},
		{"base path with dots", func(s *v1alpha1.ModelProviderSpec) { s.BasePath = "/.." }, "basePath"},
		{"addresses", func(s *v1alpha1.ModelProviderSpec) { s.Addresses = []string{"127.0.0.1", "::1"} }, ""},
		{"address with zone", func(s *v1alpha1.ModelProviderSpec) { s.Addresses = []string{"fe80::1%eth0"} }, "no IP address"},
		{"address of no host", func(s *v1alpha1.ModelProviderSpec) { s.Addresses = []string{"0.0.0.0"} }, "no IP address"},
		{"address twice", func(s *v1alpha1.ModelProviderSpec) { s.Addresses = []string{"::1", "::1"} }, "given twice"},
		{"selector", func(s *v1alpha1.ModelProviderSpec) {
			s.NamespaceSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}
		}, "namespaceSelector"},
		{"credential without key", func(s *v1alpha1.ModelProviderSpec) {
			s.Credential = &v1alpha1.ProviderCredential{SecretRef: corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "n"}}}
		}, "needs a name and a key"},
		{"roots that are none", func(s *v1alpha1.ModelProviderSpec) { s.CABundle = "hello" }, "no PEM"},
		{"a private key among the roots", func(s *v1alpha1.ModelProviderSpec) {
			s.CABundle = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"
		}, "want CERTIFICATE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := v1alpha1.ModelProviderSpec{API: v1alpha1.APIOpenAI, Hosts: []string{"api.model.test"}}
			tt.change(&spec)
			verdictIs(t, checkProvider(&spec), tt.want)
		})
	}
}

func TestCheckCredential(t *testing.T) {
	const account = `{
	  "type": "service_account", "client_email": "a@b", "private_key": "-----BEGIN PRIVATE KEY-----\nMAA=\n"
	}`
	for _, tt := range []struct {
		name  string
		api   v1alpha1.ModelProviderAPI
		value string
		want  string
	}{
		{"key", v1alpha1.APIOpenAI, "sk-1", ""},
		{"two words", v1alpha1.APIOpenAI, "sk 1", "cannot stand in a header"},
		{"JSON where a key belongs", v1alpha1.APIOpenAI, account, "cannot stand in a header"},
		{"service account", v1alpha1.APIVertexAI, account, ""},
		{"access token", v1alpha1.APIVertexAI, "ya29.x", ""},
		{"another file", v1alpha1.APIVertexAI, `{"type":"authorized_user"}`, `lacks "client_email"`},
		{"AWS", v1alpha1.APIBedrock, `{"accessKeyId": "a", "secretAccessKey": "b"}`, ""},
		{"AWS without the secret", v1alpha1.APIBedrock, `{"accessKeyId": "a"}`, `lacks "secretAccessKey"`},
		{"AWS, broken", v1alpha1.APIBedrock, `{"accessKeyId": "sk-secret"`, "no object of strings"},
		{"Bedrock key", v1alpha1.APIBedrock, "ABSK", ""},
	} {
		err := checkCredential(tt.api, []byte(tt.value))
		if (tt.want == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "sk-")) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestCheckProfile(t *testing.T) {
	for _, tt := range []struct {
		name string
		spec v1alpha1.EgressProfileSpec
		want string
	}{
		{"the zero value", v1alpha1.EgressProfileSpec{}, ""},
		{"mode", v1alpha1.EgressProfileSpec{Mode: "off"}, "enforce is in force"},
		{"neither host nor cidr", v1alpha1.EgressProfileSpec{Passthrough: []v1alpha1.PassthroughRule{{}}}, "passthrough[0]: exactly one"},
		{"cidr", v1alpha1.EgressProfileSpec{Passthrough: []v1alpha1.PassthroughRule{{CIDR: "10.0.0.0/8"}, {CIDR: "10.0.0.0"}}}, "passthrough[1]: cidr"},
		{"cidr with bits beyond", v1alpha1.EgressProfileSpec{Passthrough: []v1alpha1.PassthroughRule{{CIDR: "10.0.0.1/8"}}}, "10.0.0.0/8 was meant"},
		{"address as host", v1alpha1.EgressProfileSpec{Passthrough: []v1alpha1.PassthroughRule{{Host: "169.254.169.254"}}}, "is an address"},
		{"port", v1alpha1.EgressProfileSpec{Passthrough: []v1alpha1.PassthroughRule{{Host: "a.test", Ports: []int32{0}}}}, "port 0"},
		{"size", v1alpha1.EgressProfileSpec{MaxRequestBytes: -1}, "maxRequestBytes is negative; the default is in force"},
		{"the largest size", v1alpha1.EgressProfileSpec{MaxRequestBytes: 64 << 20}, ""},
		{"a larger size", v1alpha1.EgressProfileSpec{MaxRequestBytes: 64<<20 + 1}, "maxRequestBytes is more than 67108864"},
		{"timeouts", v1alpha1.EgressProfileSpec{Timeouts: v1alpha1.TimeoutsSpec{Connect: lasting(time.Second), Idle: lasting(24 * time.Hour), Hold: lasting(0)}}, ""},
		{"negative timeout", v1alpha1.EgressProfileSpec{Timeouts: v1alpha1.TimeoutsSpec{Idle: lasting(-time.Second)}}, "timeouts.idle is negative; the default is in force"},
		{"endless timeout", v1alpha1.EgressProfileSpec{Timeouts: v1alpha1.TimeoutsSpec{FirstByte: lasting(25 * time.Hour)}}, "timeouts.firstByte is more than 24h"},
		{"limits", v1alpha1.EgressProfileSpec{MaxRequestBytes: 32 << 20, Limits: v1alpha1.LimitsSpec{MemoryBytes: 32 << 20, HeldResponseBytes: 1, HeldToolCallBytes: 64 << 20}}, ""},
		{"negative limit", v1alpha1.EgressProfileSpec{Limits: v1alpha1.LimitsSpec{HeldToolCallBytes: -1}}, "limits.heldToolCallBytes is negative"},
		{"limit of a response", v1alpha1.EgressProfileSpec{Limits: v1alpha1.LimitsSpec{HeldResponseBytes: 1 << 30}}, "limits.heldResponseBytes is more than"},
		{"negative memory", v1alpha1.EgressProfileSpec{Limits: v1alpha1.LimitsSpec{MemoryBytes: -1}}, "limits.memoryBytes is negative"},
		{"memory for no request", v1alpha1.EgressProfileSpec{Limits: v1alpha1.LimitsSpec{MemoryBytes: 1 << 20}}, "limits.memoryBytes is less than maxRequestBytes, 16777216; the default is in force"},
		{"budget", v1alpha1.EgressProfileSpec{Detector: v1alpha1.DetectorSpec{FalsePositivesPerMillion: 1_000_000}}, "falsePositivesPerMillion"},
	} {
		t.Run(tt.name, func(t *testing.T) { verdictIs(t, checkProfile(&tt.spec), tt.want) })
	}
}

func lasting(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }

// Nothing that a profile sets gets lost on the way to the sidecars, and nothing that is wrong gets there.
func TestSettingsOfAWorkload(t *testing.T) {
	got := workloadConfig(&v1alpha1.EgressProfileSpec{
		MaxRequestBytes: 1 << 20,
		Timeouts:        v1alpha1.TimeoutsSpec{RequestBody: lasting(1), Connect: lasting(2), FirstByte: lasting(3), Idle: lasting(4), Hold: lasting(5)},
		Limits:          v1alpha1.LimitsSpec{MemoryBytes: 2 << 20, HeldToolCallBytes: 7, HeldResponseBytes: 8},
	})
	want := &xdsv1.WorkloadConfig{
		Mode: "enforce", MaxRequestBytes: 1 << 20,
		Timeouts: &xdsv1.Timeouts{RequestBody: durationpb.New(1), Connect: durationpb.New(2), FirstByte: durationpb.New(3), Idle: durationpb.New(4), Hold: durationpb.New(5)},
		Limits:   &xdsv1.Limits{MemoryBytes: 2 << 20, HeldToolCallBytes: 7, HeldResponseBytes: 8},
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, m := range []proto.Message{got.GetTimeouts(), got.GetLimits()} {
		for i := range m.ProtoReflect().Descriptor().Fields().Len() {
			if f := m.ProtoReflect().Descriptor().Fields().Get(i); !m.ProtoReflect().Has(f) {
				t.Errorf("%s is not sent", f.FullName())
			}
		}
	}
	got = workloadConfig(&v1alpha1.EgressProfileSpec{
		MaxRequestBytes: 65 << 20,
		Timeouts:        v1alpha1.TimeoutsSpec{RequestBody: lasting(-1), Connect: lasting(25 * time.Hour), Idle: lasting(0)},
		Limits:          v1alpha1.LimitsSpec{MemoryBytes: 1, HeldToolCallBytes: -7, HeldResponseBytes: 65 << 20},
	})
	if want := (&xdsv1.WorkloadConfig{Mode: "enforce", Timeouts: &xdsv1.Timeouts{}, Limits: &xdsv1.Limits{}}); !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// What is wrong with how baselines are to be learned is told, and the default, or what is stricter, is in force.
func TestCheckDetector(t *testing.T) {
	canary := func(name, value string) v1alpha1.Canary { return v1alpha1.Canary{Name: name, Value: value} }
	usual := learning{budget: 10_000, minCalls: 1000, minSessions: 50, retrainCalls: 8192, retrainInterval: 24 * time.Hour}
	with := func(change func(*learning)) learning { s := usual; change(&s); return s }
	for name, tt := range map[string]struct {
		spec     v1alpha1.DetectorSpec
		wrong    string
		want     learning
		canaries int
	}{
		"nothing": {v1alpha1.DetectorSpec{}, "", usual, 0},
		"everything": {v1alpha1.DetectorSpec{FalsePositivesPerMillion: 1, MinCalls: 2, MinSessions: 3, RetrainCalls: 4, RetrainInterval: lasting(time.Hour), Cold: v1alpha1.ColdDeny, SharedPrior: true, PriorScope: v1alpha1.PriorNamespace},
			"", learning{1, 2, 3, 4, time.Hour, v1alpha1.PriorNamespace, true}, 0},
		"prior":             {v1alpha1.DetectorSpec{SharedPrior: true}, "", with(func(s *learning) { s.prior = v1alpha1.PriorCluster }), 0},
		"prior of whom":     {v1alpha1.DetectorSpec{SharedPrior: true, PriorScope: "World"}, "Namespace is in force", with(func(s *learning) { s.prior = v1alpha1.PriorNamespace }), 0},
		"cold and what":     {v1alpha1.DetectorSpec{Cold: "Maybe"}, "Deny is in force", with(func(s *learning) { s.refuseCold = true }), 0},
		"negative":          {v1alpha1.DetectorSpec{MinCalls: -1}, "detector.minCalls is not within 0 to 2048", usual, 0},
		"more than is kept": {v1alpha1.DetectorSpec{MinSessions: 5000}, "detector.minSessions is not within 0 to 2048", usual, 0},
		"budget":            {v1alpha1.DetectorSpec{FalsePositivesPerMillion: 1_000_000}, "detector.falsePositivesPerMillion", usual, 0},
		"interval":          {v1alpha1.DetectorSpec{RetrainInterval: lasting(time.Second)}, "detector.retrainInterval", usual, 0},
		"canaries":          {v1alpha1.DetectorSpec{Canaries: []v1alpha1.Canary{canary("a", "12345678"), canary("b", strings.Repeat("x", 256))}}, "", usual, 2},
		"short canary":      {v1alpha1.DetectorSpec{Canaries: []v1alpha1.Canary{canary("a", "1234567"), canary("b", "12345678")}}, "canaries[0]: ", usual, 1},
		"nameless canary":   {v1alpha1.DetectorSpec{Canaries: []v1alpha1.Canary{canary("", "12345678")}}, "canaries[0]", usual, 0},
		"two of a name":     {v1alpha1.DetectorSpec{Canaries: []v1alpha1.Canary{canary("a", "12345678"), canary("a", "87654321")}}, "only the first is looked for", usual, 1},
	} {
		t.Run(name, func(t *testing.T) {
			verdictIs(t, checkDetector(&tt.spec), tt.wrong)
			if got := learningOf(&tt.spec); got != tt.want {
				t.Errorf("in force %+v, want %+v", got, tt.want)
			}
			if got := canaries(&tt.spec); len(got) != tt.canaries {
				t.Errorf("%d canaries", len(got))
			}
		})
	}
}

func TestParseStatus(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       PolicyState
		bad        bool
	}{
		{name: "running", body: `{"labels":{"id":"x"},"bundles":{"policy":{"name":"policy","active_revision":"r1"}}}`, want: PolicyState{Revision: "r1"}},
		{name: "nothing loaded yet", body: `{"bundles":{}}`},
		{
			name: "refused", body: `{"bundles":{"policy":{"active_revision":"r1","code":"bundle_error","message":"scope mismatch"}}}`,
			want: PolicyState{Revision: "r1", Error: "scope mismatch"},
		},
		{name: "two bundles that disagree", body: `{"bundles":{"a":{"active_revision":"r1"},"b":{"active_revision":"r2"}}}`},
		{name: "not json", body: `hello`, bad: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStatus([]byte(tt.body))
			if got != tt.want || (err != nil) != tt.bad {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestBoundedNames(t *testing.T) {
	long := strings.Repeat("x", 300)
	if got := v1alpha1.BoundedName(long + "a"); len(got) != 253 || got == v1alpha1.BoundedName(long+"b") {
		t.Errorf("%d characters, or two names become one", len(got))
	}
	seen := map[string]bool{}
	for _, name := range []string{strings.Repeat("a", 235) + "." + strings.Repeat("b", 40), strings.Repeat("a.", 200), "node-Upper", "node-upper_", "node-upper:", "x-" + strings.Repeat("é", 200), "-", ""} {
		got := v1alpha1.BoundedName(name)
		if errs := validation.IsDNS1123Subdomain(got); len(errs) > 0 || seen[got] {
			t.Errorf("%q becomes %q: %v", name, got, errs)
		}
		seen[got] = true
	}
	for _, name := range []string{"deployment-web", "pod-a.b-c.d"} {
		if got := v1alpha1.BoundedName(name); got != name {
			t.Errorf("got %s", got)
		}
	}
}

// Nothing that a spec says of its hosts gets lost on the way to the sidecars.
func TestProviderResource(t *testing.T) {
	got := providerResource(&v1alpha1.ModelProvider{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Generation: 3},
		Spec: v1alpha1.ModelProviderSpec{
			API: v1alpha1.APIOllama, Hosts: []string{"a.test"}, Port: 11434, BasePath: "/base", Plaintext: true, Addresses: []string{"::1"}, CABundle: "pem",
			Credential: &v1alpha1.ProviderCredential{},
		},
	})
	want := &xdsv1.ModelProvider{
		Name: "p", Api: "ollama", Hosts: []string{"a.test"}, Port: 11434, BasePath: "/base", Plaintext: true, Addresses: []string{"::1"}, CaBundle: "pem",
		Credential: "credential/p", Generation: 3,
	}
	if !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	// A member that is added to the message must be filled in here, too.
	for i := range got.ProtoReflect().Descriptor().Fields().Len() {
		if f := got.ProtoReflect().Descriptor().Fields().Get(i); !got.ProtoReflect().Has(f) {
			t.Errorf("%s is not sent", f.Name())
		}
	}
}
