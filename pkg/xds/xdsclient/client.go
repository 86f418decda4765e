package xdsclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// Bounds of the client.
const (
	maxAnswerBytes = 32 << 20
	minBackoff     = 250 * time.Millisecond
	maxBackoff     = 15 * time.Second
	// settled is how long a stream must have lasted for the next failure to count as the first.
	settled = 30 * time.Second
)

// Config is what a Client is made of. Address, TrustAnchors, TokenPath and OnSnapshot are required.
type Config struct {
	// Address is host:port of the controller.
	Address string
	// ServerName is the name that the controller's certificate must hold; the host of Address if empty.
	ServerName string
	// TrustAnchors is PEM of the roots that the controller's certificate may chain to. No other is trusted.
	TrustAnchors []byte
	// TokenPath is the file with the bearer token. It is read anew for each stream and call.
	TokenPath string
	// StateDir is where the last good of everything is kept, with mode 0600; nothing is kept if it is empty.
	StateDir string
	// NodeID is informative: the controller takes the identity from the token.
	NodeID string
	// OnSnapshot is given what the sidecar is to run, first what was kept, then each change. It is called from one goroutine at a time. An error refuses the change:
	// the controller is told why, and what was accepted before stays.
	OnSnapshot func(Snapshot) error
	// QueuedRecords is how many decision records wait at most; 4096 if zero. They are bounded to 4 MiB besides.
	QueuedRecords int
	// Log is told of lost connections and refusals; silent if nil.
	Log *zap.Logger
}

// Client is the sidecar's half. It is made by Dial and works while Run runs.
type Client struct {
	config Config
	conn   *grpc.ClientConn
	queue  *queue

	// accepted and sent belong to the goroutine of Run. accepted is what OnSnapshot took; sent is all that the server has sent, as far as
	// the server knows what the client has: it will not send again what came together with something that was refused.
	accepted resources
	sent     resources

	mu    sync.Mutex
	stats Stats
}

// Stats says how the client is doing.
type Stats struct {
	// Connected is whether the discovery stream stands, and Since when it began or ended.
	Connected bool
	Since     time.Time
	// Streams counts discovery streams that answered, Nacks the answers that were refused.
	Streams uint64
	Nacks   uint64
	// LastError is why the last stream ended or what was refused last.
	LastError string
	// Queued, Sent and Dropped count decision records.
	Queued  int
	Sent    uint64
	Dropped uint64
}

// Dial makes a client. No connection is made before Run.
func Dial(config Config) (*Client, error) {
	if config.OnSnapshot == nil {
		return nil, errors.New("xds client without OnSnapshot")
	}
	if config.TokenPath == "" {
		return nil, errors.New("xds client without a token")
	}
	host, _, err := net.SplitHostPort(config.Address)
	if err != nil {
		return nil, fmt.Errorf("discovery address: %w", err)
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(config.TrustAnchors) {
		return nil, errors.New("no certificate among the trust anchors")
	}
	if config.QueuedRecords <= 0 {
		config.QueuedRecords = defaultQueuedRecords
	}
	if config.Log == nil {
		config.Log = zap.NewNop()
	}
	conn, err := grpc.NewClient("dns:///"+config.Address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: config.ServerName})),
		grpc.WithPerRPCCredentials(tokenFile(config.TokenPath)),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: xds.KeepaliveTime, Timeout: xds.KeepaliveTimeout}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minBackoff, Multiplier: 1.6, Jitter: 0.3, MaxDelay: maxBackoff},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
	)
	if err != nil {
		return nil, fmt.Errorf("discovery address: %w", err)
	}
	return &Client{config: config, conn: conn, queue: newQueue(config.QueuedRecords)}, nil
}

// tokenFile reads the token at each stream and call, since the kubelet renews it.
type tokenFile string

// GetRequestMetadata is the bearer token of one call.
func (path tokenFile) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	b, err := os.ReadFile(string(path))
	if err != nil {
		return nil, fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return nil, errors.New("read token: empty file")
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity is true: a token is never sent in the clear.
func (tokenFile) RequireTransportSecurity() bool { return true }

// Run delivers what was kept, then stays connected and delivers each change until ctx is done. It returns once the records that wait were
// sent, or could not be for two seconds. It may be called once.
func (c *Client) Run(ctx context.Context) error {
	defer func() { _ = c.conn.Close() }()
	c.restore()
	done := make(chan struct{})
	go func() { defer close(done); c.sendRecords(ctx) }()
	b := c.newBackoff()
	for ctx.Err() == nil {
		began := time.Now()
		err := c.stream(ctx)
		c.disconnected(ctx, err)
		if time.Since(began) > settled {
			b.reset()
		}
		if !pause(ctx, b.next()) {
			break
		}
	}
	<-done
	return ctx.Err()
}

// SendRecord queues one decision record, JSON. It never blocks and keeps a copy; when the queue is full the record is dropped and counted.
func (c *Client) SendRecord(record []byte) { c.queue.push(record) }

// Stats says how the client is doing.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	stats := c.stats
	c.mu.Unlock()
	stats.Queued, stats.Sent, stats.Dropped = c.queue.counts()
	return stats
}

// SignIntermediate has a certificate request signed. While the controller cannot be reached, or asks for patience, it tries again until ctx is done; a refusal
// is returned at once.
func (c *Client) SignIntermediate(ctx context.Context, csrDER []byte) (chainPEM []byte, err error) {
	b := c.newBackoff()
	for {
		resp, err := xdsv1.NewCertificateServiceClient(c.conn).SignIntermediate(ctx, &xdsv1.SignIntermediateRequest{Csr: csrDER})
		if err == nil {
			return resp.GetChain(), nil
		}
		again := status.Code(err) == codes.Unavailable || status.Code(err) == codes.ResourceExhausted
		if !again || !pause(ctx, b.next()) {
			return nil, fmt.Errorf("sign intermediate: %w", err)
		}
	}
}

// restore delivers what was kept. State that cannot be read, or is refused, counts as none.
func (c *Client) restore() {
	if c.config.StateDir == "" {
		return
	}
	kept, err := load(c.config.StateDir)
	if err == nil && kept == nil {
		return
	}
	var snapshot Snapshot
	if err == nil {
		snapshot, err = kept.snapshot()
	}
	if err == nil {
		err = c.config.OnSnapshot(snapshot)
	}
	if err != nil {
		c.config.Log.Warn("kept state is not used", zap.Error(err))
		return
	}
	c.accepted = kept
}

// stream is one discovery stream, from its beginning to its end.
func (c *Client) stream(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(c.conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	c.sent = c.accepted
	for _, typeURL := range xds.Types {
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node:                    &corev3.Node{Id: c.config.NodeID},
			TypeUrl:                 typeURL,
			ResourceNamesSubscribe:  []string{"*"},
			InitialResourceVersions: c.accepted.versions(typeURL),
		}); err != nil {
			return c.ended(stream, err)
		}
	}
	nonces := map[string]string{} // of the answers that wait for others to come
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		c.connected()
		nonces[resp.GetTypeUrl()] = resp.GetNonce()
		verdicts, waits := c.take(resp)
		if waits {
			continue
		}
		for _, typeURL := range xds.Types {
			nonce, ok := nonces[typeURL]
			if !ok {
				continue
			}
			delete(nonces, typeURL)
			answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResponseNonce: nonce}
			if err := verdicts[typeURL]; err != nil {
				c.refused(typeURL, err)
				answer.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
			}
			if err := stream.Send(answer); err != nil {
				return c.ended(stream, err)
			}
		}
	}
}

// ended is why a stream ended on which Send failed.
func (c *Client) ended(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient, err error) error {
	for {
		if _, recv := stream.Recv(); recv != nil {
			return errors.Join(err, recv)
		}
	}
}

// take takes an answer in. verdicts hold, by type URL, why answers are refused. waits is true while OnSnapshot was not asked because other types
// have not been answered for the first time.
func (c *Client) take(resp *discoveryv3.DeltaDiscoveryResponse) (verdicts map[string]error, waits bool) {
	typeURL := resp.GetTypeUrl()
	c.sent = c.sent.with(resp)
	switch {
	case !c.sent.complete():
		return nil, true
	case !c.accepted.complete():
		return c.takeFirst(), false
	case len(resp.GetResources()) == 0 && len(resp.GetRemovedResources()) == 0:
		return nil, false
	}
	if err := c.offer(c.accepted.replaced(typeURL, c.sent)); err != nil {
		return map[string]error{typeURL: err}, false
	}
	return nil, false
}

// takeFirst offers everything at once.
func (c *Client) takeFirst() (verdicts map[string]error) {
	err := c.offer(c.sent)
	if err == nil {
		return nil
	}
	// A model that this sidecar cannot run must not keep it from the rest.
	if c.sent[xds.TypeModel][xds.Self] != nil && c.offer(c.sent.replaced(xds.TypeModel, resources{xds.TypeModel: {}})) == nil {
		return map[string]error{xds.TypeModel: err}
	}
	verdicts = map[string]error{}
	for _, typeURL := range xds.Types {
		verdicts[typeURL] = err
	}
	return verdicts
}

// offer has a state accepted, and keeps it.
func (c *Client) offer(next resources) error {
	snapshot, err := next.snapshot()
	if err != nil {
		return err
	}
	if err := c.config.OnSnapshot(snapshot); err != nil {
		return err
	}
	c.accepted = next
	if c.config.StateDir != "" {
		if err := next.save(c.config.StateDir); err != nil {
			c.config.Log.Warn("state is not kept", zap.Error(err))
		}
	}
	return nil
}

func (c *Client) connected() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stats.Connected {
		c.stats.Connected, c.stats.Since = true, time.Now()
		c.stats.Streams++
	}
}

func (c *Client) disconnected(ctx context.Context, err error) {
	c.mu.Lock()
	if c.stats.Connected || c.stats.Since.IsZero() {
		c.stats.Since = time.Now()
	}
	c.stats.Connected = false
	if err != nil {
		c.stats.LastError = err.Error()
	}
	c.mu.Unlock()
	if ctx.Err() == nil {
		c.config.Log.Info("discovery stream ended", zap.Error(err))
	}
}

func (c *Client) refused(typeURL string, err error) {
	c.mu.Lock()
	c.stats.Nacks++
	c.stats.LastError = err.Error()
	c.mu.Unlock()
	c.config.Log.Warn("refused what the control plane sent", zap.String("type", typeURL), zap.Error(err))
}

// batchFailed says whether a batch is given up: one that the server will never take is dropped, any other is sent again.
func (c *Client) batchFailed(err error, records int) bool {
	c.config.Log.Debug("decision records were not sent", zap.Error(err))
	switch status.Code(err) {
	case codes.InvalidArgument, codes.Unimplemented:
		c.queue.done(records, false)
		return true
	}
	return false
}

// growing is a delay that doubles, with full jitter over its upper half.
type growing struct{ delay time.Duration }

func (c *Client) newBackoff() *growing { return &growing{delay: minBackoff} }

func (g *growing) reset() { g.delay = minBackoff }

func (g *growing) next() time.Duration {
	d := g.delay
	g.delay = min(2*g.delay, maxBackoff)
	return d/2 + rand.N(d/2)
}

// pause waits; it says whether the time has passed, not ctx.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
