package webhook

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

// MutatePath is where the controller serves [Handler]; the MutatingWebhookConfiguration names it.
const MutatePath = "/mutate-pods"

// Handler answers the API server's question what to do with a new pod. It is an [admission.Handler] for
// controller-runtime's webhook server.
type Handler struct {
	reader  client.Reader
	config  func() (*Config, error)
	events  events.EventRecorder
	metrics metrics
	now     func() time.Time
}

// HandlerOptions are what a [Handler] needs.
type HandlerOptions struct {
	// Reader reads Namespaces and EgressProfiles. It should be a manager's cached client: the handler reads on
	// every admission.
	Reader client.Reader
	// Config returns the present configuration. Trust anchors and bundle keys may change while the controller
	// runs. An error refuses the pod.
	Config func() (*Config, error)
	// Events records what was done; nil records nothing.
	Events events.EventRecorder
	// Registerer takes the metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer
}

// NewHandler returns a handler. Registering the metrics twice with one registerer is an error.
func NewHandler(o HandlerOptions) (*Handler, error) {
	h := &Handler{reader: o.Reader, config: o.Config, events: o.Events, metrics: newMetrics(), now: time.Now}
	if o.Registerer != nil {
		if err := h.metrics.register(o.Registerer); err != nil {
			return nil, fmt.Errorf("webhook metrics: %w", err)
		}
	}
	return h, nil
}

// Handle implements [admission.Handler]. Whatever it cannot tell, it refuses, and says why.
func (h *Handler) Handle(ctx context.Context, req admission.Request) admission.Response {
	start := h.now()
	response, report, pod := h.handle(ctx, &req)
	h.metrics.observe(&report, h.now().Sub(start))
	if pod != nil && (req.DryRun == nil || !*req.DryRun) {
		h.record(&req, pod, &report)
	}
	return response
}

func (h *Handler) handle(ctx context.Context, req *admission.Request) (admission.Response, Report, *corev1.Pod) {
	if req.Operation != admissionv1.Create || req.Resource.Resource != "pods" || req.SubResource != "" {
		report := Report{Result: Skipped, Reason: ReasonNamespaceNotLabelled, Message: "Only new pods are injected."}
		return admission.Allowed(report.Message), report, nil
	}
	fail := func(code int32, reason Reason, format string, args ...any) (admission.Response, Report, *corev1.Pod) {
		message := fmt.Sprintf("Sallyport cannot tell whether this pod is to be guarded, and refuses it: "+format, args...)
		return denied(code, message), Report{Result: Refused, Reason: reason, Message: message}, nil
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(req.Object.Raw, pod); err != nil {
		return fail(http.StatusBadRequest, ReasonUndecodable, "the pod does not decode: %v", err)
	}
	config, err := h.config()
	if err != nil {
		return fail(http.StatusServiceUnavailable, ReasonControllerNotReady, "the controller is not ready: %v", err)
	}
	target, reason, err := h.target(ctx, req.Namespace)
	if err != nil {
		return fail(http.StatusServiceUnavailable, reason, "%v", err)
	}

	out, report := Inject(pod, target, config)
	var response admission.Response
	switch report.Result {
	case Injected:
		response = admission.Patched(report.Message, Patch(pod, out)...)
	case Skipped:
		response = admission.Allowed(report.Message)
	default:
		response = denied(http.StatusForbidden, report.Message)
	}
	response.AuditAnnotations = map[string]string{"result": string(report.Result), "reason": string(report.Reason)}
	return response.WithWarnings(report.Explanations()...), report, pod
}

// denied keeps the message whole: admission.Denied would put it where kubectl does not show it.
func denied(code int32, message string) admission.Response {
	reason := metav1.StatusReasonForbidden
	switch code {
	case http.StatusBadRequest:
		reason = metav1.StatusReasonBadRequest
	case http.StatusServiceUnavailable:
		reason = metav1.StatusReasonServiceUnavailable
	}
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{
		Result: &metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message},
	}}
}

func (h *Handler) target(ctx context.Context, namespace string) (Target, Reason, error) {
	ns := &corev1.Namespace{}
	if err := h.reader.Get(ctx, client.ObjectKey{Name: namespace}, ns); err != nil {
		if apierrors.IsNotFound(err) {
			return Target{}, ReasonNamespaceUnknown, fmt.Errorf("namespace %q is not known yet; try again", namespace)
		}
		return Target{}, ReasonNamespaceUnknown, fmt.Errorf("read namespace %q: %w", namespace, err)
	}
	var profiles v1alpha1.EgressProfileList
	if err := h.reader.List(ctx, &profiles); err != nil {
		return Target{}, ReasonProfileUnknown, fmt.Errorf("list EgressProfiles: %w", err)
	}
	return Target{
		Namespace: namespace,
		Labels:    ns.Labels,
		Profile:   v1alpha1.SelectProfile(profiles.Items, namespace, ns.Labels),
	}, "", nil
}

// record writes an Event about the pod's owner, or about the namespace where a pod has none: the pod itself has
// no UID yet, and after a refusal never gets one.
func (h *Handler) record(req *admission.Request, pod *corev1.Pod, report *Report) {
	if h.events == nil || report.Reason == ReasonNamespaceNotLabelled || report.Reason == ReasonAlreadyInjected {
		return
	}
	kind, reason := corev1.EventTypeNormal, "Injected"
	switch report.Result {
	case Skipped:
		reason = "InjectionSkipped"
	case Refused:
		kind, reason = corev1.EventTypeWarning, "InjectionRefused"
	}
	h.events.Eventf(eventSubject(req.Namespace, pod), nil, kind, reason, "Inject", "%s", eventNote(report))
}

// eventNote shortens a message to what the events API accepts.
func eventNote(report *Report) string {
	const most = 1024
	note := fmt.Sprintf("[%s] %s", report.Reason, report.Message)
	if len(note) > most {
		note = strings.ToValidUTF8(note[:most-3], "") + "..."
	}
	return note
}

func eventSubject(namespace string, pod *corev1.Pod) runtime.Object {
	for _, o := range pod.OwnerReferences {
		if o.Controller != nil && *o.Controller {
			return &metav1.PartialObjectMetadata{
				TypeMeta:   metav1.TypeMeta{APIVersion: o.APIVersion, Kind: o.Kind},
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: o.Name, UID: o.UID},
			}
		}
	}
	// An Event about a namespace must itself be in "default"; that is where nobody looks. The subject therefore
	// carries the namespace, as a reference may.
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: namespace},
	}
}
