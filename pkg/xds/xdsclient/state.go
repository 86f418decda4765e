package xdsclient

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"sallyport.dev/sallyport/pkg/atomicfile"
	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// stateFile is the file in the state directory that holds the last good of everything.
const stateFile = "discovery.pb"

// Snapshot is everything a sidecar was sent, in one piece. It shares nothing with the client but is not to be changed where it is shared by its receiver.
type Snapshot struct {
	// Config is never nil.
	Config *xdsv1.WorkloadConfig
	// Providers are sorted by name.
	Providers []*xdsv1.ModelProvider
	// Model is nil while the workload has none.
	Model *xdsv1.DetectorModel
	// Secrets are credentials by the name that ModelProvider.credential gives.
	Secrets map[string][]byte
}

// resources is the state of the client: what it has, by type URL and name, with versions. It is copied, not changed.
type resources map[string]map[string]*discoveryv3.Resource

// with is the state after an answer.
func (r resources) with(resp *discoveryv3.DeltaDiscoveryResponse) resources {
	next := maps.Clone(r)
	if next == nil {
		next = resources{}
	}
	of := maps.Clone(next[resp.GetTypeUrl()])
	if of == nil {
		of = map[string]*discoveryv3.Resource{}
	}
	for _, name := range resp.GetRemovedResources() {
		delete(of, name)
	}
	for _, resource := range resp.GetResources() {
		of[resource.GetName()] = resource
	}
	next[resp.GetTypeUrl()] = of
	return next
}

// replaced is the state with one type as another state has it.
func (r resources) replaced(typeURL string, by resources) resources {
	next := maps.Clone(r)
	next[typeURL] = by[typeURL]
	return next
}

// versions are the versions of one type, as a new stream tells them to the server.
func (r resources) versions(typeURL string) map[string]string {
	versions := make(map[string]string, len(r[typeURL]))
	for name, resource := range r[typeURL] {
		versions[name] = resource.GetVersion()
	}
	return versions
}

// complete says whether every type was answered.
func (r resources) complete() bool {
	for _, typeURL := range xds.Types {
		if r[typeURL] == nil {
			return false
		}
	}
	return true
}

// snapshot decodes the state.
func (r resources) snapshot() (Snapshot, error) {
	var s Snapshot
	s.Secrets = make(map[string][]byte, len(r[xds.TypeSecret]))
	for name, resource := range r[xds.TypeSecret] {
		var secret tlsv3.Secret
		if err := resource.GetResource().UnmarshalTo(&secret); err != nil {
			return s, fmt.Errorf("secret %q: %w", name, err)
		}
		if secret.GetGenericSecret() == nil {
			return s, fmt.Errorf("secret %q: not a generic secret", name)
		}
		s.Secrets[name] = secret.GetGenericSecret().GetSecret().GetInlineBytes()
	}
	for _, name := range slices.Sorted(maps.Keys(r[xds.TypeProvider])) {
		provider := &xdsv1.ModelProvider{}
		if err := r[xds.TypeProvider][name].GetResource().UnmarshalTo(provider); err != nil {
			return s, fmt.Errorf("provider %q: %w", name, err)
		}
		s.Providers = append(s.Providers, provider)
	}
	if resource := r[xds.TypeModel][xds.Self]; resource != nil {
		s.Model = &xdsv1.DetectorModel{}
		if err := resource.GetResource().UnmarshalTo(s.Model); err != nil {
			return s, fmt.Errorf("detector model: %w", err)
		}
	}
	resource := r[xds.TypeConfig][xds.Self]
	if resource == nil {
		return s, errors.New("no workload configuration")
	}
	s.Config = &xdsv1.WorkloadConfig{}
	if err := resource.GetResource().UnmarshalTo(s.Config); err != nil {
		return s, fmt.Errorf("workload configuration: %w", err)
	}
	return s, nil
}

// encode is the state as it is kept: one answer that holds everything.
func (r resources) encode() ([]byte, error) {
	all := &discoveryv3.DeltaDiscoveryResponse{}
	for _, typeURL := range xds.Types {
		for _, name := range slices.Sorted(maps.Keys(r[typeURL])) {
			all.Resources = append(all.Resources, r[typeURL][name])
		}
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(all)
}

// decodeResources reads what encode wrote.
func decodeResources(b []byte) (resources, error) {
	var all discoveryv3.DeltaDiscoveryResponse
	if err := proto.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("decode kept state: %w", err)
	}
	r := resources{}
	for _, typeURL := range xds.Types {
		r[typeURL] = map[string]*discoveryv3.Resource{}
	}
	for _, resource := range all.GetResources() {
		of := r[resource.GetResource().GetTypeUrl()]
		if of == nil {
			return nil, fmt.Errorf("decode kept state: unknown type %q", resource.GetResource().GetTypeUrl())
		}
		of[resource.GetName()] = resource
	}
	return r, nil
}

// load reads the kept state; nil where there is none.
func load(dir string) (resources, error) {
	b, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read kept state: %w", err)
	}
	return decodeResources(b)
}

// save keeps the state. The file is replaced as a whole or not at all, and its owner alone may read it: it holds credentials.
func (r resources) save(dir string) error {
	b, err := r.encode()
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(dir, stateFile), 0o600, b); err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	return nil
}
