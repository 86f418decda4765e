package xdsserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"sallyport.dev/sallyport/pkg/xds"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
)

// defaultConnections is how many connections there may be where nobody says how many.
const defaultConnections = 20_000

// bufferBytes is how much of a connection is read and written at once. With gRPC's 32 KiB a thousand idle sidecars would take 30 MB more; what they are sent is sent no slower.
const bufferBytes = 4 << 10

// Limits of the server. A connection is ended now and then so that its token is looked at again: a stream is authenticated once, when it begins.
const (
	maxStreams           = 32
	maxMessageBytes      = 4 << 20
	maxConnectionAge     = 30 * time.Minute
	maxConnectionGrace   = 30 * time.Second
	maxConnectionIdle    = 15 * time.Minute
	minClientPing        = 10 * time.Second
	handshakeTimeout     = 10 * time.Second
	gracefulStopDuration = 5 * time.Second
)

// Config is what a Server is made of. Authenticator and GetCertificate are required.
type Config struct {
	// Authenticator says who calls.
	Authenticator xds.Authenticator
	// GetCertificate returns the serving certificate; it is asked at every handshake, so that a renewed one is used at once.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// OnRecord is given each decision record, JSON, and who sent it. What the record itself says of its workload is the sidecar's claim. It is called from many
	// goroutines and must not keep the bytes.
	OnRecord func(id xds.Identity, record []byte)
	// Sign returns the chain for a sidecar's certificate request. An error that carries a gRPC status is passed on; any other
	// becomes Internal without its text.
	Sign func(ctx context.Context, id xds.Identity, csrDER []byte) (chainPEM []byte, err error)
	// Salt is the feature salt of a workload; all are 0 if it is nil. It is asked whenever a sidecar's configuration is made, and must give one
	// workload the same answer always.
	Salt func(xds.Workload) uint64
	// OnChange is called when a sidecar came, went, acknowledged or refused something. It must not block.
	OnChange func()
	// Now is the clock; time.Now if nil.
	Now func() time.Time
	// MaxConnections is how many connections there may be at once, 20,000 if it is 0. Each takes some 60 KB (BenchmarkSidecars). More are not accepted until others end; a sidecar
	// that waits goes on with what it has.
	MaxConnections int
}

// Server is the control plane's half. Its methods may be called at any time from any goroutine.
type Server struct {
	config Config
	caches *scopes
	tls    *tls.Config

	mu         sync.Mutex
	namespaces map[string]*xdsv1.WorkloadConfig // known ones, with what their sidecars' configurations are made from
	sessions   map[*session]struct{}
	serial     uint64
}

// New returns a server that knows no namespace yet.
func New(config Config) (*Server, error) {
	if config.Authenticator == nil {
		return nil, errors.New("xds server without an authenticator")
	}
	if config.GetCertificate == nil {
		return nil, errors.New("xds server without a certificate")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.OnChange == nil {
		config.OnChange = func() {}
	}
	if config.Salt == nil {
		config.Salt = func(xds.Workload) uint64 { return 0 }
	}
	if config.MaxConnections <= 0 {
		config.MaxConnections = defaultConnections
	}
	if config.OnRecord == nil {
		config.OnRecord = func(xds.Identity, []byte) {}
	}
	return &Server{
		config:     config,
		caches:     newScopes(),
		tls:        &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: config.GetCertificate},
		namespaces: map[string]*xdsv1.WorkloadConfig{},
		sessions:   map[*session]struct{}{},
	}, nil
}

// NamespaceResources is what the sidecars of one namespace are sent.
type NamespaceResources struct {
	// Config is the behaviour. Namespace, kind, name, pod, service account and feature salt are filled in for each sidecar from its identity.
	Config *xdsv1.WorkloadConfig
	// Providers are the providers that the namespace knows.
	Providers []*xdsv1.ModelProvider
	// Secrets are credentials by resource name, as ModelProvider.credential names them.
	Secrets map[string][]byte
}

// SetNamespace makes r the whole of what the sidecars of the namespace are sent, but for their models. Until it was called for a namespace, that
// namespace's sidecars are told to come again: an empty answer would make them forget what they know.
func (s *Server) SetNamespace(namespace string, r NamespaceResources) error {
	providers := make(map[string]types.Resource, len(r.Providers))
	for _, p := range r.Providers {
		providers[p.GetName()] = p
	}
	secrets := make(map[string]types.Resource, len(r.Secrets))
	for name, value := range r.Secrets {
		secrets[name] = &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_GenericSecret{GenericSecret: &tlsv3.GenericSecret{
			Secret: &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: value}},
		}}}
	}
	config := r.Config
	if config == nil {
		config = &xdsv1.WorkloadConfig{}
	}

	// The lock is held throughout, so that of two calls for one namespace the later has the last word.
	s.mu.Lock()
	defer s.mu.Unlock()
	s.namespaces[namespace] = config
	// A credential comes before the provider that names it and goes after it.
	if err := s.caches.add(scope{xds.TypeSecret, namespace}, secrets); err != nil {
		return err
	}
	if err := s.caches.set(scope{xds.TypeProvider, namespace}, providers); err != nil {
		return err
	}
	if err := s.caches.set(scope{xds.TypeSecret, namespace}, secrets); err != nil {
		return err
	}
	for session := range s.sessions {
		if session.identity.Namespace == namespace {
			if err := s.configure(session); err != nil {
				return err
			}
		}
	}
	return nil
}

// DeleteNamespace forgets a namespace and withdraws what it was sent.
func (s *Server) DeleteNamespace(namespace string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.namespaces, namespace)
	if err := s.caches.set(scope{xds.TypeProvider, namespace}, nil); err != nil {
		return err
	}
	return s.caches.set(scope{xds.TypeSecret, namespace}, nil)
}

// SetModel makes m the model of a workload; nil withdraws it.
func (s *Server) SetModel(w xds.Workload, m *xdsv1.DetectorModel) error {
	var resources map[string]types.Resource
	if m != nil {
		resources = map[string]types.Resource{xds.Self: m}
	}
	return s.caches.set(scope{xds.TypeModel, workloadKey(w)}, resources)
}

// configure gives a session its WorkloadConfig. The lock is held by the caller.
func (s *Server) configure(session *session) error {
	config := proto.CloneOf(s.namespaces[session.identity.Namespace])
	config.Namespace = session.identity.Namespace
	config.Kind = session.identity.Kind
	config.Name = session.identity.Name
	config.Pod = session.identity.Pod
	config.ServiceAccount = session.identity.ServiceAccount
	config.FeatureSalt = s.config.Salt(session.identity.Workload())
	return s.caches.set(session.scopes[xds.TypeConfig], map[string]types.Resource{xds.Self: config})
}

// Current are the versions of what a sidecar of this identity should have of a type, by resource name. The map is not to be changed.
func (s *Server) Current(id xds.Identity, typeURL string) map[string]string {
	key, ok := scopesOf(id)[typeURL]
	if !ok {
		return nil
	}
	return s.caches.versions(key)
}

// Serve answers on the listener, TLS 1.3 only, until ctx is done. Then streams are given a moment to end.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	g := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.tls)),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.ReadBufferSize(bufferBytes),
		grpc.WriteBufferSize(bufferBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: maxConnectionIdle, MaxConnectionAge: maxConnectionAge, MaxConnectionAgeGrace: maxConnectionGrace,
			Time: xds.KeepaliveTime, Timeout: xds.KeepaliveTimeout,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minClientPing, PermitWithoutStream: true}),
		grpc.StreamInterceptor(s.authenticateStream),
		grpc.UnaryInterceptor(s.authenticateCall),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, &discovery{server: s, delta: delta.NewServer(ctx, s.caches, nil)})
	accesslogv3.RegisterAccessLogServiceServer(g, &accessLogs{server: s})
	xdsv1.RegisterCertificateServiceServer(g, &certificates{server: s})

	served := make(chan error, 1)
	go func() { served <- g.Serve(netutil.LimitListener(listener, s.config.MaxConnections)) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve discovery: %w", err)
	case <-ctx.Done():
	}
	graceful := make(chan struct{})
	go func() { g.GracefulStop(); close(graceful) }()
	timer := time.NewTimer(gracefulStopDuration)
	defer timer.Stop()
	select {
	case <-graceful:
	case <-timer.C:
		g.Stop()
		<-graceful
	}
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve discovery: %w", err)
	}
	return nil
}

func (s *Server) authenticateStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, err := authenticate(stream.Context(), s.config.Authenticator)
	if err != nil {
		return err
	}
	return handler(srv, &authenticatedStream{ServerStream: stream, ctx: ctx})
}

func (s *Server) authenticateCall(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, err := authenticate(ctx, s.config.Authenticator)
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

// authenticatedStream carries the identity in its context.
type authenticatedStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context is the stream's context with the identity.
func (a *authenticatedStream) Context() context.Context { return a.ctx }

// discovery serves delta ADS; the state-of-the-world protocol is unimplemented.
type discovery struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
	delta  delta.Server
}

// DeltaAggregatedResources serves one sidecar for as long as its stream lasts.
func (d *discovery) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	id, err := identityFrom(stream.Context())
	if err != nil {
		return err
	}
	session, err := d.server.open(id)
	if err != nil {
		return err
	}
	defer d.server.close(session)
	d.server.config.OnChange()
	return d.delta.DeltaStreamHandler(&boundStream{AggregatedDiscoveryService_DeltaAggregatedResourcesServer: stream, session: session, changed: d.server.config.OnChange}, resource.AnyType)
}

// open begins a session, if the sidecar's namespace is known.
func (s *Server) open(id xds.Identity) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.namespaces[id.Namespace] == nil {
		return nil, status.Error(codes.Unavailable, "namespace is not known yet")
	}
	s.serial++
	session := newSession(id, s.serial, s.config.Now())
	s.caches.bind(session)
	if err := s.configure(session); err != nil {
		s.caches.release(session)
		return nil, status.Error(codes.Internal, "no configuration")
	}
	s.sessions[session] = struct{}{}
	return session, nil
}

func (s *Server) close(session *session) {
	s.mu.Lock()
	delete(s.sessions, session)
	s.caches.release(session)
	s.mu.Unlock()
	s.config.OnChange()
}

// certificates signs intermediates.
type certificates struct {
	xdsv1.UnimplementedCertificateServiceServer
	server *Server
}

// SignIntermediate has the request of an authenticated sidecar signed.
func (c *certificates) SignIntermediate(ctx context.Context, req *xdsv1.SignIntermediateRequest) (*xdsv1.SignIntermediateResponse, error) {
	id, err := identityFrom(ctx)
	if err != nil {
		return nil, err
	}
	if c.server.config.Sign == nil {
		return nil, status.Error(codes.Unimplemented, "no signer")
	}
	chain, err := c.server.config.Sign(ctx, id, req.GetCsr())
	if err != nil {
		if _, ok := status.FromError(err); ok {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, status.FromContextError(ctx.Err()).Err()
		}
		return nil, status.Error(codes.Internal, "certificate request was not signed")
	}
	return &xdsv1.SignIntermediateResponse{Chain: chain}, nil
}
