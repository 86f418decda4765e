package controlplane

// memory is how much of it the controller may take, in bytes, and what for. Sidecars come first: one that is turned away cannot start a pod, while a workload that gives up evidence is judged a little
// less well. An eighth is left to the garbage collector.
type memory int

const (
	// defaultMemory is the limit in deploy/base/controller.yaml, for a process that knows of none.
	defaultMemory memory = 512 << 20
	// ownMemory is what the controller takes by itself: caches of objects, the webhook, two trainings.
	ownMemory = 64 << 20
	// sidecarMemory is what a connected sidecar takes: some 57 KB its discovery stream (BenchmarkSidecars of pkg/xds), some 45 KB the request that waits for a bundle.
	sidecarMemory = 104 << 10
	// leastSidecars is how many there may be however little memory there is.
	leastSidecars = 256
)

// forOthers is what there is for sidecars and for what is learned.
func (m memory) forOthers() int { return max(0, int(m/8*7)-ownMemory) }

// sidecars is how many may be connected at once.
func (m memory) sidecars() int { return max(leastSidecars, m.forOthers()/sidecarMemory) }

// learned is how much all baselines may take while so many sidecars are connected: seven sixteenths at most, since as much again is what taking up and training may take for a while.
func (m memory) learned(sidecars int) int {
	return max(0, min(int(m/16*7), m.forOthers()-sidecars*sidecarMemory))
}
