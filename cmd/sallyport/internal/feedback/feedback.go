package feedback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/cmd/sallyport/internal/record"
	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// options are the flags of feedback.
type options struct {
	namespace     string
	falsePositive bool
	attack        bool
	timeout       time.Duration
}

// New returns the command "feedback".
func New() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "feedback [flags] ID",
		Short: "Tell the detector that a call was a false positive, or an attack",
		Long: `Tell the detector of a workload in a cluster what a call was. The call is looked for among those that the
namespace's Baselines name, then in the logs of its sidecars. The beginning of an ID will do where it is only
one's. The label is left in an annotation of the workload's Baseline; the controller takes it up, trains the next
model with it, and removes the annotation. It remembers the last calls of each workload that exceeded the
threshold, and a sample of the others: older ones cannot be labelled.

It takes the kubeconfig that kubectl does, and somebody who may get, list and patch baselines and, for calls that no
Baseline names, list pods and get pods/log.`,
		Example: `  sallyport feedback -n agents --false-positive 01a205f1-546b-7cc1-9394-277c26b664f9
  sallyport feedback --attack 01a205f1-546b
  kubectl annotate baseline -n agents deployment-triage sallyport.dev/feedback=01a205f1-546b-7cc1-9394-277c26b664f9=attack`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cmd.SilenceUsage = true
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return o.run(ctx, cmd.OutOrStdout(), args[0])
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.namespace, "namespace", "n", "", "the workload's namespace; the context's if not set")
	f.BoolVar(&o.falsePositive, v1alpha1.LabelFalsePositive, false, "the call was none to object to")
	f.BoolVar(&o.attack, v1alpha1.LabelAttack, false, "the call was an attack")
	f.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long to wait for the controller")
	cmd.MarkFlagsMutuallyExclusive(v1alpha1.LabelFalsePositive, v1alpha1.LabelAttack)
	cmd.MarkFlagsOneRequired(v1alpha1.LabelFalsePositive, v1alpha1.LabelAttack)
	return cmd
}

var callID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func (o *options) run(ctx context.Context, out io.Writer, id string) error {
	if !callID.MatchString(id) {
		return fmt.Errorf("%.80q is no decision's ID; accepted are letters, digits, dots and hyphens, as in the header of a refusal and in the log", id)
	}
	label := v1alpha1.LabelFalsePositive
	if o.attack {
		label = v1alpha1.LabelAttack
	}
	c, namespace, err := open(o.namespace)
	if err != nil {
		return err
	}
	f := finder{client: c, namespace: namespace, logs: func(ctx context.Context, each record.Each) (int, error) {
		cluster, err := record.OpenCluster(namespace, false)
		if err != nil {
			return 0, err
		}
		return cluster.Read(ctx, each)
	}}
	id, baseline, err := f.find(ctx, id)
	if err != nil {
		return err
	}
	if err := annotate(ctx, c, namespace, baseline, id+"="+label); err != nil {
		return err
	}
	said, err := o.wait(ctx, c, namespace, baseline)
	if err != nil {
		return err
	}
	if !strings.Contains(said, id+" is labelled "+label) {
		return fmt.Errorf("baseline %s in namespace %s: %s", baseline, namespace, said)
	}
	_, err = fmt.Fprintf(out, "baseline %s in namespace %s: %s\n", baseline, namespace, said)
	return err
}

// open uses the kubeconfig as kubectl does. An empty namespace is the context's.
func open(namespace string) (client.Client, string, error) {
	config := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{})
	rest, err := config.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("find the cluster: %w", err)
	}
	if namespace == "" {
		if namespace, _, err = config.Namespace(); err != nil {
			return nil, "", fmt.Errorf("find the cluster: %w", err)
		}
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, "", err
	}
	c, err := client.New(rest, client.Options{Scheme: scheme})
	if err != nil {
		return nil, "", fmt.Errorf("find the cluster: %w", err)
	}
	return c, namespace, nil
}

// finder finds out whose call it was.
type finder struct {
	client    client.Client
	namespace string
	logs      func(context.Context, record.Each) (pods int, err error)
}

// found is a call and the Baseline of its workload.
type found struct{ id, baseline string }

// find returns the call's full ID and the name of its workload's Baseline.
func (f *finder) find(ctx context.Context, id string) (full, baseline string, err error) {
	matches := func(other string) bool { return record.Matches(other, id) }
	calls := map[found]bool{}
	var list v1alpha1.BaselineList
	if err := f.client.List(ctx, &list, client.InNamespace(f.namespace)); err != nil {
		return "", "", fmt.Errorf("list baselines: %w", err)
	}
	if len(list.Items) == 0 {
		return "", "", fmt.Errorf("namespace %s has no baselines: no workload with a sidecar was ever there", f.namespace)
	}
	for i := range list.Items {
		for _, call := range list.Items[i].Status.Exceeded {
			if matches(call.ID) {
				calls[found{call.ID, list.Items[i].Name}] = true
			}
		}
	}
	if len(calls) == 0 {
		if err := f.inLogs(ctx, id, matches, calls); err != nil {
			return "", "", err
		}
	}
	if len(calls) > 1 {
		return "", "", fmt.Errorf("%d calls have an ID that begins with %s; give more of it", len(calls), id)
	}
	for call := range calls {
		return call.id, call.baseline, nil
	}
	return "", "", fmt.Errorf("no call %s: neither a baseline of namespace %s nor a sidecar's log there names it; is it of another namespace (-n)?", id, f.namespace)
}

// inLogs looks for the call in the logs of the namespace's sidecars.
func (f *finder) inLogs(ctx context.Context, id string, matches func(string) bool, calls map[found]bool) error {
	featureless := false
	_, err := f.logs(ctx, func(r *telemetry.Record) error {
		switch {
		case !matches(r.ID):
		case len(r.Features) == 0:
			featureless = true
		default:
			calls[found{r.ID, v1alpha1.BaselineName(r.Workload.Kind, r.Workload.Name)}] = true
		}
		return nil
	})
	switch {
	case len(calls) > 0:
		return nil // whatever became of the other logs
	case err != nil:
		return fmt.Errorf("no baseline of namespace %s names the call %s, and the sidecars' logs cannot be read: %w", f.namespace, id, err)
	case featureless:
		return fmt.Errorf("the call %s was not judged by its features, such as a tunnel or what could not be read: there is nothing to learn from it", id)
	}
	return nil
}

// tries is how often an annotation is written that somebody else changes at the same time.
const tries = 5

// annotate adds a label to those that the controller has not taken up yet.
func annotate(ctx context.Context, c client.Client, namespace, name, label string) error {
	var err error
	for range tries {
		var b v1alpha1.Baseline
		if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &b); err != nil {
			if apierrors.IsNotFound(err) {
				return fmt.Errorf("the workload has no baseline %s in namespace %s any more", name, namespace)
			}
			return fmt.Errorf("get baseline %s: %w", name, err)
		}
		before := b.DeepCopy()
		all := label
		if waiting := b.Annotations[v1alpha1.FeedbackAnnotation]; waiting != "" {
			all = waiting + "," + label
		}
		if b.Annotations == nil {
			b.Annotations = map[string]string{}
		}
		b.Annotations[v1alpha1.FeedbackAnnotation] = all
		if err = c.Patch(ctx, &b, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) {
			break
		}
	}
	return fmt.Errorf("annotate baseline %s: %w", name, err)
}

// poll is how often it is looked whether the controller has taken a label up.
const poll = 200 * time.Millisecond

// grace is how long a request may take beyond the time that the controller has.
const grace = 10 * time.Second

// wait waits until the annotation is gone and returns what the controller said of it.
func (o *options) wait(ctx context.Context, c client.Client, namespace, name string) (string, error) {
	// The client, which keeps to a rate, says of a request that would have to wait until the deadline that it cannot be made: so requests have some time more.
	ctx, cancel := context.WithTimeout(ctx, o.timeout+grace)
	defer cancel()
	deadline := time.NewTimer(o.timeout)
	defer deadline.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		var b v1alpha1.Baseline
		if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &b); err != nil {
			return "", fmt.Errorf("get baseline %s: %w", name, err)
		}
		if _, waiting := b.Annotations[v1alpha1.FeedbackAnnotation]; !waiting {
			if b.Status.Feedback == nil {
				return "", errors.New("the annotation was removed, and not by the controller")
			}
			return b.Status.Feedback.Last, nil
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-deadline.C:
			return "", fmt.Errorf("the controller has not taken the label up within %s; it stays in the annotation %s of baseline %s: does the controller run?", o.timeout, v1alpha1.FeedbackAnnotation, name)
		case <-tick.C:
		}
	}
}
