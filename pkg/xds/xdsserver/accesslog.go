package xdsserver

import (
	"errors"
	"io"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// accessLogs takes decision records in. A sidecar sends a batch on a stream of its own and closes it; the answer says that the batch
// has arrived. A stream that goes on for ever, as Envoy's do, is served as well.
type accessLogs struct {
	accesslogv3.UnimplementedAccessLogServiceServer
	server *Server
}

// StreamAccessLogs hands each record of the stream on, with who sent it. Entries that hold no record are passed over.
func (a *accessLogs) StreamAccessLogs(stream accesslogv3.AccessLogService_StreamAccessLogsServer) error {
	id, err := identityFrom(stream.Context())
	if err != nil {
		return err
	}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&accesslogv3.StreamAccessLogsResponse{})
		}
		if err != nil {
			return err
		}
		for _, entry := range message.GetHttpLogs().GetLogEntry() {
			packed := entry.GetCommonProperties().GetFilterStateObjects()[xds.RecordKey]
			if packed == nil {
				continue
			}
			var record xdsv1.DecisionRecord
			if err := packed.UnmarshalTo(&record); err != nil {
				return status.Error(codes.InvalidArgument, "not a decision record")
			}
			if len(record.GetJson()) > xds.MaxRecordBytes {
				return status.Error(codes.InvalidArgument, "decision record too large")
			}
			a.server.config.OnRecord(id, record.GetJson())
		}
	}
}
