package controlplane

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/policy"
)

// accepted is the last good of a ClusterPolicyBundle: what is in force, whatever its spec says now.
type accepted struct {
	// Name and UID are the object's: one that was deleted and made again begins anew.
	Name     string                `json:"name"`
	UID      string                `json:"uid"`
	Selector *metav1.LabelSelector `json:"selector,omitempty"`
	Modules  map[string]string     `json:"modules"`

	digest string
}

func (a accepted) source() policy.Source { return policy.Source{Name: a.Name, Modules: a.Modules} }

// sources holds the last good of every ClusterPolicyBundle and keeps it across restarts.
type sources struct {
	keeper *keeper

	mu  sync.Mutex
	all map[string]accepted
}

func newSources(k *keeper) *sources { return &sources{keeper: k, all: map[string]accepted{}} }

// restore takes up what was kept, and says what of it is unusable. It is checked again: the checks may have become stricter, and nothing unchecked is
// served.
func (s *sources) restore(ctx context.Context) (unusable []error, err error) {
	all, unusable, err := s.keeper.load(ctx, keptBundle)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, content := range all {
		var a accepted
		err := json.Unmarshal(content, &a)
		if err == nil && a.Name != id {
			err = errors.New("of another name")
		}
		if err == nil {
			err = policy.Check(a.source())
		}
		if err != nil {
			unusable = append(unusable, fmt.Errorf("last good of %s: %w", id, err))
			continue
		}
		a.digest = policy.SourceDigest(a.source())
		s.all[a.Name] = a
	}
	return unusable, nil
}

// accept puts a checked source in force and keeps it. changed says whether it differs from what was in force. It is in force even where
// it cannot be kept.
func (s *sources) accept(ctx context.Context, a accepted) (changed bool, err error) {
	content, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	a.digest = policy.SourceDigest(a.source())
	s.mu.Lock()
	old, had := s.all[a.Name]
	before, _ := json.Marshal(old)
	changed = !had || string(before) != string(content)
	s.all[a.Name] = a
	s.mu.Unlock()
	return changed, s.keeper.save(ctx, keptBundle, a.Name, content)
}

// remove takes a source out of force.
func (s *sources) remove(ctx context.Context, name string) (changed bool, err error) {
	s.mu.Lock()
	_, changed = s.all[name]
	delete(s.all, name)
	s.mu.Unlock()
	return changed, s.keeper.remove(ctx, keptBundle, name)
}

// get returns what is in force of a ClusterPolicyBundle.
func (s *sources) get(name string) (accepted, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.all[name]
	return a, ok
}

// names are the names of all that are in force.
func (s *sources) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, 0, len(s.all))
	for name := range s.all {
		names = append(names, name)
	}
	return names
}

// of returns the sources that judge a namespace with these labels, by name.
func (s *sources) of(labels map[string]string) []policy.Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	var selected []policy.Source
	for _, a := range s.all {
		if ok, err := v1alpha1.SelectsNamespace(a.Selector, labels); err == nil && ok {
			selected = append(selected, a.source())
		}
	}
	slices.SortFunc(selected, func(a, b policy.Source) int { return cmp.Compare(a.Name, b.Name) })
	return selected
}
