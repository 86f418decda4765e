package feedback

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/controlplane/apiservertest"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

func TestMain(m *testing.M) { os.Exit(apiservertest.Main(m)) }

const (
	seen   = "0198e7a4-1111-7bbb-8ccc-000000000001"
	logged = "0198e7a4-2222-7bbb-8ccc-000000000002"
	tunnel = "0198e7a4-3333-7bbb-8ccc-000000000003"
)

// cluster is a namespace with the Baseline of a workload that had a call over the threshold.
func cluster(t *testing.T, namespace string) client.Client {
	t.Helper()
	t.Setenv("KUBECONFIG", apiservertest.Kubeconfig(t))
	scheme := runtime.NewScheme()
	must(t, errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)))
	c, err := client.New(apiservertest.Config(t), client.Options{Scheme: scheme})
	must(t, err)
	must(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	for _, name := range []string{"deployment-triage", "job-nightly"} {
		b := &v1alpha1.Baseline{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		must(t, c.Create(t.Context(), b))
		if name == "deployment-triage" {
			b.Status.Exceeded = []v1alpha1.ExceededCall{{ID: seen}, {ID: "0198e7a4-1111-7bbb-8ccc-000000000009"}}
			must(t, c.Status().Update(t.Context(), b))
		}
	}
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// answer does what the controller does, once: it takes the annotation away and says what became of it. It returns the annotation.
func answer(ctx context.Context, c client.Client, namespace, name, said string) <-chan string {
	got := make(chan string, 1)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			var b v1alpha1.Baseline
			if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &b); err != nil || b.Annotations[v1alpha1.FeedbackAnnotation] == "" {
				continue
			}
			annotation := b.Annotations[v1alpha1.FeedbackAnnotation]
			b.Status.Feedback = &v1alpha1.FeedbackStatus{Last: said}
			if c.Status().Update(ctx, &b) != nil {
				continue
			}
			delete(b.Annotations, v1alpha1.FeedbackAnnotation)
			if c.Update(ctx, &b) == nil {
				got <- annotation
				return
			}
		}
	}()
	return got
}

func command(args ...string) (string, error) {
	cmd := New()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs(args)
	cmd.SilenceErrors = true
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

func TestFeedback(t *testing.T) {
	c := cluster(t, "agents")
	got := answer(t.Context(), c, "agents", "deployment-triage", seen+" is labelled attack: the next model is trained with it")
	out, err := command("-n", "agents", "--attack", seen)
	if err != nil || !strings.Contains(out, "baseline deployment-triage in namespace agents: "+seen+" is labelled attack") {
		t.Errorf("%q, %v", out, err)
	}
	if annotation := <-got; annotation != seen+"=attack" {
		t.Errorf("annotation %q", annotation)
	}
	answer(t.Context(), c, "agents", "deployment-triage", "Not known: "+seen)
	if _, err := command("-n", "agents", "--false-positive", seen); err == nil || !strings.Contains(err.Error(), "Not known: "+seen) {
		t.Errorf("a label that was not taken up: %v", err)
	}
	// Labels that wait are not lost.
	var b v1alpha1.Baseline
	must(t, annotate(t.Context(), c, "agents", "deployment-triage", "a=attack"))
	must(t, annotate(t.Context(), c, "agents", "deployment-triage", "b=attack"))
	must(t, c.Get(t.Context(), client.ObjectKey{Namespace: "agents", Name: "deployment-triage"}, &b))
	if got := b.Annotations[v1alpha1.FeedbackAnnotation]; got != "a=attack,b=attack" {
		t.Errorf("annotation %q", got)
	}
}

func TestErrors(t *testing.T) {
	cluster(t, "errors")
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no label":           {[]string{"-n", "errors", seen}, "at least one of the flags in the group [false-positive attack]"},
		"two labels":         {[]string{"-n", "errors", "--attack", "--false-positive", seen}, "none of the others can be"},
		"no ID":              {[]string{"-n", "errors", "--attack"}, "accepts 1 arg"},
		"no ID at all":       {[]string{"-n", "errors", "--attack", "a=b"}, "is no decision's ID; accepted are"},
		"unknown":            {[]string{"-n", "errors", "--attack", "0198e7a4-9999-7bbb-8ccc-000000000001"}, "neither a baseline of namespace errors nor a sidecar's log there names it"},
		"of several":         {[]string{"-n", "errors", "--attack", "0198e7a4-1111"}, "2 calls have an ID that begins with 0198e7a4-1111"},
		"too little":         {[]string{"-n", "errors", "--attack", "0198e7a4-111"}, "no call 0198e7a4-111"},
		"another namespace":  {[]string{"-n", "elsewhere", "--attack", seen}, "namespace elsewhere has no baselines"},
		"nobody takes it up": {[]string{"-n", "errors", "--attack", "--timeout", "1s", seen}, "does the controller run?"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := command(tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want an error with %q", err, tt.want)
			}
		})
	}
	t.Setenv("KUBECONFIG", "/nowhere")
	if _, err := command("--attack", seen); err == nil || !strings.Contains(err.Error(), "find the cluster") {
		t.Errorf("without a cluster: %v", err)
	}
}

// Calls that no Baseline names are found in the sidecars' logs.
func TestLogs(t *testing.T) {
	c := cluster(t, "logs")
	records := []*telemetry.Record{
		{ID: "other", Features: []float32{1}},
		{ID: logged, Workload: policy.Workload{Kind: "Job", Name: "nightly"}, Features: []float32{1}},
		{ID: tunnel},
	}
	f := finder{client: c, namespace: "logs", logs: func(_ context.Context, each record.Each) (int, error) {
		for _, r := range records {
			if err := each(r); err != nil {
				return 1, err
			}
		}
		return 1, nil
	}}
	if id, baseline, err := f.find(t.Context(), logged[:14]); err != nil || id != logged || baseline != "job-nightly" {
		t.Errorf("%s, %s, %v", id, baseline, err)
	}
	if _, _, err := f.find(t.Context(), tunnel); err == nil || !strings.Contains(err.Error(), "nothing to learn from it") {
		t.Errorf("a tunnel: %v", err)
	}
	f.logs = func(context.Context, record.Each) (int, error) { return 0, errors.New("forbidden") }
	if _, _, err := f.find(t.Context(), logged); err == nil || !strings.Contains(err.Error(), "the sidecars' logs cannot be read: forbidden") {
		t.Errorf("without logs: %v", err)
	}
}
