package controlplane

import (
	"cmp"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/canary"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// checkSettings says what is wrong with the timeouts and limits of a profile. The API server refuses most of it.
func checkSettings(spec *v1alpha1.EgressProfileSpec) error {
	for _, s := range []struct {
		name string
		d    *metav1.Duration
	}{
		{"requestBody", spec.Timeouts.RequestBody}, {"connect", spec.Timeouts.Connect}, {"firstByte", spec.Timeouts.FirstByte}, {"idle", spec.Timeouts.Idle}, {"hold", spec.Timeouts.Hold},
	} {
		switch {
		case s.d == nil:
		case s.d.Duration < 0:
			return unusablef("timeouts.%s is negative; the default is in force", s.name)
		case s.d.Duration > v1alpha1.LongestTimeout:
			return unusablef("timeouts.%s is more than %s; the default is in force", s.name, "24h")
		}
	}
	for _, s := range []struct {
		name string
		n    int64
	}{
		{"maxRequestBytes", spec.MaxRequestBytes}, {"limits.heldToolCallBytes", spec.Limits.HeldToolCallBytes}, {"limits.heldResponseBytes", spec.Limits.HeldResponseBytes},
	} {
		switch {
		case s.n < 0:
			return unusablef("%s is negative; the default is in force", s.name)
		case s.n > v1alpha1.LargestMaxRequestBytes:
			return unusablef("%s is more than %d; the default is in force", s.name, v1alpha1.LargestMaxRequestBytes)
		}
	}
	return checkMemory(spec)
}

// checkMemory wants room for one request.
func checkMemory(spec *v1alpha1.EgressProfileSpec) error {
	most := cmp.Or(size(spec.MaxRequestBytes), v1alpha1.DefaultMaxRequestBytes)
	switch n := spec.Limits.MemoryBytes; {
	case n < 0:
		return unusablef("limits.memoryBytes is negative; the default is in force")
	case n != 0 && n < most:
		return unusablef("limits.memoryBytes is less than maxRequestBytes, %d; the default is in force", most)
	}
	return nil
}

// learning is how the workloads of a namespace are learned: a DetectorSpec with its defaults.
type learning struct {
	budget, minCalls, minSessions int
	retrainCalls                  uint64
	retrainInterval               time.Duration
	prior                         v1alpha1.PriorScope // "" for none
	refuseCold                    bool
}

// learningOf takes the default for what is absent or wrong.
func learningOf(s *v1alpha1.DetectorSpec) learning {
	out := learning{
		budget: inRange(s.FalsePositivesPerMillion, 999_999, v1alpha1.DefaultFalsePositivesPerMillion), minCalls: inRange(s.MinCalls, reservoirCapacity, v1alpha1.DefaultMinCalls),
		minSessions: inRange(s.MinSessions, reservoirCapacity, v1alpha1.DefaultMinSessions), retrainCalls: uint64(inRange(s.RetrainCalls, maxRetrainCalls, v1alpha1.DefaultRetrainCalls)),
		retrainInterval: v1alpha1.DefaultRetrainInterval, refuseCold: refusesCold(s),
	}
	if d := s.RetrainInterval; d != nil && d.Duration >= v1alpha1.ShortestRetrainInterval && d.Duration <= v1alpha1.LongestRetrainInterval {
		out.retrainInterval = d.Duration
	}
	if s.SharedPrior {
		out.prior = v1alpha1.PriorNamespace
		if s.PriorScope == "" || s.PriorScope == v1alpha1.PriorCluster {
			out.prior = v1alpha1.PriorCluster
		}
	}
	return out
}

// refusesCold takes what it does not know for the stricter.
func refusesCold(s *v1alpha1.DetectorSpec) bool {
	return s.Cold != "" && s.Cold != v1alpha1.ColdAbstain
}

// maxRetrainCalls is how large detector.retrainCalls may be.
const maxRetrainCalls = 10_000_000

// inRange is a number of a DetectorSpec, or its default where it is absent or wrong.
func inRange(n int32, most, otherwise int) int {
	if n <= 0 || int(n) > most {
		return otherwise
	}
	return int(n)
}

// checkDetector says what is wrong with how a profile has baselines learned. The API server refuses all of it.
func checkDetector(spec *v1alpha1.DetectorSpec) error {
	for _, s := range []struct {
		name string
		n    int32
		most int
	}{
		{"falsePositivesPerMillion", spec.FalsePositivesPerMillion, 999_999}, {"minCalls", spec.MinCalls, reservoirCapacity},
		{"minSessions", spec.MinSessions, reservoirCapacity}, {"retrainCalls", spec.RetrainCalls, maxRetrainCalls},
	} {
		if s.n < 0 || int(s.n) > s.most {
			return unusablef("detector.%s is not within 0 to %d; the default is in force", s.name, s.most)
		}
	}
	if d := spec.RetrainInterval; d != nil && (d.Duration < v1alpha1.ShortestRetrainInterval || d.Duration > v1alpha1.LongestRetrainInterval) {
		return unusablef("detector.retrainInterval is not within 1m to 2160h; the default is in force")
	}
	switch spec.Cold {
	case "", v1alpha1.ColdAbstain, v1alpha1.ColdDeny:
	default:
		return unusablef("detector.cold %q is none of Abstain, Deny; Deny is in force", spec.Cold)
	}
	switch spec.PriorScope {
	case "", v1alpha1.PriorCluster, v1alpha1.PriorNamespace:
	default:
		return unusablef("detector.priorScope %q is none of Cluster, Namespace; Namespace is in force", spec.PriorScope)
	}
	if len(spec.Canaries) > v1alpha1.MaxCanaries {
		return unusablef("detector.canaries: %d are too many, at most %d; the others are not looked for", len(spec.Canaries), v1alpha1.MaxCanaries)
	}
	names := map[string]bool{}
	for i, c := range spec.Canaries {
		if err := checkCanary(&c); err != nil {
			return unusablef("detector.canaries[%d]: %v; it is not looked for", i, err)
		}
		if names[c.Name] {
			return unusablef("detector.canaries[%d]: the name %q is given twice; only the first is looked for", i, c.Name)
		}
		names[c.Name] = true
	}
	return nil
}

// checkCanary wants what a sidecar can look for: one that it cannot would have it refuse its whole configuration.
func checkCanary(c *v1alpha1.Canary) error {
	if len(c.Name) > 63 || len(c.Value) > v1alpha1.MaxCanaryBytes {
		return unusablef("the name has %d bytes and the value %d; at most 63 and %d are accepted", len(c.Name), len(c.Value), v1alpha1.MaxCanaryBytes)
	}
	if _, err := canary.New([]canary.Token{{Name: c.Name, Value: c.Value}}); err != nil {
		return unusable{err.Error()}
	}
	return nil
}

// canaries are what sidecars are sent of a profile's. One that is wrong is left out.
func canaries(spec *v1alpha1.DetectorSpec) []*xdsv1.Canary {
	var out []*xdsv1.Canary
	names := map[string]bool{}
	for i := range spec.Canaries {
		c := &spec.Canaries[i]
		if len(out) == v1alpha1.MaxCanaries || names[c.Name] || checkCanary(c) != nil {
			continue
		}
		names[c.Name] = true
		out = append(out, &xdsv1.Canary{Name: c.Name, Value: []byte(c.Value)})
	}
	return out
}

// timeouts are what sidecars are sent of a profile's. One that is wrong is left out.
func timeouts(spec *v1alpha1.TimeoutsSpec) *xdsv1.Timeouts {
	sent := func(d *metav1.Duration) *durationpb.Duration {
		if d == nil || d.Duration <= 0 || d.Duration > v1alpha1.LongestTimeout {
			return nil
		}
		return durationpb.New(d.Duration)
	}
	return &xdsv1.Timeouts{
		RequestBody: sent(spec.RequestBody), Connect: sent(spec.Connect), FirstByte: sent(spec.FirstByte), Idle: sent(spec.Idle), Hold: sent(spec.Hold),
	}
}

// limits are what sidecars are sent of a profile's. One that is wrong is left out.
func limits(spec *v1alpha1.EgressProfileSpec) *xdsv1.Limits {
	out := &xdsv1.Limits{HeldToolCallBytes: size(spec.Limits.HeldToolCallBytes), HeldResponseBytes: size(spec.Limits.HeldResponseBytes)}
	if checkMemory(spec) == nil {
		out.MemoryBytes = spec.Limits.MemoryBytes
	}
	return out
}

// size is a number of bytes, 0 where it is wrong.
func size(n int64) int64 {
	if n < 0 || n > v1alpha1.LargestMaxRequestBytes {
		return 0
	}
	return n
}
