package webhook

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Patch returns the JSON patch that turns a pod into what [Inject] made of it; nil where they are equal.
//
// It names what Inject changes and nothing else. A generic difference of the two JSON texts would not do: fields
// that a newer API server knows and this program does not would be deleted, or, as array elements shift, end up
// in containers that they were not meant for.
func Patch(before, after *corev1.Pod) []jsonpatch.Operation {
	var p patch
	p.annotations(before.Annotations, after.Annotations)
	grow(&p, "/spec/volumes", before.Spec.Volumes, after.Spec.Volumes, func(path string, b, a *corev1.Volume) {
		if !equality.Semantic.DeepEqual(b, a) {
			p.add("replace", path, *a)
		}
	})
	p.initContainers(before.Spec.InitContainers, after.Spec.InitContainers)
	for i := range before.Spec.Containers {
		p.container("/spec/containers/"+strconv.Itoa(i), &before.Spec.Containers[i], &after.Spec.Containers[i])
	}
	return p
}

type patch []jsonpatch.Operation

func (p *patch) add(op, path string, value any) {
	*p = append(*p, jsonpatch.NewOperation(op, path, value))
}

// grow appends what after has more than before, and hands elements of the same index to each.
func grow[T any](p *patch, path string, before, after []T, each func(path string, before, after *T)) {
	if len(before) == 0 {
		if len(after) > 0 {
			p.add("add", path, after)
		}
		return
	}
	for i := range before {
		each(path+"/"+strconv.Itoa(i), &before[i], &after[i])
	}
	for _, v := range after[len(before):] {
		p.add("add", path+"/-", v)
	}
}

func (p *patch) annotations(before, after map[string]string) {
	if len(before) == 0 {
		if len(after) > 0 {
			p.add("add", "/metadata/annotations", after)
		}
		return
	}
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if old, ok := before[key]; !ok || old != after[key] {
			p.add("add", "/metadata/annotations/"+pointerEscaper.Replace(key), after[key])
		}
	}
}

// pointerEscaper escapes a key for a JSON pointer, RFC 6901.
var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

// initContainers moves ours to the front by removing and adding them whole, so that the others keep every field
// they have. After holds ours first and then the others in the order of before.
func (p *patch) initContainers(before, after []corev1.Container) {
	const path = "/spec/initContainers"
	if len(before) == 0 {
		if len(after) > 0 {
			p.add("add", path, after)
		}
		return
	}
	const ours = 2
	if len(after) < ours || !isOurs(after[0].Name) || !isOurs(after[1].Name) {
		return // not a pod that Inject has injected
	}
	inPlace := len(before) == len(after) && before[0].Name == after[0].Name && before[1].Name == after[1].Name
	if inPlace {
		for i := range ours {
			if !equality.Semantic.DeepEqual(&before[i], &after[i]) {
				p.add("replace", path+"/"+strconv.Itoa(i), after[i])
			}
		}
	} else {
		for i := len(before) - 1; i >= 0; i-- {
			if isOurs(before[i].Name) {
				*p = append(*p, jsonpatch.Operation{Operation: "remove", Path: path + "/" + strconv.Itoa(i)})
			}
		}
		for i := range ours {
			p.add("add", path+"/"+strconv.Itoa(i), after[i])
		}
	}
	at := ours
	for i := range before {
		if isOurs(before[i].Name) {
			continue
		}
		p.container(path+"/"+strconv.Itoa(at), &before[i], &after[at])
		at++
	}
}

// container adds what addTrust, addKeyPlaceholders and dropRawSockets have added.
func (p *patch) container(path string, before, after *corev1.Container) {
	grow(p, path+"/env", before.Env, after.Env, func(string, *corev1.EnvVar, *corev1.EnvVar) {})
	grow(p, path+"/volumeMounts", before.VolumeMounts, after.VolumeMounts, func(string, *corev1.VolumeMount, *corev1.VolumeMount) {})
	switch {
	case before.SecurityContext == nil && after.SecurityContext != nil:
		p.add("add", path+"/securityContext", after.SecurityContext)
	case before.SecurityContext == nil:
	case before.SecurityContext.Capabilities == nil && after.SecurityContext.Capabilities != nil:
		p.add("add", path+"/securityContext/capabilities", after.SecurityContext.Capabilities)
	case before.SecurityContext.Capabilities == nil:
	default:
		grow(p, path+"/securityContext/capabilities/drop", before.SecurityContext.Capabilities.Drop, after.SecurityContext.Capabilities.Drop,
			func(string, *corev1.Capability, *corev1.Capability) {})
	}
}
