package controlplane

import (
	"cmp"

	"google.golang.org/protobuf/types/known/durationpb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
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
