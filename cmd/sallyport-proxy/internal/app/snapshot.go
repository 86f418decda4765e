package app

import (
	"fmt"
	"math"

	"go.uber.org/zap"

	"sallyport.dev/sallyport/pkg/canary"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	xdsv1 "sallyport.dev/sallyport/pkg/xds/sallyportv1"
	"sallyport.dev/sallyport/pkg/xds/xdsclient"
	"sallyport.dev/sallyport/proxy"
)

// apply puts a snapshot in force, all of it or nothing. It is called from one goroutine at a time.
func (s *sidecar) apply(snap xdsclient.Snapshot) error {
	model, err := s.loadModel(snap.Model)
	if err != nil {
		return err
	}
	next, err := convert(&snap)
	if err != nil {
		return err
	}
	if err := s.proxy.Update(next); err != nil {
		return err
	}
	s.model.Store(model)
	var hosts []string
	for _, p := range next.Providers {
		if !p.Plaintext {
			hosts = append(hosts, p.Hosts...)
		}
	}
	s.intermediate.want(hosts)
	s.configured.Store(true)
	s.log.Info("configuration in force", zap.String("mode", next.Mode), zap.Bool("kill_switch", next.KillSwitch),
		zap.Int("providers", len(next.Providers)), zap.Int("passthrough", len(next.Passthrough)), zap.String("model", model.Digest()))
	return nil
}

// loadModel returns the detector of a snapshot, the one in force where it is the same.
func (s *sidecar) loadModel(m *xdsv1.DetectorModel) (*detector.Model, error) {
	if m == nil {
		return nil, nil
	}
	if now := s.model.Load(); now != nil && now.Digest() == m.GetDigest() {
		return now, nil
	}
	if m.GetSchema() != features.SchemaID {
		return nil, fmt.Errorf("detector of schema %q, want %q", m.GetSchema(), features.SchemaID)
	}
	model, err := detector.Load(m.GetModel())
	if err != nil {
		return nil, err
	}
	if model.Digest() != m.GetDigest() {
		return nil, fmt.Errorf("detector has the digest %s, said to be %q", model.Digest(), m.GetDigest())
	}
	return model, nil
}

// convert turns the wire form into the proxy's. Ports beyond what there are refuse the snapshot.
func convert(snap *xdsclient.Snapshot) (proxy.Snapshot, error) {
	c := snap.Config
	out := proxy.Snapshot{
		Workload: policy.Workload{
			Namespace: c.GetNamespace(), Kind: c.GetKind(), Name: c.GetName(), Pod: c.GetPod(), ServiceAccount: c.GetServiceAccount(),
		},
		Mode: c.GetMode(), KillSwitch: c.GetKillSwitch(), MaxRequestBytes: c.GetMaxRequestBytes(), Credentials: snap.Secrets,
		Salt: c.GetFeatureSalt(), RefuseCold: c.GetRefuseCold(),
	}
	if len(c.GetCanaries()) > 0 {
		tokens := make([]canary.Token, len(c.GetCanaries()))
		for i, t := range c.GetCanaries() {
			tokens[i] = canary.Token{Name: t.GetName(), Value: string(t.GetValue())}
		}
		var err error
		if out.Canaries, err = canary.New(tokens); err != nil {
			return out, fmt.Errorf("canaries: %w", err)
		}
	}
	t, l := c.GetTimeouts(), c.GetLimits()
	out.Timeouts = proxy.CallTimeouts{
		RequestBody: t.GetRequestBody().AsDuration(), Connect: t.GetConnect().AsDuration(), FirstByte: t.GetFirstByte().AsDuration(),
		Idle: t.GetIdle().AsDuration(), Hold: t.GetHold().AsDuration(),
	}
	out.Limits = proxy.Limits{
		Memory: l.GetMemoryBytes(), HeldToolCalls: int(min(l.GetHeldToolCallBytes(), math.MaxInt32)), HeldResponse: int(min(l.GetHeldResponseBytes(), math.MaxInt32)),
	}
	for i, r := range c.GetPassthrough() {
		rule := proxy.Passthrough{Host: r.GetHost(), CIDR: r.GetCidr()}
		for _, p := range r.GetPorts() {
			port, err := port(p)
			if err != nil {
				return out, fmt.Errorf("passthrough rule %d: %w", i, err)
			}
			rule.Ports = append(rule.Ports, port)
		}
		out.Passthrough = append(out.Passthrough, rule)
	}
	for _, p := range snap.Providers {
		port, err := port(p.GetPort())
		if err != nil {
			return out, fmt.Errorf("provider %q: %w", p.GetName(), err)
		}
		out.Providers = append(out.Providers, proxy.Provider{
			Name: p.GetName(), API: p.GetApi(), Hosts: p.GetHosts(), Port: port, BasePath: p.GetBasePath(), Plaintext: p.GetPlaintext(),
			Addresses: p.GetAddresses(), Credential: p.GetCredential(), CABundle: p.GetCaBundle(),
		})
	}
	return out, nil
}

func port(p uint32) (uint16, error) {
	if p == 0 || p > math.MaxUint16 {
		return 0, fmt.Errorf("%d is no port", p)
	}
	return uint16(p), nil
}
