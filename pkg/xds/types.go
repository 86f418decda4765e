package xds

import (
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// Type URLs of the resources that a sidecar is sent.
var (
	// TypeConfig is WorkloadConfig: exactly one, named Self.
	TypeConfig = typeURL(&xdsv1.WorkloadConfig{})
	// TypeProvider is ModelProvider, named as the Kubernetes object.
	TypeProvider = typeURL(&xdsv1.ModelProvider{})
	// TypeModel is DetectorModel: at most one, named Self.
	TypeModel = typeURL(&xdsv1.DetectorModel{})
	// TypeSecret is Envoy's SDS Secret with a generic_secret.
	TypeSecret = typeURL(&tlsv3.Secret{})
)

// Self is the name of the resources of which a sidecar has one.
const Self = "self"

// RecordKey is the key of the decision record among an access-log entry's filter_state_objects.
const RecordKey = "sallyport.dev/record"

// MaxRecordBytes is the length of the longest decision record that is sent, and taken.
const MaxRecordBytes = 256 << 10

// How often either half asks whether the other is still there, and how long it waits for an answer.
const (
	KeepaliveTime    = 30 * time.Second
	KeepaliveTimeout = 10 * time.Second
)

// Types are the type URLs that a sidecar asks for, in the order in which it asks: a credential is there before the provider that names it.
var Types = []string{TypeSecret, TypeProvider, TypeConfig, TypeModel}

func typeURL(m proto.Message) string {
	return "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName())
}
