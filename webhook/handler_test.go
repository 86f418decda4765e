package webhook

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	"sigs.k8s.io/yaml"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

// goldenPod is a Pod document of an input file, with what else the file holds.
type goldenPod struct {
	file       string
	index      int // among the file's documents
	raw        json.RawMessage
	namespaces []client.Object
}

func goldenPods(t testing.TB) []goldenPod {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "inject", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	var pods []goldenPod
	for _, file := range files {
		var objects []client.Object
		var found []goldenPod
		for i, document := range documents(t, file) {
			var kind metav1.TypeMeta
			if err := json.Unmarshal(document, &kind); err != nil {
				t.Fatal(err)
			}
			switch kind.Kind {
			case "Namespace":
				objects = append(objects, decode(t, document, &corev1.Namespace{}))
			case "EgressProfile":
				objects = append(objects, decode(t, document, &v1alpha1.EgressProfile{}))
			case "Pod":
				found = append(found, goldenPod{file: filepath.Base(file), index: i, raw: document})
			}
		}
		for i := range found {
			found[i].namespaces = objects
		}
		pods = append(pods, found...)
	}
	return pods
}

func decode[T any](t testing.TB, raw []byte, into T) T {
	t.Helper()
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
	return into
}

func documents(t testing.TB, file string) []json.RawMessage {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	var out []json.RawMessage
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		object, err := yaml.YAMLToJSON(document)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, object)
	}
}

// recorder keeps the Events it is given.
type recorder struct{ events []string }

func (r *recorder) Eventf(regarding, _ runtime.Object, kind, reason, action, note string, args ...any) {
	about := regarding.(*metav1.PartialObjectMetadata)
	r.events = append(r.events, fmt.Sprintf("%s %s/%s %s %s", kind, about.Kind, about.Name, reason, fmt.Sprintf(note, args...)))
}

func newTestHandler(t testing.TB, events *recorder, objects ...client.Object) (*Handler, *prometheus.Registry) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	config := testConfig(t)
	registry := prometheus.NewRegistry()
	h, err := NewHandler(HandlerOptions{
		Reader:     fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(),
		Config:     func() (*Config, error) { return config, nil },
		Events:     events,
		Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h, registry
}

func podRequest(namespace string, raw []byte) admission.Request {
	return admission.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID:       "1",
		Operation: admissionv1.Create,
		Resource:  metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Namespace: namespace,
		Object:    runtime.RawExtension{Raw: raw},
	}}
}

// TestHandlerGoldens holds the webhook to what the command line wrote for the same pods.
func TestHandlerGoldens(t *testing.T) {
	for _, p := range goldenPods(t) {
		t.Run(fmt.Sprintf("%s/%d", p.file, p.index), func(t *testing.T) {
			h, _ := newTestHandler(t, &recorder{}, p.namespaces...)
			namespace := decode(t, p.raw, &corev1.Pod{}).Namespace
			response := h.Handle(context.Background(), podRequest(namespace, p.raw))
			golden := strings.TrimSuffix(filepath.Join("testdata", "inject", p.file), ".yaml") + ".golden"
			if !response.Allowed {
				report, err := os.ReadFile(strings.TrimSuffix(golden, ".golden") + ".report")
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Contains(report, []byte(response.Result.Message)) {
					t.Errorf("the report of the command line lacks %q", response.Result.Message)
				}
				return
			}
			got := p.raw
			if len(response.Patches) > 0 {
				encoded, err := json.Marshal(response.Patches)
				if err != nil {
					t.Fatal(err)
				}
				patch, err := jsonpatch.DecodePatch(encoded)
				if err != nil {
					t.Fatal(err)
				}
				if got, err = patch.Apply(p.raw); err != nil {
					t.Fatal(err)
				}
			}
			want := documents(t, golden)[p.index]
			if !jsonpatch.Equal(got, want) {
				t.Errorf("the webhook's pod differs from the command line's:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestHandlerFailsClosed(t *testing.T) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "agents", Labels: labelled.Labels}}
	pod, err := json.Marshal(plainPod())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		edit    func(*Handler, *admission.Request)
		reason  Reason
		code    int32
		message string
	}{
		{"no pod", func(_ *Handler, r *admission.Request) { r.Object.Raw = []byte(`{"spec":5}`) }, ReasonUndecodable, 400, "does not decode"},
		{"unknown namespace", func(_ *Handler, r *admission.Request) { r.Namespace = "elsewhere" }, ReasonNamespaceUnknown, 503, `"elsewhere" is not known yet`},
		{"not ready", func(h *Handler, _ *admission.Request) {
			h.config = func() (*Config, error) { return nil, errors.New("no root certificate yet") }
		}, ReasonControllerNotReady, 503, "no root certificate yet"},
		{"namespaces unreadable", func(h *Handler, _ *admission.Request) { h.reader = brokenReader{Reader: h.reader, get: true} }, ReasonNamespaceUnknown, 503, "cache is away"},
		{"profiles unreadable", func(h *Handler, _ *admission.Request) { h.reader = brokenReader{Reader: h.reader} }, ReasonProfileUnknown, 503, "cache is away"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			events := &recorder{}
			h, registry := newTestHandler(t, events, ns)
			req := podRequest("agents", pod)
			tt.edit(h, &req)
			response := h.Handle(context.Background(), req)
			if response.Allowed || len(response.Patches) > 0 {
				t.Fatal("allowed")
			}
			if response.Result.Code != tt.code || !strings.Contains(response.Result.Message, tt.message) {
				t.Errorf("%d %q, want %d and %q", response.Result.Code, response.Result.Message, tt.code, tt.message)
			}
			want := fmt.Sprintf("# HELP sallyport_injection_total Pods that the webhook was asked about, by result (injected, skipped, refused) and reason.\n# TYPE sallyport_injection_total counter\nsallyport_injection_total{reason=%q,result=\"refused\"} 1\n", tt.reason)
			if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "sallyport_injection_total"); err != nil {
				t.Error(err)
			}
		})
	}
}

type brokenReader struct {
	client.Reader
	get bool
}

func (r brokenReader) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if r.get {
		return errors.New("the cache is away")
	}
	return r.Reader.Get(ctx, key, o, opts...)
}

func (r brokenReader) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("the cache is away")
}

func TestHandlerEvents(t *testing.T) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "agents", Labels: labelled.Labels}}
	profile := &v1alpha1.EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha1.EgressProfileSpec{AllowOptOut: true}}
	owned := plainPod()
	owned.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-1", UID: "u", Controller: new(true)}}
	out := owned.DeepCopy()
	out.Labels = map[string]string{v1alpha1.InjectLabel: v1alpha1.InjectDisabled}
	refused := plainPod()
	refused.Spec.HostNetwork = true
	injected, _ := Inject(plainPod(), labelled, testConfig(t))
	tests := []struct {
		name   string
		pod    *corev1.Pod
		dryRun bool
		want   string
	}{
		{"injected", owned, false, "Normal ReplicaSet/web-1 Injected [injected] "},
		{"skipped", out, false, "Normal ReplicaSet/web-1 InjectionSkipped [opt_out] "},
		{"refused, without an owner", refused, false, "Warning Namespace/agents InjectionRefused [host_network] "},
		{"dry run", owned, true, ""},
		{"the second call for one pod", injected, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			events := &recorder{}
			h, _ := newTestHandler(t, events, ns, profile)
			raw, err := json.Marshal(tt.pod)
			if err != nil {
				t.Fatal(err)
			}
			req := podRequest("agents", raw)
			req.DryRun = &tt.dryRun
			h.Handle(context.Background(), req)
			switch {
			case tt.want == "" && len(events.events) > 0:
				t.Errorf("events %q, want none", events.events)
			case tt.want != "" && (len(events.events) != 1 || !strings.HasPrefix(events.events[0], tt.want)):
				t.Errorf("events %q, want one that begins with %q", events.events, tt.want)
			}
		})
	}
}

func TestHandlerLeavesOthersAlone(t *testing.T) {
	h, _ := newTestHandler(t, &recorder{})
	for _, edit := range []func(*admission.Request){
		func(r *admission.Request) { r.Operation = admissionv1.Update },
		func(r *admission.Request) { r.Resource.Resource = "services" },
		func(r *admission.Request) { r.SubResource = "ephemeralcontainers" },
	} {
		req := podRequest("agents", []byte(`{}`))
		edit(&req)
		if response := h.Handle(context.Background(), req); !response.Allowed || len(response.Patches) > 0 {
			t.Errorf("%s %s/%s: %+v", req.Operation, req.Resource.Resource, req.SubResource, response)
		}
	}
}

func TestEventNoteIsBounded(t *testing.T) {
	note := eventNote(&Report{Reason: ReasonHostPath, Message: strings.Repeat("ä", 2000)})
	if len(note) > 1024 || !strings.HasSuffix(note, "...") || strings.ContainsRune(note, '\uFFFD') {
		t.Errorf("note of %d bytes: %q", len(note), note)
	}
}

func TestMetricsTwice(t *testing.T) {
	registry := prometheus.NewRegistry()
	if _, err := NewHandler(HandlerOptions{Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	if _, err := NewHandler(HandlerOptions{Registerer: registry}); err == nil {
		t.Error("registered twice without an error")
	}
}

func BenchmarkHandler(b *testing.B) {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "agents", Labels: labelled.Labels}}
	profile := &v1alpha1.EgressProfile{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	h, _ := newTestHandler(b, &recorder{}, ns, profile)
	h.events = nil
	raw, err := json.Marshal(plainPod())
	if err != nil {
		b.Fatal(err)
	}
	req := podRequest("agents", raw)
	b.ReportAllocs()
	for b.Loop() {
		if response := h.Handle(context.Background(), req); !response.Allowed {
			b.Fatal(response.Result.Message)
		}
	}
}
