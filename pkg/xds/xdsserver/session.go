package xdsserver

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport.dev/sallyport/pkg/xds"
)

// maxTypes is how many type URLs a stream may ask for; a sidecar asks for four.
const maxTypes = 32

// maxNackBytes is how much of a sidecar's reason for refusing something is kept.
const maxNackBytes = 512

// Sidecar is a connected sidecar.
type Sidecar struct {
	xds.Identity
	// ConnectedSince is when its stream began.
	ConnectedSince time.Time
	// Types is where it stands with each type it asked for, by type URL.
	Types map[string]TypeState
}

// TypeState is what a sidecar said of one type.
type TypeState struct {
	// Acked are the versions that it runs, by resource name.
	Acked map[string]string
	// Nack is why it refused the last answer; empty where it did not.
	Nack string
	// NackedAt is when.
	NackedAt time.Time
}

// Runs says whether the sidecar runs this version of a resource.
func (s Sidecar) Runs(typeURL, name, version string) bool {
	return version != "" && s.Types[typeURL].Acked[name] == version
}

// Sidecars are the connected sidecars, by namespace and pod. Where a pod has two streams, as while it reconnects, the newer one counts.
func (s *Server) Sidecars() []Sidecar {
	s.mu.Lock()
	newest := make(map[string]*session, len(s.sessions))
	for session := range s.sessions {
		key := podKey(session.identity)
		if other := newest[key]; other == nil || other.serial < session.serial {
			newest[key] = session
		}
	}
	s.mu.Unlock()
	sidecars := make([]Sidecar, 0, len(newest))
	for _, session := range newest {
		sidecars = append(sidecars, session.sidecar())
	}
	slices.SortFunc(sidecars, func(a, b Sidecar) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.PodUID, b.PodUID))
	})
	return sidecars
}

// Streams is how many discovery streams there are: one for each sidecar, and for a moment two while one connects anew.
func (s *Server) Streams() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Connected says whether a sidecar of the workload is connected.
func (s *Server) Connected(w xds.Workload) bool {
	return s.caches.bound(scope{xds.TypeModel, workloadKey(w)})
}

// session is one sidecar's stream.
type session struct {
	identity xds.Identity
	serial   uint64
	key      string           // the node id by which the caches know it
	scopes   map[string]scope // by type URL
	since    time.Time

	mu    sync.Mutex
	types map[string]*typeState
}

// typeState is a TypeState with what was sent and not yet answered.
type typeState struct {
	TypeState
	nonce   string
	sent    map[string]string
	removed []string
}

func newSession(id xds.Identity, serial uint64, now time.Time) *session {
	return &session{
		identity: id,
		serial:   serial,
		key:      strconv.FormatUint(serial, 10),
		scopes:   scopesOf(id),
		since:    now,
		types:    map[string]*typeState{},
	}
}

// scopesOf says what an identity may see: its namespace's providers and credentials, its workload's model and its own configuration.
func scopesOf(id xds.Identity) map[string]scope {
	return map[string]scope{
		xds.TypeProvider: {xds.TypeProvider, id.Namespace},
		xds.TypeSecret:   {xds.TypeSecret, id.Namespace},
		xds.TypeModel:    {xds.TypeModel, workloadKey(id.Workload())},
		xds.TypeConfig:   {xds.TypeConfig, podKey(id)},
	}
}

// A slash is in no name of Kubernetes, so that keys of different things differ.
func workloadKey(w xds.Workload) string { return w.Namespace + "/" + w.Kind + "/" + w.Name }
func podKey(id xds.Identity) string {
	return workloadKey(id.Workload()) + "/" + id.Pod + "/" + id.PodUID
}

func (s *session) sidecar() Sidecar {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Sidecar{Identity: s.identity, ConnectedSince: s.since, Types: make(map[string]TypeState, len(s.types))}
	for typeURL, t := range s.types {
		state := t.TypeState
		state.Acked = maps.Clone(t.Acked)
		out.Types[typeURL] = state
	}
	return out
}

// asked notes a request: the first of a type, an acknowledgement or a refusal. It says whether anything is new.
func (s *session) asked(req *discoveryv3.DeltaDiscoveryRequest, now time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.types[req.GetTypeUrl()]
	if t == nil {
		if len(s.types) == maxTypes {
			return false, status.Error(codes.ResourceExhausted, "too many types")
		}
		t = &typeState{TypeState: TypeState{Acked: maps.Clone(req.GetInitialResourceVersions())}}
		if t.Acked == nil {
			t.Acked = map[string]string{}
		}
		s.types[req.GetTypeUrl()] = t
		return true, nil
	}
	if req.GetResponseNonce() == "" || req.GetResponseNonce() != t.nonce {
		return false, nil
	}
	t.nonce = ""
	if detail := req.GetErrorDetail(); detail != nil {
		message := detail.GetMessage()
		if message == "" {
			message = "refused without a reason"
		}
		t.Nack, t.NackedAt = message[:min(len(message), maxNackBytes)], now
		return true, nil
	}
	t.Nack, t.NackedAt = "", time.Time{}
	maps.Copy(t.Acked, t.sent)
	for _, name := range t.removed {
		delete(t.Acked, name)
	}
	return true, nil
}

// answered notes what is about to be sent.
func (s *session) answered(resp *discoveryv3.DeltaDiscoveryResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.types[resp.GetTypeUrl()]
	if t == nil {
		return
	}
	t.nonce = resp.GetNonce()
	t.sent = make(map[string]string, len(resp.GetResources()))
	for _, r := range resp.GetResources() {
		t.sent[r.GetName()] = r.GetVersion()
	}
	t.removed = resp.GetRemovedResources()
}

// boundStream is a sidecar's stream with the session written over whatever node it names.
type boundStream struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	session *session
	changed func()
}

// Recv receives a request and binds it to the session.
func (b *boundStream) Recv() (*discoveryv3.DeltaDiscoveryRequest, error) {
	req, err := b.AggregatedDiscoveryService_DeltaAggregatedResourcesServer.Recv()
	if err != nil {
		return nil, err
	}
	req.Node = &corev3.Node{Id: b.session.key}
	changed, err := b.session.asked(req, time.Now())
	if err != nil {
		return nil, err
	}
	if changed {
		b.changed()
	}
	return req, nil
}

// Send sends an answer and remembers what was in it.
func (b *boundStream) Send(resp *discoveryv3.DeltaDiscoveryResponse) error {
	b.session.answered(resp)
	return b.AggregatedDiscoveryService_DeltaAggregatedResourcesServer.Send(resp)
}
