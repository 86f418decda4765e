package inject

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/webhook"
)

// ErrRefused is returned when a pod in the stream cannot be guarded. Nothing is written then, so that a pipe into
// kubectl creates nothing.
var ErrRefused = errors.New("a pod was refused; nothing was written")

// Options are what [Run] needs to know.
type Options struct {
	// Config is what the sidecars are started with.
	Config *webhook.Config
	// Namespace of objects that name none. Empty means "default".
	Namespace string
	// JSON writes the report as one JSON object a line, not as text.
	JSON bool
}

// Entry is the report on one object.
type Entry struct {
	// Object is kind/name.
	Object string `json:"object"`
	// Namespace is where the object belongs.
	Namespace string `json:"namespace"`
	webhook.Report
}

// templates says where a kind keeps its pod template, as the keys that lead to it.
var templates = map[metav1.TypeMeta][]string{
	{APIVersion: "v1", Kind: "Pod"}:                   {},
	{APIVersion: "v1", Kind: "ReplicationController"}: {"spec", "template"},
	{APIVersion: "apps/v1", Kind: "Deployment"}:       {"spec", "template"},
	{APIVersion: "apps/v1", Kind: "StatefulSet"}:      {"spec", "template"},
	{APIVersion: "apps/v1", Kind: "DaemonSet"}:        {"spec", "template"},
	{APIVersion: "apps/v1", Kind: "ReplicaSet"}:       {"spec", "template"},
	{APIVersion: "batch/v1", Kind: "Job"}:             {"spec", "template"},
	{APIVersion: "batch/v1", Kind: "CronJob"}:         {"spec", "jobTemplate", "spec", "template"},
}

// Run reads manifests, YAML or JSON, and writes them to out with the sidecar in every pod that is to have it, and
// a report to report. Documents without pods are copied as they are.
//
// A namespace that is not in the stream is taken to be labelled for injection: whoever runs the command asks for
// it. EgressProfiles apply only if they are in the stream.
func Run(in io.Reader, out, report io.Writer, o Options) error {
	if o.Namespace == "" {
		o.Namespace = metav1.NamespaceDefault
	}
	documents, err := split(in)
	if err != nil {
		return err
	}
	s := stream{options: o, namespaces: map[string]map[string]string{}}
	for i := range documents {
		if err := s.learn(documents[i].object); err != nil {
			return fmt.Errorf("document %d: %w", i+1, err)
		}
	}
	var b bytes.Buffer
	for i, d := range documents {
		changed, err := s.inject(d.object)
		if err != nil {
			return fmt.Errorf("document %d: %w", i+1, err)
		}
		text := d.text
		if changed != nil {
			if text, err = yaml.JSONToYAML(changed); err != nil {
				return fmt.Errorf("document %d: %w", i+1, err)
			}
		}
		if b.Len() > 0 {
			b.WriteString("---\n")
		}
		b.Write(text)
		if len(text) > 0 && text[len(text)-1] != '\n' {
			b.WriteByte('\n')
		}
	}
	if err := s.report(report); err != nil {
		return err
	}
	if s.refused {
		return ErrRefused
	}
	_, err = out.Write(b.Bytes())
	return err
}

type document struct {
	text   []byte          // as it was read
	object json.RawMessage // the same as JSON
}

func split(in io.Reader) ([]document, error) {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(in))
	var documents []document
	for {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		object, err := yaml.YAMLToJSONStrict(text)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", len(documents)+1, err)
		}
		if string(object) == "null" { // comments alone
			continue
		}
		documents = append(documents, document{text, object})
	}
}

type stream struct {
	options    Options
	namespaces map[string]map[string]string // labels by name
	profiles   []v1alpha1.EgressProfile
	entries    []Entry
	refused    bool
}

// header is what every object has.
type header struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct {
		Name         string `json:"name"`
		GenerateName string `json:"generateName"`
		Namespace    string `json:"namespace"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

// isList goes by the API's convention: a kind that ends in List and has items.
func (h *header) isList() bool { return strings.HasSuffix(h.Kind, "List") && h.Items != nil }

// learn takes note of Namespaces and EgressProfiles, wherever in the stream they stand.
func (s *stream) learn(object json.RawMessage) error {
	var h header
	if err := json.Unmarshal(object, &h); err != nil {
		return fmt.Errorf("no Kubernetes object: %w", err)
	}
	switch {
	case h.isList():
		for i, item := range h.Items {
			if err := s.learn(item); err != nil {
				return fmt.Errorf("item %d: %w", i+1, err)
			}
		}
	case h.APIVersion == "v1" && h.Kind == "Namespace":
		var ns corev1.Namespace
		if err := json.Unmarshal(object, &ns); err != nil {
			return fmt.Errorf("Namespace %s: %w", h.Metadata.Name, err) //nolint:staticcheck // the name of the kind
		}
		s.namespaces[ns.Name] = ns.Labels
	case h.APIVersion == v1alpha1.GroupVersion.String() && h.Kind == "EgressProfile":
		var p v1alpha1.EgressProfile
		if err := json.Unmarshal(object, &p); err != nil {
			return fmt.Errorf("EgressProfile %s: %w", h.Metadata.Name, err)
		}
		s.profiles = append(s.profiles, p)
	}
	return nil
}

// inject returns the object with the sidecar, or nil where it stays as it is.
func (s *stream) inject(object json.RawMessage) (json.RawMessage, error) {
	var h header
	if err := json.Unmarshal(object, &h); err != nil {
		return nil, fmt.Errorf("no Kubernetes object: %w", err)
	}
	if h.isList() {
		return s.injectList(object, h.Items)
	}
	path, ok := templates[h.TypeMeta]
	if !ok {
		return nil, nil
	}
	name := h.Metadata.Name
	if name == "" {
		name = strings.TrimSuffix(h.Metadata.GenerateName, "-")
	}
	target := webhook.Target{Namespace: h.Metadata.Namespace}
	if target.Namespace == "" {
		target.Namespace = s.options.Namespace
	}
	if target.Labels, ok = s.namespaces[target.Namespace]; !ok {
		target.Labels = map[string]string{v1alpha1.InjectLabel: v1alpha1.InjectEnabled}
	}
	target.Profile = v1alpha1.SelectProfile(s.profiles, target.Namespace, target.Labels)
	if h.Kind != "Pod" {
		target.Workload = h.Kind + "/" + name
	}

	pod, err := podAt(object, path)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", h.Kind, name, err)
	}
	injected, report := webhook.Inject(pod, target, s.options.Config)
	s.entries = append(s.entries, Entry{Object: h.Kind + "/" + name, Namespace: target.Namespace, Report: report})
	if report.Result == webhook.Refused {
		s.refused = true
	}
	if report.Result != webhook.Injected {
		return nil, nil
	}
	changed, err := apply(object, path, pod, injected)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", h.Kind, name, err)
	}
	return changed, nil
}

func (s *stream) injectList(object json.RawMessage, items []json.RawMessage) (json.RawMessage, error) {
	any := false
	for i, item := range items {
		changed, err := s.inject(item)
		if err != nil {
			return nil, fmt.Errorf("item %d: %w", i+1, err)
		}
		if changed != nil {
			items[i], any = changed, true
		}
	}
	if !any {
		return nil, nil
	}
	var list map[string]json.RawMessage
	if err := json.Unmarshal(object, &list); err != nil {
		return nil, err
	}
	joined, err := json.Marshal(items)
	if err != nil {
		return nil, err
	}
	list["items"] = joined
	return json.Marshal(list)
}

// podAt reads the pod template that the keys lead to.
func podAt(object json.RawMessage, path []string) (*corev1.Pod, error) {
	for i, key := range path {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(object, &m); err != nil {
			return nil, fmt.Errorf("%s: %w", strings.Join(path[:i], "."), err)
		}
		var ok bool
		if object, ok = m[key]; !ok {
			return nil, fmt.Errorf("there is no %s", strings.Join(path[:i+1], "."))
		}
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(object, pod); err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(path, "."), err)
	}
	return pod, nil
}

// apply makes the webhook's patch on the object's own JSON, so that fields unknown to this program survive.
func apply(object json.RawMessage, path []string, before, after *corev1.Pod) (json.RawMessage, error) {
	operations := webhook.Patch(before, after)
	if len(operations) == 0 {
		return object, nil
	}
	prefix := ""
	for _, key := range path {
		prefix += "/" + key
	}
	for i := range operations {
		operations[i].Path = prefix + operations[i].Path
	}
	text, err := json.Marshal(operations)
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	p, err := jsonpatch.DecodePatch(text)
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	options := jsonpatch.NewApplyOptions()
	options.EnsurePathExistsOnAdd = true // a template may do without metadata
	changed, err := p.ApplyWithOptions(object, options)
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	return changed, nil
}

func (s *stream) report(w io.Writer) error {
	var b bytes.Buffer
	for _, e := range s.entries {
		if s.options.JSON {
			line, err := json.Marshal(e)
			if err != nil {
				return fmt.Errorf("report: %w", err)
			}
			b.Write(append(line, '\n'))
			continue
		}
		fmt.Fprintf(&b, "%s in %s: %s (%s): %s\n", e.Object, strconv.Quote(e.Namespace), e.Result, e.Reason, e.Message)
		for _, f := range e.Warnings {
			fmt.Fprintf(&b, "  warning (%s): %s: %s\n", f.Reason, f.Field, f.Message)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}
