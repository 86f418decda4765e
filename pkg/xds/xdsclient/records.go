package xdsclient

import (
	"context"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogdatav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// Bounds of the records that wait, and of one batch.
const (
	defaultQueuedRecords = 4096
	maxQueuedBytes       = 4 << 20
	maxBatchRecords      = 512
	maxBatchBytes        = 1 << 20
	// batchDelay is how long the first record of a batch waits for others.
	batchDelay = 200 * time.Millisecond
	// flushTimeout is how long the last batches may take when the client stops.
	flushTimeout = 2 * time.Second
	sendTimeout  = 20 * time.Second
)

// queue holds records until they are sent. When it is full the newest are dropped and counted.
type queue struct {
	limit int
	wake  chan struct{} // has room for one: something waits

	mu      sync.Mutex
	records [][]byte
	bytes   int
	sent    uint64
	dropped uint64
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, wake: make(chan struct{}, 1)}
}

func (q *queue) push(record []byte) {
	q.mu.Lock()
	if len(q.records) >= q.limit || q.bytes+len(record) > maxQueuedBytes || len(record) > xds.MaxRecordBytes {
		q.dropped++
		q.mu.Unlock()
		return
	}
	q.records = append(q.records, slices.Clone(record))
	q.bytes += len(record)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// batch returns the oldest records without taking them out.
func (q *queue) batch() [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < len(q.records) && n < maxBatchRecords && (n == 0 || size+len(q.records[n]) <= maxBatchBytes) {
		size += len(q.records[n])
		n++
	}
	return slices.Clone(q.records[:n])
}

// done takes the n oldest records out. They have arrived, or will never be taken.
func (q *queue) done(n int, arrived bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, record := range q.records[:n] {
		q.bytes -= len(record)
	}
	q.records = slices.Delete(q.records, 0, n)
	if arrived {
		q.sent += uint64(n)
	} else {
		q.dropped += uint64(n)
	}
}

func (q *queue) counts() (queued int, sent, dropped uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.records), q.sent, q.dropped
}

// sendRecords sends batches until ctx is done, then what is left, for at most flushTimeout.
func (c *Client) sendRecords(ctx context.Context) {
	b := c.newBackoff()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
			defer cancel()
			for c.sendBatch(last) {
			}
			return
		case <-c.queue.wake:
		}
		if !pause(ctx, batchDelay) {
			continue
		}
		for {
			queued, _, _ := c.queue.counts()
			if queued == 0 || ctx.Err() != nil {
				break
			}
			if c.sendBatch(ctx) {
				b.reset()
			} else if !pause(ctx, b.next()) {
				break
			}
		}
	}
}

// sendBatch sends one batch on a stream of its own and waits for the server's answer, so that a batch either has arrived or is sent again. It says
// whether one was disposed of.
func (c *Client) sendBatch(ctx context.Context) bool {
	batch := c.queue.batch()
	if len(batch) == 0 {
		return false
	}
	logs := &accesslogv3.StreamAccessLogsMessage_HTTPAccessLogEntries{}
	for _, record := range batch {
		entry, err := recordEntry(record)
		if err != nil {
			continue
		}
		logs.LogEntry = append(logs.LogEntry, entry)
	}
	// A batch that is on its way when ctx ends is not cut off, lest it arrive and be sent again.
	batchCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(flushTimeout, cancel) })()
	stream, err := accesslogv3.NewAccessLogServiceClient(c.conn).StreamAccessLogs(batchCtx)
	if err != nil {
		return c.batchFailed(err, len(batch))
	}
	// An error of Send is told by CloseAndRecv in full.
	_ = stream.Send(&accesslogv3.StreamAccessLogsMessage{
		Identifier: &accesslogv3.StreamAccessLogsMessage_Identifier{Node: &corev3.Node{Id: c.config.NodeID}, LogName: xds.RecordKey},
		LogEntries: &accesslogv3.StreamAccessLogsMessage_HttpLogs{HttpLogs: logs},
	})
	if _, err := stream.CloseAndRecv(); err != nil {
		return c.batchFailed(err, len(batch))
	}
	c.queue.done(len(batch), true)
	return true
}

// recordEntry is the access-log entry of one decision record.
func recordEntry(record []byte) (*accesslogdatav3.HTTPAccessLogEntry, error) {
	packed, err := anypb.New(&xdsv1.DecisionRecord{Json: record})
	if err != nil {
		return nil, err
	}
	return &accesslogdatav3.HTTPAccessLogEntry{CommonProperties: &accesslogdatav3.AccessLogCommon{
		FilterStateObjects: map[string]*anypb.Any{xds.RecordKey: packed},
	}}, nil
}
