package controlplane

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/controlplane/apiservertest"
	"sallyport.dev/sallyport/pkg/xds"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
)

// crashing cuts a controller off from the API, as if it had died.
type crashing struct {
	dead *atomic.Bool
	next http.RoundTripper
}

func (c crashing) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.dead.Load() {
		return nil, errors.New("dead")
	}
	return c.next.RoundTrip(r)
}

// startsLike checks that a sidecar which starts with nothing is sent the model and the salt that another had before.
func (l *lab) startsLike(t *testing.T, r *running, pod *corev1.Pod, before xdsclient.Snapshot) {
	t.Helper()
	fresh := l.sidecar(r, pod, "").next(t, "the model", func(s xdsclient.Snapshot) bool { return s.Model != nil })
	if fresh.Model.GetDigest() != before.Model.GetDigest() || fresh.Config.GetFeatureSalt() != before.Config.GetFeatureSalt() || before.Config.GetFeatureSalt() == 0 {
		t.Errorf("model %s and salt %d, before %s and %d", fresh.Model.GetDigest(), fresh.Config.GetFeatureSalt(), before.Model.GetDigest(), before.Config.GetFeatureSalt())
	}
}

// Two controllers: when the leader dies, the other goes on with the same models and salts.
func TestALeaderDies(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	l.profile(quick)
	var dead atomic.Bool
	mortal := rest.CopyConfig(apiservertest.Config(t))
	mortal.Wrap(func(next http.RoundTripper) http.RoundTripper { return crashing{&dead, next} })
	first := l.candidate(mortal, anyPort, anyPort, 4*time.Second)
	first.wait()
	second := l.candidate(apiservertest.Config(t), anyPort, anyPort, 4*time.Second)
	pod := l.pod(namespace, "agent")
	s := l.sidecar(first.running, pod, "")
	s.next(t, "anything", anything)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 80 {
		s.SendRecord(record(random, i, nil))
	}
	before := s.next(t, "a model", func(s xdsclient.Snapshot) bool { return s.Model != nil })
	select {
	case <-second.listening:
		t.Fatal("both lead")
	default:
	}
	dead.Store(true)
	s.stop()
	second.wait()
	began := time.Now()
	again := l.connect(second.running, s, "")
	l.until("the new leader has the sidecar", func() bool { return len(second.Plane.discovery.Sidecars()) == 1 })
	t.Logf("with the new leader after %s", time.Since(began))
	state := second.learner.state(xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"})
	if state.Model != before.Model.GetDigest() || state.Source != v1alpha1.ModelOwn || state.Calls < 64 {
		t.Errorf("state %+v, digest before %s", state, before.Model.GetDigest())
	}
	l.startsLike(t, second.running, pod, before)
	// What is learned from here on counts.
	for i := 80; i < 400; i++ {
		again.SendRecord(record(random, i, nil))
	}
	again.next(t, "a further model", func(s xdsclient.Snapshot) bool {
		return s.Model != nil && s.Model.GetDigest() != before.Model.GetDigest()
	})
	first.abandon()
}

// A leader that is stopped hands over at once, as in an update: the other has every call that was learned from or was on its way, with the same model and salt, and a sidecar that was connected goes on by itself.
func TestALeaderStepsDown(t *testing.T) {
	l := newLab(t)
	namespace := l.agents(nil)
	l.profile(quick)
	const forever = time.Hour // a lease that is not given up outlasts the test
	first := l.candidate(apiservertest.Config(t), anyPort, anyPort, forever)
	first.wait()
	second := l.candidate(apiservertest.Config(t), first.discovery, strings.TrimPrefix(first.bundles, "https://"), forever)
	pod := l.pod(namespace, "agent")
	s := l.sidecar(first.running, pod, "")
	s.next(t, "anything", anything)
	random := rand.New(rand.NewPCG(1, 2))
	sent := 0
	send := func(calls int) {
		for range calls {
			s.SendRecord(record(random, sent, nil))
			sent++
		}
	}
	send(80)
	before := s.next(t, "a model", func(s xdsclient.Snapshot) bool { return s.Model != nil })
	w := xds.Workload{Namespace: namespace, Kind: "Pod", Name: "agent"}
	l.until("the first 80 calls are learned from", func() bool { return first.learner.state(w).Calls == 80 })

	send(10) // too few for another training, too soon after the last to be kept
	l.until("ten more calls are learned from", func() bool { return first.learner.state(w).Calls == 90 })
	send(10)
	first.stop()
	send(10)
	second.wait()
	l.until("the other has every call", func() bool { return second.learner.state(w).Calls == int64(sent) })
	if stats := s.Stats(); stats.Dropped != 0 {
		t.Errorf("%d records were dropped", stats.Dropped)
	}
	if state := second.learner.state(w); state.Model != before.Model.GetDigest() || state.Source != v1alpha1.ModelOwn {
		t.Errorf("state %+v, digest before %s", state, before.Model.GetDigest())
	}
	l.startsLike(t, second.running, pod, before)
	// The sidecar that was connected all along has what comes next.
	send(300)
	s.next(t, "a further model", func(s xdsclient.Snapshot) bool {
		return s.Model != nil && s.Model.GetDigest() != before.Model.GetDigest()
	})
}
