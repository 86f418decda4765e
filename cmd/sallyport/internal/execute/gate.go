package execute

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/gate"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/proxy"
)

// theGate is a proxy with what a sidecar would have around it.
type theGate struct {
	proxy *proxy.Proxy
	token string // of the explicit proxy
	root  []byte // PEM
	log   *zap.Logger
	wg    sync.WaitGroup
}

func newGate(modules map[string]string, model *detector.Model, s *show, stderr io.Writer) (*theGate, error) {
	engine, err := policy.NewStatic(modules)
	if err != nil {
		return nil, err
	}
	authority, root, err := newAuthority(time.Now())
	if err != nil {
		return nil, err
	}
	minter := certs.NewMinter()
	minter.SetAuthority(authority)
	enc := zap.NewDevelopmentEncoderConfig()
	enc.EncodeTime = nil
	log := zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(enc), zapcore.Lock(zapcore.AddSync(stderr)), zap.WarnLevel)).Named("sallyport")
	began := time.Now()
	// Any process of the machine can reach the loopback address: only those that the command told may spend its user's credentials.
	token := rand.Text()
	p, err := proxy.New(proxy.Options{
		Gate: &gate.Gate{
			Policy: engine, Model: func() *detector.Model { return model }, Sessions: features.NewSessions(0, 0), Limits: llm.DefaultLimits(),
			Elapsed: func() time.Duration { return time.Since(began) },
		},
		Recorder: s, Minter: minter, Registerer: prometheus.NewRegistry(), Log: log, ExplicitToken: token,
	})
	if err != nil {
		return nil, fmt.Errorf("make the gate: %w", err)
	}
	return &theGate{proxy: p, token: token, root: root, log: log}, nil
}

// serve serves a listener until drain.
func (g *theGate) serve(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.log.Error("the gate has lost a listener", zap.Error(err))
		}
	})
}

// drain lets the calls in flight end and emits what is left to be recorded.
func (g *theGate) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = g.proxy.Drain(ctx) // cut calls are recorded, too
	g.wg.Wait()
}
