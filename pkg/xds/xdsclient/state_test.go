package xdsclient

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"sallyport.dev/sallyport/pkg/xds"
)

func FuzzKeptState(f *testing.F) {
	good, err := resources{}.with(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: xds.TypeConfig, Resources: []*discoveryv3.Resource{{Name: xds.Self, Version: "1"}}}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte("\x0a\x02\x1a\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeResources(b)
		if err != nil {
			return
		}
		if !r.complete() {
			t.Error("kept state is not complete")
		}
		_, _ = r.snapshot()
		if _, err := r.encode(); err != nil {
			t.Errorf("encode: %v", err)
		}
	})
}
