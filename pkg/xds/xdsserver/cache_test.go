package xdsserver

import (
	"testing"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/cache/types"

	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// A namespace keeps what it holds when its last sidecar goes; what was one sidecar's, or is empty, goes with it.
func TestScopesOfNobodyAreDropped(t *testing.T) {
	c := newScopes()
	s := newSession(xds.Identity{Namespace: "team-a", Pod: "a-1", PodUID: "1", Kind: "Deployment", Name: "web"}, 1, time.Time{})
	c.bind(s)
	for typeURL, r := range map[string]types.Resource{
		xds.TypeProvider: &xdsv1.ModelProvider{Name: "alpha"}, xds.TypeModel: &xdsv1.DetectorModel{}, xds.TypeConfig: &xdsv1.WorkloadConfig{},
	} {
		if err := c.set(s.scopes[typeURL], map[string]types.Resource{"name": r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.set(s.scopes[xds.TypeModel], nil); err != nil {
		t.Fatal(err)
	}
	if len(c.entries) != len(xds.Types) {
		t.Errorf("%d scopes for a session of %d types", len(c.entries), len(xds.Types))
	}
	c.release(s)
	if len(c.entries) != 1 || c.entries[s.scopes[xds.TypeProvider]] == nil {
		t.Errorf("scopes %v are kept, want that of the providers alone", c.entries)
	}
}
