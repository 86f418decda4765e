package controlplane

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
)

// allowing is a module that allows calls of one operation.
func allowing(name, operation string) string {
	return fmt.Sprintf("package sallyport.bundle.%s\n\nallow if input.call.operation == %q\n", strings.ReplaceAll(name, "-", "_"), operation)
}

func policyBundle(name string, modules map[string]string) *v1alpha1.ClusterPolicyBundle {
	return &v1alpha1.ClusterPolicyBundle{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ClusterPolicyBundleSpec{Modules: modules}}
}

// update changes an object's spec, whatever statuses are written meanwhile.
func (l *lab) update(o client.Object, change func()) {
	l.t.Helper()
	before := o.DeepCopyObject().(client.Object)
	change()
	must(l.t, l.client.Patch(l.ctx, o, client.MergeFrom(before)))
}

func TestABrokenBundleKeepsTheLastGood(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	good := policyBundle("rules", map[string]string{"rules.rego": allowing("rules", "chat")})
	l.create(good)
	r := l.start()
	s := l.sidecar(r, l.pod(namespace, "agent"), "")
	e := l.engine(r, s, namespace)

	digest := policy.SourceDigest(policy.Source{Name: "rules", Modules: good.Spec.Modules})
	l.until("the bundle is programmed", func() bool {
		l.get(good)
		return condition(good.Status.Conditions, v1alpha1.ConditionReady, good.Generation).Status == metav1.ConditionTrue &&
			good.Status.Digest == digest && good.Status.Sidecars == v1alpha1.SidecarCounts{Total: 1, Current: 1}
	})
	revision, _ := e.Active()

	broken := map[string]string{"rules.rego": "package sallyport.bundle.rules\n\nallow if {\n\tinput.call.operation == undefined_thing\n}\n"}
	l.update(good, func() { good.Spec.Modules = broken })
	l.until("the refusal is reported", func() bool {
		l.get(good)
		return condition(good.Status.Conditions, v1alpha1.ConditionAccepted, good.Generation).Status == metav1.ConditionFalse
	})
	refused := condition(good.Status.Conditions, v1alpha1.ConditionAccepted, good.Generation)
	if refused.Reason != reasonRefused || !strings.Contains(refused.Message, "rules.rego:4") {
		t.Errorf("condition %+v names no file and line", refused)
	}
	if p := condition(good.Status.Conditions, v1alpha1.ConditionProgrammed, good.Generation); p.Status != metav1.ConditionFalse || p.Reason != reasonLastGood {
		t.Errorf("programmed %+v", p)
	}
	if good.Status.Digest != digest || good.Status.Sidecars.Current != 1 {
		t.Errorf("status %+v", good.Status)
	}
	if !reflect.DeepEqual(good.Spec.Modules, broken) {
		t.Error("the spec was changed")
	}
	if now, _ := e.Active(); now != revision {
		t.Errorf("the sidecar runs %s, not %s", now, revision)
	}

	// A controller that starts while the spec is broken serves the last good still.
	r.stop()
	s.stop()
	r = l.start()
	s = l.sidecar(r, l.pod(namespace, "second"), "")
	if now, _ := l.engine(r, s, namespace).Active(); now != revision {
		t.Errorf("after a restart a sidecar gets %s, not %s", now, revision)
	}
	l.until("the second sidecar counts as current", func() bool {
		l.get(good)
		return good.Status.Sidecars == v1alpha1.SidecarCounts{Total: 1, Current: 1} && good.Status.Digest == digest
	})

	// Deleted and made again under its name, what was good before is in force no longer.
	must(t, l.client.Delete(l.ctx, good))
	l.create(policyBundle("rules", broken))
	again := policyBundle("rules", nil)
	l.until("nothing of it is in force", func() bool {
		l.get(again)
		return condition(again.Status.Conditions, v1alpha1.ConditionProgrammed, again.Generation).Reason == reasonNotInForce && again.Status.Digest == ""
	})
}

func TestSidecarsStayThroughARestart(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	bundle := policyBundle("rules", map[string]string{"rules.rego": allowing("rules", "chat")})
	l.create(bundle)
	provider := modelProvider("model", []string{"api.model.test"}, nil, "")
	l.create(provider)
	r := l.start()
	s := l.sidecar(r, l.pod(namespace, "agent"), "")
	e := l.engine(r, s, namespace)
	current := func() bool {
		l.get(bundle)
		l.get(provider)
		one := v1alpha1.SidecarCounts{Total: 1, Current: 1}
		return bundle.Status.Sidecars == one && provider.Status.Sidecars == one
	}
	l.until("it runs what is in force", current)
	s.next(t, "anything", func(xdsclient.Snapshot) bool { return true })
	r.stop()
	// Gone, and changed while the controller was gone.
	l.update(bundle, func() { bundle.Spec.Modules = map[string]string{"rules.rego": allowing("rules", "responses")} })
	before, _ := e.Active()
	again := l.startAt(r.discovery, strings.TrimPrefix(r.bundles, "https://"))
	l.until("it runs what is in force now", func() bool {
		now, _ := e.Active()
		return now != before && current() && bundle.Status.Digest == policy.SourceDigest(policy.Source{Name: "rules", Modules: bundle.Spec.Modules})
	})
	again.stop()
	before, _ = e.Active()
	l.startAt(r.discovery, strings.TrimPrefix(r.bundles, "https://"))
	l.until("it is known to run what has not changed", func() bool { return len(s.snapshots) == 0 && current() })
	if now, _ := e.Active(); now != before {
		t.Errorf("runs %s, not %s", now, before)
	}
}

func TestModulesFromConfigMaps(t *testing.T) {
	l := newLab(t)
	l.create(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: "shared"}, Data: map[string]string{"shared.rego": allowing("mixed", "chat")}})
	bundle := policyBundle("mixed", map[string]string{"own.rego": allowing("mixed", "embeddings")})
	bundle.Spec.ConfigMapRefs = []corev1.LocalObjectReference{{Name: "shared"}, {Name: "missing"}}
	l.create(bundle)
	l.start()
	accepted := func(status metav1.ConditionStatus, reason string) func() bool {
		return func() bool {
			l.get(bundle)
			c := condition(bundle.Status.Conditions, v1alpha1.ConditionAccepted, bundle.Generation)
			return c.Status == status && c.Reason == reason
		}
	}
	l.until("the missing ConfigMap is reported", accepted(metav1.ConditionFalse, reasonModuleMissing))
	missing := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: "missing"}, Data: map[string]string{"own.rego": allowing("mixed", "chat")}}
	l.create(missing)
	l.until("one name from two places is reported", accepted(metav1.ConditionFalse, reasonInvalid))
	l.update(missing, func() { missing.Data = map[string]string{"other.rego": allowing("mixed", "responses")} })
	l.until("it is accepted", accepted(metav1.ConditionTrue, reasonAccepted))
	want := policy.SourceDigest(policy.Source{Name: "mixed", Modules: map[string]string{
		"own.rego": allowing("mixed", "embeddings"), "shared.rego": allowing("mixed", "chat"), "other.rego": allowing("mixed", "responses"),
	}})
	if bundle.Status.Digest != want {
		t.Errorf("digest %s, want %s", bundle.Status.Digest, want)
	}
}

func TestALongPollIsWokenByAChange(t *testing.T) {
	l := newLab(t)
	chosen, other := l.agents(map[string]string{"tier": "one"}), l.agents(nil)
	r := l.start()
	tokens := map[string]string{}
	for _, namespace := range []string{chosen, other} {
		tokens[namespace] = l.token(l.pod(namespace, "agent"), v1alpha1.TokenAudience)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(l.root)
	httpClient := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(httpClient.CloseIdleConnections)
	get := func(ctx context.Context, namespace, etag, prefer string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.bundles+"/v1/bundle", nil)
		must(t, err)
		req.Header.Set("Authorization", "Bearer "+tokens[namespace])
		req.Header.Set("If-None-Match", etag)
		req.Header.Set("Prefer", prefer)
		resp, err := httpClient.Do(req)
		if err != nil {
			return nil, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp, nil
	}
	first, err := get(l.ctx, chosen, "", "modes=snapshot,delta;wait=30")
	must(t, err)
	if first.StatusCode != http.StatusOK || first.Header.Get("Content-Type") != "application/vnd.openpolicyagent.bundles" {
		t.Fatalf("status %d, type %s", first.StatusCode, first.Header.Get("Content-Type"))
	}
	etag := first.Header.Get("ETag")
	if again, err := get(l.ctx, chosen, etag, ""); err != nil || again.StatusCode != http.StatusNotModified {
		t.Fatalf("without a wait: %v, %v", again, err)
	}

	// Both wait; the change concerns one of them.
	woken := make(chan *http.Response, 1)
	go func() {
		if resp, err := get(l.ctx, chosen, etag, "modes=snapshot,delta;wait=120"); err == nil {
			woken <- resp
		}
	}()
	otherCtx, cancel := context.WithCancel(l.ctx)
	otherDone := make(chan error, 1)
	go func() {
		_, err := get(otherCtx, other, etag, "modes=snapshot,delta;wait=120")
		otherDone <- err
	}()
	bundle := policyBundle("for-one", map[string]string{"rules.rego": allowing("for-one", "chat")})
	bundle.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"tier": "one"}}
	l.create(bundle)
	select {
	case resp := <-woken:
		if resp.StatusCode != http.StatusOK || resp.Header.Get("ETag") == etag {
			t.Errorf("woken with %d, ETag %s", resp.StatusCode, resp.Header.Get("ETag"))
		}
	case <-time.After(patience):
		t.Fatal("not woken")
	}
	select {
	case <-otherDone:
		t.Error("a namespace that the change does not concern was woken")
	default:
	}
	cancel()
	<-otherDone

	for name, token := range map[string]string{"no token": "", "another audience": l.token(l.pod(chosen, "second"), "vault")} {
		tokens["bad"] = token
		if resp, err := get(l.ctx, "bad", "", ""); err != nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %v, %v", name, resp, err)
		}
	}
}

func secret(namespace, name, value string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, StringData: map[string]string{"key": value}}
}

func modelProvider(name string, hosts []string, selector map[string]string, secretName string) *v1alpha1.ModelProvider {
	p := &v1alpha1.ModelProvider{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ModelProviderSpec{API: v1alpha1.APIOpenAI, Hosts: hosts}}
	if selector != nil {
		p.Spec.NamespaceSelector = &metav1.LabelSelector{MatchLabels: selector}
	}
	if secretName != "" {
		p.Spec.Credential = &v1alpha1.ProviderCredential{SecretRef: corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: secretName}, Key: "key"}}
	}
	return p
}

func TestASidecarNeverGetsAnothersCredential(t *testing.T) {
	l := newLab(t)
	a, b := l.agents(map[string]string{"team": "a"}), l.agents(map[string]string{"team": "b"})
	l.create(secret(l.namespace, "key-a", "sk-a\n"))
	l.create(secret(l.namespace, "key-b", "sk-b\n"))
	l.create(modelProvider("for-a", []string{"api.model.test"}, map[string]string{"team": "a"}, "key-a"))
	l.create(modelProvider("for-b", []string{"api.model.test"}, map[string]string{"team": "b"}, "key-b"))
	r := l.start()
	podB := l.pod(b, "agent")
	got := l.sidecar(r, l.pod(a, "agent"), b+"/agent/"+string(podB.UID)).next(t, "anything", func(xdsclient.Snapshot) bool { return true })
	if len(got.Secrets) != 1 || string(got.Secrets["credential/for-a"]) != "sk-a" || len(got.Providers) != 1 || got.Config.GetNamespace() != a {
		t.Errorf("got %+v", got)
	}
	l.sidecar(r, podB, "").next(t, "its own", func(s xdsclient.Snapshot) bool { return string(s.Secrets["credential/for-b"]) == "sk-b" })
}

func TestProvidersAndProfilesReachSidecars(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(map[string]string{"team": "a"})
	first := modelProvider("first", []string{"api.model.test"}, nil, "key")
	l.create(first)
	r := l.start()
	s := l.sidecar(r, l.pod(namespace, "agent"), "")
	s.next(t, "the provider without its credential", func(s xdsclient.Snapshot) bool {
		return len(s.Providers) == 1 && s.Providers[0].GetCredential() == "credential/first" && len(s.Secrets) == 0 && s.Config.GetMode() == "enforce"
	})
	reason := func(p *v1alpha1.ModelProvider, reason string) func() bool {
		return func() bool {
			l.get(p)
			return condition(p.Status.Conditions, v1alpha1.ConditionReady, p.Generation).Reason == reason
		}
	}
	l.until("the missing credential is reported", reason(first, reasonCredentialMissing))
	l.create(secret(l.namespace, "key", "sk-1"))
	s.next(t, "the credential", func(s xdsclient.Snapshot) bool { return string(s.Secrets["credential/first"]) == "sk-1" })
	l.until("the provider is ready and acknowledged", func() bool {
		return reason(first, reasonReady)() && first.Status.Sidecars == v1alpha1.SidecarCounts{Total: 1, Current: 1}
	})

	second := modelProvider("second", []string{"other.model.test", "api.model.test"}, nil, "")
	l.create(second)
	l.until("the conflict is reported", reason(second, reasonHostConflict))
	bad := modelProvider("third", []string{"api.model.1"}, nil, "")
	l.create(bad)
	l.until("the host is refused", reason(bad, reasonInvalid))

	l.create(&v1alpha1.EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: "team-a"}, Spec: v1alpha1.EgressProfileSpec{
		NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "a"}}, KillSwitch: true, Mode: v1alpha1.ModeObserve,
		Passthrough:     []v1alpha1.PassthroughRule{{Host: "pypi.test", Ports: []int32{443}}, {Host: "both.test", CIDR: "10.0.0.0/8"}},
		MaxRequestBytes: 64 << 20, Timeouts: v1alpha1.TimeoutsSpec{Idle: lasting(90 * time.Second)}, Limits: v1alpha1.LimitsSpec{HeldResponseBytes: 1 << 20},
	}})
	got := s.next(t, "the kill switch", func(s xdsclient.Snapshot) bool { return s.Config.GetKillSwitch() })
	if got.Config.GetMode() != "observe" || len(got.Config.GetPassthrough()) != 1 || got.Config.GetPassthrough()[0].GetHost() != "pypi.test" || len(got.Providers) != 1 {
		t.Errorf("got %v, %v", got.Config, got.Providers)
	}
	if c := got.Config; c.GetMaxRequestBytes() != 64<<20 || c.GetTimeouts().GetIdle().AsDuration() != 90*time.Second || c.GetTimeouts().GetConnect() != nil || c.GetLimits().GetHeldResponseBytes() != 1<<20 {
		t.Errorf("got %v", c)
	}
	profile := &v1alpha1.EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: "team-a"}}
	l.until("the wrong rule is reported", func() bool {
		l.get(profile)
		c := condition(profile.Status.Conditions, v1alpha1.ConditionAccepted, profile.Generation)
		return c.Status == metav1.ConditionFalse && strings.Contains(c.Message, "passthrough[1]")
	})
	s.stop()
	l.until("the sidecar is counted no more", func() bool {
		l.get(first)
		return first.Status.Sidecars.Total == 0
	})
}

// What is plainly wrong with a provider the API server refuses, saying what would be right.
func TestProvidersAreCheckedAtTheDoor(t *testing.T) {
	l := newLab(t)
	for name, tt := range map[string]struct {
		change func(*v1alpha1.ModelProviderSpec)
		want   string // "" where it is right
	}{
		"every member": {func(s *v1alpha1.ModelProviderSpec) {
			s.BasePath, s.Plaintext, s.Port, s.Addresses = "/openai/v2", true, 8000, []string{"127.0.0.1", "fd00::1"}
		}, ""},
		"unknown API":                    {func(s *v1alpha1.ModelProviderSpec) { s.API = "smtp" }, "Unsupported value"},
		"host with a port":               {func(s *v1alpha1.ModelProviderSpec) { s.Hosts = []string{"api.model.test:443"} }, "should match"},
		"plaintext without a port":       {func(s *v1alpha1.ModelProviderSpec) { s.Plaintext = true }, "needs a port of its own"},
		"plaintext with roots":           {func(s *v1alpha1.ModelProviderSpec) { s.Plaintext, s.Port, s.CABundle = true, 80, "x" }, "has no certificate"},
		"base path that ends in a slash": {func(s *v1alpha1.ModelProviderSpec) { s.BasePath = "/openai/" }, "should match"},
		"base path with dots":            {func(s *v1alpha1.ModelProviderSpec) { s.BasePath = "/a/../b" }, "should match"},
		"address that is a name":         {func(s *v1alpha1.ModelProviderSpec) { s.Addresses = []string{"localhost"} }, "must be an IP address"},
		"address with a port":            {func(s *v1alpha1.ModelProviderSpec) { s.Addresses = []string{"10.0.0.1:80"} }, "must be an IP address"},
		"address given twice":            {func(s *v1alpha1.ModelProviderSpec) { s.Addresses = []string{"10.0.0.1", "10.0.0.1"} }, "Duplicate value"},
	} {
		t.Run(name, func(t *testing.T) {
			p := modelProvider("at-the-door", []string{"api.model.test"}, nil, "")
			tt.change(&p.Spec)
			err := l.client.Create(t.Context(), p)
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err == nil {
				verdictIs(t, checkProvider(&p.Spec), "")
				if err := l.client.Delete(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
		})
	}
	ready, err := filepath.Glob("../../deploy/components/providers/*/provider.yaml")
	if err != nil || len(ready) == 0 {
		t.Fatalf("no provider is ready to use (%v)", err)
	}
	for _, file := range ready {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var p v1alpha1.ModelProvider
		if err := yaml.UnmarshalStrict(text, &p); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		l.create(&p)
		verdictIs(t, checkProvider(&p.Spec), "")
	}
	for _, api := range v1alpha1.ModelProviderAPIs() {
		p := modelProvider("api-"+string(api), []string{string(api) + ".model.test"}, nil, "")
		p.Spec.API = api
		l.create(p)
	}
}

// What is plainly wrong with a profile the API server refuses, saying what would be right.
func TestProfilesAreCheckedAtTheDoor(t *testing.T) {
	l := newLab(t)
	for name, tt := range map[string]struct {
		spec string
		want string // "" where it is right
	}{
		"every setting": {`{"maxRequestBytes": 67108864, "timeouts": {"requestBody": "90s", "connect": "500ms", "firstByte": "1h30m", "idle": "24h", "hold": "2.5s"},
			"limits": {"memoryBytes": 268435456, "heldToolCallBytes": 1024, "heldResponseBytes": 67108864}}`, ""},
		"the defaults":      {`{"maxRequestBytes": 0, "timeouts": {"idle": "0s"}, "limits": {"memoryBytes": 0}}`, ""},
		"larger requests":   {`{"maxRequestBytes": 67108865}`, "should be less than or equal to 67108864"},
		"negative requests": {`{"maxRequestBytes": -1}`, "should be greater than or equal to 0"},
		"negative timeout":  {`{"timeouts": {"connect": "-1s"}}`, "spec.timeouts.connect: Invalid value: \"-1s\": must be a duration such as 500ms, 30s or 1h30m: not negative, and 24h at most"},
		"no unit":           {`{"timeouts": {"hold": "10"}}`, "must be a duration such as"},
		"a number":          {`{"timeouts": {"hold": 10}}`, "must be of type string"},
		"too long":          {`{"timeouts": {"idle": "24h1s"}}`, "24h at most"},
		"beyond all hours":  {`{"timeouts": {"idle": "999999h999999h"}}`, "spec.timeouts.idle"},
		"unknown timeout":   {`{"timeouts": {"total": "1m"}}`, "unknown field \"spec.timeouts.total\""},
		"negative memory":   {`{"limits": {"memoryBytes": -1}}`, "should be greater than or equal to 0"},
		"every setting of the detector": {`{"detector": {"falsePositivesPerMillion": 999999, "minCalls": 2048, "minSessions": 1, "cold": "Deny", "retrainCalls": 100, "retrainInterval": "90m", "sharedPrior": true,
			"priorScope": "Namespace", "canaries": [{"name": "a", "value": "12345678"}, {"name": "b-2", "value": "the words of a decoy"}]}}`, ""},
		"budget of everything":    {`{"detector": {"falsePositivesPerMillion": 1000000}}`, "should be less than or equal to 999999"},
		"more than is kept":       {`{"detector": {"minCalls": 2049}}`, "should be less than or equal to 2048"},
		"half cold":               {`{"detector": {"cold": "Maybe"}}`, `Unsupported value: "Maybe": supported values: "Abstain", "Deny"`},
		"prior of everybody":      {`{"detector": {"priorScope": "World"}}`, `Unsupported value: "World"`},
		"always retrained":        {`{"detector": {"retrainInterval": "59s"}}`, "must be a duration such as 90m or 24h: 1m at least, and 2160h at most"},
		"never retrained":         {`{"detector": {"retrainInterval": "2161h"}}`, "1m at least, and 2160h at most"},
		"canary without a name":   {`{"detector": {"canaries": [{"value": "12345678"}]}}`, "spec.detector.canaries[0].name: Required value"},
		"canary's name":           {`{"detector": {"canaries": [{"name": "A", "value": "12345678"}]}}`, "must be lower-case letters, digits and hyphens"},
		"short canary":            {`{"detector": {"canaries": [{"name": "a", "value": "1234567"}]}}`, "must be 8 to 256 bytes long"},
		"long canary":             {`{"detector": {"canaries": [{"name": "a", "value": "` + strings.Repeat("x", 257) + `"}]}}`, "may not be more than 256"},
		"canary with white space": {`{"detector": {"canaries": [{"name": "a", "value": "123456789 "}]}}`, "must be printable ASCII, and not begin or end with a space"},
		"canary in letters":       {`{"detector": {"canaries": [{"name": "a", "value": "канарейка"}]}}`, "must be printable ASCII"},
		"two canaries of a name":  {`{"detector": {"canaries": [{"name": "a", "value": "12345678"}, {"name": "a", "value": "87654321"}]}}`, `Duplicate value: {"name":"a"}`},
		"held too much":           {`{"limits": {"heldToolCallBytes": 67108865}}`, "should be less than or equal to 67108864"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &unstructured.Unstructured{}
			text := `{"apiVersion": "sallyport.dev/v1alpha1", "kind": "EgressProfile", "metadata": {"name": "at-the-door"}, "spec": ` + tt.spec + `}`
			if err := p.UnmarshalJSON([]byte(text)); err != nil {
				t.Fatal(err)
			}
			err := l.client.Create(t.Context(), p, client.FieldValidation("Strict"))
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err == nil {
				typed := &v1alpha1.EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: p.GetName()}}
				l.get(typed)
				verdictIs(t, checkProfile(&typed.Spec), "")
				if err := l.client.Delete(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestTheTimeOfIssueNeverGoesBack(t *testing.T) {
	l := newLab(t)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	at := time.Now()
	first := &clock{keeper: k, now: func() time.Time { return at }}
	must(t, first.restore(l.ctx))
	last := first.issue()
	if next := first.issue(); !next.After(last) {
		t.Errorf("%v after %v", next, last)
	}
	at = at.Add(-time.Hour)
	second := &clock{keeper: k, now: func() time.Time { return at }}
	must(t, second.restore(l.ctx))
	if next := second.issue(); !next.After(last) {
		t.Errorf("%v after %v on another leader", next, last)
	}
}

func TestPreferredWait(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"":                                0,
		"modes=snapshot,delta;wait=30":    30 * time.Second,
		"respond-async, wait=10":          10 * time.Second,
		"wait=100000":                     maxWait,
		"wait=-1":                         0,
		"wait=99999999999999999999":       0,
		"await=5":                         0,
		"modes=snapshot,delta;wait=\"7\"": 7 * time.Second,
	} {
		if got := preferredWait([]string{header}); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func FuzzStatusReport(f *testing.F) {
	f.Add([]byte(`{"labels":{},"bundles":{"policy":{"name":"policy","active_revision":"abc","code":"bundle_error","message":"no","errors":[{"code":"x"}]}}}`))
	f.Add([]byte(`{"bundles":{"a":{"active_revision":"1"},"b":{"active_revision":"2"},"c":null}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		state, err := parseStatus(body)
		if err == nil && len([]rune(state.Error)) > maxMessageRunes+2 {
			t.Errorf("message of %d runes", len([]rune(state.Error)))
		}
	})
}

func FuzzWithoutRoot(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := withoutRoot(b); err == nil && !bufio.NewScanner(bytes.NewReader(out)).Scan() {
			t.Error("an empty chain")
		}
	})
}
