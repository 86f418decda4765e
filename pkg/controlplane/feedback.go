package controlplane

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/xds"
)

// maxFeedback is how many labels one annotation may hold; maxFeedbackBytes how long it may be.
const (
	maxFeedback      = 64
	maxFeedbackBytes = 8 << 10
)

// errUnknownCall says that no call of an id is remembered.
var errUnknownCall = errors.New("no such call is remembered")

// said is a label as the annotation has it.
type said struct{ id, label string }

var callID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// parseFeedback reads an annotation. Its errors say what is accepted.
func parseFeedback(annotation string) ([]said, error) {
	const accepted = "accepted is ID=" + v1alpha1.LabelFalsePositive + " or ID=" + v1alpha1.LabelAttack + ", several separated by commas"
	if len(annotation) > maxFeedbackBytes {
		return nil, fmt.Errorf("%d bytes are too many; %s", len(annotation), accepted)
	}
	var out []said
	seen := map[string]string{}
	for item := range strings.SplitSeq(annotation, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		id, label, ok := strings.Cut(item, "=")
		id, label = strings.TrimSpace(id), strings.TrimSpace(label)
		switch {
		case !ok || !callID.MatchString(id) || label != v1alpha1.LabelFalsePositive && label != v1alpha1.LabelAttack:
			return nil, fmt.Errorf("%.80q is no label; %s", item, accepted)
		case seen[id] == label:
			continue
		case seen[id] != "":
			return nil, fmt.Errorf("%s is said to be both; %s", id, accepted)
		}
		seen[id] = label
		out = append(out, said{id, label})
	}
	switch {
	case len(out) == 0:
		return nil, errors.New("nothing is labelled; " + accepted)
	case len(out) > maxFeedback:
		return nil, fmt.Errorf("%d labels are too many: at most %d at a time", len(out), maxFeedback)
	}
	return out, nil
}

// label takes in what somebody says of a call. The model is trained anew with it soon. An error wraps errUnknownCall where the call is not remembered.
func (l *Learner) label(w xds.Workload, s said) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	have := l.workloads[w]
	if have == nil {
		return fmt.Errorf("%s: %w", s.id, errUnknownCall)
	}
	if i := have.labels.find(s.id); i >= 0 {
		if have.labels.list[i].label == s.label {
			return nil // an annotation may be applied twice
		}
		have.labels.list[i].label = s.label
		if call := have.recent.call(s.id); call != nil {
			have.recent.relabel(call, s.label)
		}
	} else {
		call := have.recent.call(s.id)
		if call == nil {
			return fmt.Errorf("%s: %w", s.id, errUnknownCall)
		}
		have.recent.relabel(call, s.label)
		before := have.attacked
		have.labels.push(*call, have.recent.row(s.id), maxLabels)
		have.attacks()
		for session := range before {
			if !have.attacked[session] { // its label was the oldest, and nothing else will keep its calls from being learned from
				have.reservoir.Forget(session)
			}
		}
	}
	have.attacks()
	l.grew(have)
	have.spoken++
	have.dirty = true
	l.metrics.feedback.WithLabelValues(s.label).Inc()
	l.tell()
	return nil
}

// relabel notes a label and keeps the tally: a call that was an attack is no false positive.
func (c *recent) relabel(call *recentCall, label string) {
	was, is := call.label == v1alpha1.LabelAttack, label == v1alpha1.LabelAttack
	call.label = label
	if !call.counted || was == is {
		return
	}
	by := int64(1)
	if is {
		by = -1
	}
	c.tally.Judged += by
	if c.exceeded.find(call.id) >= 0 {
		c.tally.Exceeded += by
	}
}

// hear applies a Baseline's annotation, if it has one: labels are kept first, then told in the status, and the annotation is removed last, so that whatever fails is done again.
func (p *Plane) hear(ctx context.Context, baseline *v1alpha1.Baseline, w xds.Workload) error {
	annotation, ok := baseline.Annotations[v1alpha1.FeedbackAnnotation]
	if !ok {
		return nil
	}
	outcome := p.learner.apply(w, annotation)
	if err := p.learner.keepNow(ctx, w); err != nil {
		return fmt.Errorf("keep feedback: %w", err)
	}
	return p.answer(ctx, baseline, outcome, func() { baselineStatus(baseline, p.learner.state(w)) })
}

// deaf answers the annotation of a Baseline of whose workload nothing is known: it has no sidecar, and nothing was learned of it.
func (p *Plane) deaf(ctx context.Context, baseline *v1alpha1.Baseline) error {
	if _, ok := baseline.Annotations[v1alpha1.FeedbackAnnotation]; !ok {
		return nil
	}
	outcome := heard{corev1.EventTypeWarning, "FeedbackUnknownCall", "nothing is known of this workload's calls: it has no sidecar, and nothing was learned of it"}
	return p.answer(ctx, baseline, outcome, func() { baseline.Status.Feedback = &v1alpha1.FeedbackStatus{Last: outcome.note} })
}

// answer tells what became of an annotation, and removes it.
func (p *Plane) answer(ctx context.Context, baseline *v1alpha1.Baseline, outcome heard, status func()) error {
	if err := p.writeStatus(ctx, baseline, status); err != nil {
		return err
	}
	before := baseline.DeepCopy()
	delete(baseline.Annotations, v1alpha1.FeedbackAnnotation)
	// Not if it was changed meanwhile: then it is read again.
	if err := p.client.Patch(ctx, baseline, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return client.IgnoreNotFound(err)
	}
	p.events.Eventf(baseline, nil, outcome.kind, outcome.reason, "Learn", "%s", outcome.note)
	return nil
}

// heard is what became of an annotation, as an Event tells it.
type heard struct{ kind, reason, note string }

// apply labels the calls that an annotation names.
func (l *Learner) apply(w xds.Workload, annotation string) heard {
	labels, err := parseFeedback(annotation)
	out := heard{kind: corev1.EventTypeNormal, reason: "FeedbackApplied"}
	if err != nil {
		l.metrics.feedback.WithLabelValues("refused").Inc()
		out = heard{corev1.EventTypeWarning, "FeedbackRefused", err.Error()}
	}
	var done, unknown []string
	for _, s := range labels {
		if err := l.label(w, s); err != nil {
			l.metrics.feedback.WithLabelValues("unknown").Inc()
			unknown = append(unknown, s.id)
		} else {
			done = append(done, s.id+" is labelled "+s.label)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(done) > 0 {
		out.note = strings.Join(done, ", ") + ": the next model is trained with it"
		if l.isFrozen(w) {
			out.note += ", once the baseline is not frozen"
		}
	}
	if len(unknown) > 0 {
		out.kind, out.reason = corev1.EventTypeWarning, "FeedbackUnknownCall"
		if out.note != "" {
			out.note += ". "
		}
		out.note += fmt.Sprintf("Not known: %s; what can be labelled are the last %d calls of this workload that exceeded the threshold, and a sample of its other calls",
			strings.Join(unknown, ", "), maxExceeded)
	}
	out.note = shortened(out.note)
	if have := l.workloads[w]; have != nil {
		have.said, have.dirty = out.note, true
	}
	return out
}

// shortened is a note as the events API accepts it.
func shortened(note string) string {
	const most = 1000
	if len(note) > most {
		note = strings.ToValidUTF8(note[:most], "") + " …"
	}
	return note
}
