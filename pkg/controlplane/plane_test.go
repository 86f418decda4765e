package controlplane

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
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
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
	"sallyport.dev/sallyport/pkg/xds"
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

// record is the decision record of a benign call, with a workload that is not the sender's.
func record(random *rand.Rand, i int, change func(*telemetry.Record)) []byte {
	r := telemetry.Record{ID: fmt.Sprint(i), Outcome: telemetry.OutcomeReleased, Action: policy.ActionAllow, Schema: features.SchemaID, Features: make([]float32, features.Size)}
	for f := range r.Features {
		r.Features[f] = float32(random.NormFloat64())
	}
	r.Workload = policy.Workload{Namespace: "kube-system", Kind: "Deployment", Name: "forged"}
	r.Session.ID = fmt.Sprintf("session-%d", i%40)
	if change != nil {
		change(&r)
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return b
}

func TestAModelIsLearnedAndSurvivesARestart(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	l.create(&v1alpha1.EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultProfile}, Spec: v1alpha1.EgressProfileSpec{
		Detector: v1alpha1.DetectorSpec{MinCalls: 64, MinSessions: 4, FalsePositivesPerMillion: 50_000},
	}})
	r := l.start()
	pod := l.pod(namespace, "agent")
	s := l.sidecar(r, pod, "")
	s.next(t, "anything", func(xdsclient.Snapshot) bool { return true })
	baseline := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "pod-agent"}}
	l.until("there is a Baseline", func() bool {
		return l.client.Get(l.ctx, client.ObjectKeyFromObject(baseline), baseline) == nil && baseline.Status.Phase == v1alpha1.BaselineLearning
	})

	random := rand.New(rand.NewPCG(1, 2))
	for i := range 80 {
		s.SendRecord(record(random, i, nil))
	}
	s.SendRecord(record(random, 81, func(r *telemetry.Record) { r.Outcome = telemetry.OutcomeRefused }))
	s.SendRecord(record(random, 82, func(r *telemetry.Record) { r.Outcome = telemetry.OutcomeRelaxed }))
	s.SendRecord(record(random, 83, func(r *telemetry.Record) { r.Session.Tainted = true }))
	s.SendRecord(record(random, 84, func(r *telemetry.Record) { r.Schema = "of tomorrow" }))
	s.SendRecord([]byte("not json"))
	got := s.next(t, "a model", func(s xdsclient.Snapshot) bool { return s.Model != nil })
	model, err := detector.Load(got.Model.GetModel())
	must(t, err)
	if model.Digest() != got.Model.GetDigest() || got.Model.GetSchema() != features.SchemaID {
		t.Errorf("digest %s, schema %s", got.Model.GetDigest(), got.Model.GetSchema())
	}
	l.until("the Baseline is ready", func() bool {
		l.get(baseline)
		return baseline.Status.Phase == v1alpha1.BaselineReady && baseline.Status.ModelDigest == model.Digest()[:12] && baseline.Status.Calls == 80 && baseline.Status.Rejected == 3
	})
	if known := r.learner.known(); len(known) != 1 || known[0] != (xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"}) {
		t.Errorf("learned of %v", known)
	}

	// Another budget sets another threshold.
	profile := &v1alpha1.EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultProfile}}
	l.get(profile)
	l.update(profile, func() { profile.Spec.Detector.FalsePositivesPerMillion = 200_000 })
	got = s.next(t, "a model for the new budget", func(s xdsclient.Snapshot) bool { return s.Model.GetDigest() != model.Digest() })
	if model, err = detector.Load(got.Model.GetModel()); err != nil || model.Info().FalsePositivesPerMillion != 200_000 {
		t.Fatalf("budget %d, %v", model.Info().FalsePositivesPerMillion, err)
	}

	// While it is frozen nothing is learned.
	l.update(baseline, func() { baseline.Spec.Freeze = true })
	l.until("the Baseline is frozen", func() bool { l.get(baseline); return baseline.Status.Phase == v1alpha1.BaselineFrozen })
	s.SendRecord(record(random, 90, nil))
	l.until("the record has arrived", func() bool { return s.Stats().Queued == 0 })

	r.stop()
	r = l.start()
	again := l.sidecar(r, pod, "")
	after := again.next(t, "anything", func(xdsclient.Snapshot) bool { return true })
	if after.Model.GetDigest() != model.Digest() || !bytes.Equal(after.Model.GetModel(), got.Model.GetModel()) {
		t.Errorf("after a restart the model is %q", after.Model.GetDigest())
	}
	state := r.learner.state(xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"})
	if !state.Frozen || state.Calls != 80 {
		t.Errorf("after a restart: %+v", state)
	}
	if stats := s.Stats(); len(s.snapshots) != 0 {
		t.Errorf("the connected sidecar was sent %d snapshots though nothing changed; %+v", len(s.snapshots), stats)
	}

	// Deleting the Baseline forgets, and begins anew.
	must(t, l.client.Delete(l.ctx, baseline))
	again.next(t, "no model", func(s xdsclient.Snapshot) bool { return s.Model == nil })
	l.until("learning begins anew", func() bool {
		return l.client.Get(l.ctx, client.ObjectKeyFromObject(baseline), baseline) == nil && baseline.Status.Phase == v1alpha1.BaselineLearning && baseline.Status.Calls == 0
	})
}

// salted gives every workload the same salt.
func salted(salt uint64) func(xds.Workload) uint64 { return func(xds.Workload) uint64 { return salt } }

// TestAFullBaselineIsKept holds the largest baseline that there is against what the API takes.
func TestAFullBaselineIsKept(t *testing.T) {
	l := newLab(t)
	w := xds.Workload{Namespace: "agents", Kind: "Deployment", Name: "web"}
	have := &learned{reservoir: detector.NewReservoir(reservoirCapacity, seed(w)), source: v1alpha1.ModelOwn, trainedAt: time.Now().UTC().Truncate(time.Second), admitted: 2048}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 2 * reservoirCapacity {
		row := detector.Row{Session: fmt.Sprintf("session-%d", i%400)}
		for f := range row.Vector {
			row.Vector[f] = float32(random.NormFloat64())
		}
		row.Evidence = wordy(random)
		have.reservoir.Add(row, detector.Admission{Released: true})
		call := recentCall{id: fmt.Sprint(i), row: row, label: v1alpha1.LabelAttack, counted: true}
		have.recent.exceeded = push(have.recent.exceeded, call, maxExceeded)
		have.recent.others = push(have.recent.others, call, maxSampled)
		have.labels = push(have.labels, call, maxLabels)
	}
	have.spoken, have.own, have.lent, have.said = 3, 2048, 1, "said"
	have.recent.tally = tally{Judged: 7, Exceeded: 1}
	model, err := detector.Train(have.reservoir.Rows(), detector.Options{})
	must(t, err)
	have.model = model
	content, err := encodeLearned(w, 7, have)
	must(t, err)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	must(t, k.save(l.ctx, keptBaseline, workloadName(w), content))
	all, unusable, err := k.load(l.ctx, keptBaseline)
	must(t, err)
	if len(all) != 1 || len(unusable) != 0 {
		t.Fatalf("found %d, unusable %v", len(all), unusable)
	}
	gotW, got, err := decodeLearned(all[0].content, salted(7))
	must(t, err)
	if gotW != w || got.model.Digest() != model.Digest() || got.reservoir.Counts() != have.reservoir.Counts() || !got.trainedAt.Equal(have.trainedAt) || got.admitted != have.admitted {
		t.Errorf("kept %+v, found %+v", have, got)
	}
	if !reflect.DeepEqual(got.recent, have.recent) || !reflect.DeepEqual(got.labels, have.labels) || got.spoken == got.heard || got.own != 2048 || got.lent != 1 || got.said != have.said || got.source != have.source {
		t.Errorf("kept %d, %d and %d calls, found %d, %d and %d; %+v", len(have.recent.exceeded), len(have.recent.others), len(have.labels), len(got.recent.exceeded), len(got.recent.others), len(got.labels), got.recent.tally)
	}
	encoded, _ := model.MarshalBinary()
	t.Logf("model %d bytes, baseline %d bytes", len(encoded), len(content))
}

func TestWhatIsKeptInPieces(t *testing.T) {
	l := newLab(t)
	k := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	random := rand.NewChaCha8([32]byte{1})
	content := make([]byte, 3*maxPieceBytes)
	load := func() map[string][]byte {
		t.Helper()
		all, unusable, err := k.load(l.ctx, keptBaseline)
		must(t, err)
		if len(unusable) > 0 {
			t.Fatal(unusable)
		}
		out := map[string][]byte{}
		for _, one := range all {
			out[one.id] = one.content
		}
		return out
	}
	for _, size := range []int{0, 10, len(content), maxPieceBytes + 10, 5, len(content)} {
		_, _ = random.Read(content)
		must(t, k.save(l.ctx, keptBaseline, "a/B/c", content[:size]))
		must(t, k.save(l.ctx, keptBundle, "other", content[:1]))
		if got := load(); len(got) != 1 || !bytes.Equal(got["a/B/c"], content[:size]) {
			t.Fatalf("%d bytes kept, %d found", size, len(got["a/B/c"]))
		}
	}
	// A piece that is missing is noticed.
	var pieces corev1.ConfigMapList
	must(t, l.client.List(l.ctx, &pieces, client.InNamespace(l.namespace), client.MatchingLabels{componentLabel: keptBaseline}))
	if len(pieces.Items) != 5 {
		t.Errorf("%d ConfigMaps for %d bytes", len(pieces.Items), len(content))
	}
	for i := range pieces.Items {
		if strings.HasSuffix(pieces.Items[i].Name, "-1") {
			must(t, l.client.Delete(l.ctx, &pieces.Items[i]))
		}
	}
	all, unusable, err := k.load(l.ctx, keptBaseline)
	must(t, err)
	if len(all) != 0 || len(unusable) != 1 {
		t.Errorf("found %d, unusable %v", len(all), unusable)
	}
	must(t, k.remove(l.ctx, keptBaseline, "a/B/c"))
	must(t, k.remove(l.ctx, keptBaseline, "a/B/c"))
	must(t, l.client.List(l.ctx, &pieces, client.InNamespace(l.namespace), client.MatchingLabels{componentLabel: keptBaseline}))
	if len(pieces.Items) != 0 {
		t.Errorf("%d ConfigMaps are left", len(pieces.Items))
	}
}

// A leader that was replaced does not write over what its successor wrote.
func TestALateWrite(t *testing.T) {
	l := newLab(t)
	first := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	second := &keeper{client: l.client, reader: l.client, namespace: l.namespace}
	must(t, first.save(l.ctx, keptBaseline, "a/B/c", []byte("one")))
	must(t, first.saveLast(l.ctx, keptBaseline, "a/B/c", []byte("two")))
	must(t, first.saveLast(l.ctx, keptBaseline, "a/B/new", []byte("one")))
	all, _, err := second.load(l.ctx, keptBaseline)
	must(t, err)
	if len(all) != 2 {
		t.Fatalf("%d are kept", len(all))
	}
	must(t, second.save(l.ctx, keptBaseline, "a/B/c", []byte("three")))
	must(t, second.remove(l.ctx, keptBaseline, "a/B/new"))
	for _, id := range []string{"a/B/c", "a/B/new"} {
		if err := first.saveLast(l.ctx, keptBaseline, id, []byte("four")); !errors.Is(err, errSuperseded) {
			t.Errorf("%s: %v", id, err)
		}
	}
	all, _, err = second.load(l.ctx, keptBaseline)
	must(t, err)
	if len(all) != 1 || string(all[0].content) != "three" {
		t.Errorf("%d are kept, the first %q", len(all), all[0].content)
	}
	must(t, second.saveLast(l.ctx, keptBaseline, "a/B/c", []byte("five")))
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

func FuzzKeptBaseline(f *testing.F) {
	w := xds.Workload{Namespace: "a", Kind: "Pod", Name: "b"}
	good, err := encodeLearned(w, 7, &learned{reservoir: detector.NewReservoir(reservoirCapacity, seed(w))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		w, have, err := decodeLearned(b, salted(7))
		if err == nil {
			if _, err := encodeLearned(w, 7, have); err != nil {
				t.Errorf("read but not written: %v", err)
			}
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
