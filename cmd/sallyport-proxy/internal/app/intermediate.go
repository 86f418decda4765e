package app

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"sallyport.dev/sallyport/certs"
)

const (
	// intermediateFile holds the key, then the chain, in the state directory.
	intermediateFile = "intermediate.pem"
	// Between attempts to get an intermediate.
	minRetry = time.Second
	maxRetry = time.Minute
)

// intermediate keeps the minter in possession of an intermediate for the providers' hosts: it asks for one when the hosts change and when two
// thirds of its life are over, and keeps it in the state directory, so that the container can restart without the control plane.
type intermediate struct {
	minter     *certs.Minter
	sign       func(ctx context.Context, csrDER []byte) (chainPEM []byte, err error)
	commonName string
	path       string
	roots      *x509.CertPool
	log        *zap.Logger
	now        func() time.Time

	mu    sync.Mutex
	hosts []string      // sorted, each once
	wake  chan struct{} // holds one value after hosts changed
}

// newIntermediate takes over what was kept, where it is still good.
func newIntermediate(m *certs.Minter, o *runOptions, sign func(context.Context, []byte) ([]byte, error), log *zap.Logger) (*intermediate, error) {
	roots, err := certs.Pool(o.trustAnchors)
	if err != nil {
		return nil, err
	}
	i := &intermediate{
		minter: m, sign: sign, commonName: o.commonName(), path: filepath.Join(o.stateDir, intermediateFile),
		roots: roots, log: log, now: time.Now, wake: make(chan struct{}, 1),
	}
	switch a, err := i.load(); {
	case err == nil:
		m.SetAuthority(a)
		log.Info("kept intermediate taken over", zap.Time("not_after", a.Chain[0].NotAfter))
	case !errors.Is(err, os.ErrNotExist):
		log.Warn("kept intermediate is not used", zap.Error(err))
	}
	return i, nil
}

// want says which hosts the intermediate must permit.
func (i *intermediate) want(hosts []string) {
	hosts = slices.Compact(slices.Sorted(slices.Values(hosts)))
	i.mu.Lock()
	changed := !slices.Equal(hosts, i.hosts)
	i.hosts = hosts
	i.mu.Unlock()
	if changed {
		select {
		case i.wake <- struct{}{}:
		default:
		}
	}
}

func (i *intermediate) wanted() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.hosts
}

// ready says whether every host that is wanted can be minted for.
func (i *intermediate) ready() error {
	hosts := i.wanted()
	if len(hosts) == 0 {
		return nil
	}
	a := i.minter.Authority()
	if a == nil {
		return errors.New("not signed yet")
	}
	if !i.now().Before(a.Chain[0].NotAfter) {
		return errors.New("has ended")
	}
	for _, h := range hosts {
		if !a.Permits(h) {
			return fmt.Errorf("does not permit %s yet", h)
		}
	}
	return nil
}

// run asks for intermediates until ctx is done.
func (i *intermediate) run(ctx context.Context) error {
	retry := minRetry
	for {
		var wait time.Duration
		a, hosts := i.minter.Authority(), i.wanted()
		switch {
		case len(hosts) == 0:
			wait = time.Hour // until want
		case a != nil && exact(a, hosts) && i.now().Before(a.RenewAt()):
			// Not all sidecars of a rollout at the same moment.
			wait = a.RenewAt().Sub(i.now()) + time.Duration(rand.Int64N(int64(time.Minute)))
			retry = minRetry
		default:
			err := i.renew(ctx, hosts)
			if err == nil {
				continue
			}
			if ctx.Err() != nil {
				return nil //nolint:nilerr // to be stopped is no failure
			}
			i.log.Warn("no intermediate", zap.Error(err), zap.Duration("again_in", retry))
			wait, retry = retry, min(2*retry, maxRetry)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-i.wake:
			retry = minRetry
		case <-timer.C:
		}
		timer.Stop()
	}
}

// renew gets an intermediate for the hosts, with a key of its own, and puts it in force.
func (i *intermediate) renew(ctx context.Context, hosts []string) error {
	key, err := certs.GenerateKey()
	if err != nil {
		return err
	}
	csr, err := certs.IntermediateRequest(key, i.commonName, hosts)
	if err != nil {
		return err
	}
	chainPEM, err := i.sign(ctx, csr)
	if err != nil {
		return err
	}
	chain, err := certs.ParseChain(chainPEM)
	if err != nil {
		return err
	}
	a, err := certs.NewAuthority(chain, key)
	if err != nil {
		return err
	}
	if err := a.VerifyRoot(i.roots, i.now()); err != nil {
		return err
	}
	if !exact(a, hosts) {
		return fmt.Errorf("the intermediate permits %q, asked for were %q", a.Chain[0].PermittedDNSDomains, hosts)
	}
	i.minter.SetAuthority(a)
	i.log.Info("intermediate in force", zap.Strings("hosts", hosts), zap.Time("not_after", a.Chain[0].NotAfter), zap.Time("renew_at", a.RenewAt()))
	if err := i.save(a); err != nil {
		// It works; it will not survive a restart.
		i.log.Warn("intermediate not kept", zap.Error(err))
	}
	return nil
}

// exact says whether an intermediate permits these hosts and no others.
func exact(a *certs.Authority, hosts []string) bool {
	return slices.Equal(slices.Compact(slices.Sorted(slices.Values(a.Chain[0].PermittedDNSDomains))), hosts)
}

func (i *intermediate) load() (*certs.Authority, error) {
	b, err := os.ReadFile(i.path)
	if err != nil {
		return nil, fmt.Errorf("load intermediate: %w", err)
	}
	key, chain := pem.Decode(b)
	if key == nil {
		return nil, errors.New("load intermediate: no PEM")
	}
	a, err := certs.ParseAuthority(chain, pem.EncodeToMemory(key))
	if err != nil {
		return nil, fmt.Errorf("load intermediate: %w", err)
	}
	if err := a.VerifyRoot(i.roots, i.now()); err != nil {
		return nil, fmt.Errorf("load intermediate: %w", err)
	}
	if cn := a.Chain[0].Subject.CommonName; cn != i.commonName || strings.TrimSpace(cn) == "" {
		return nil, fmt.Errorf("load intermediate: it is %q's", cn)
	}
	return a, nil
}

// save replaces the file atomically. Only the proxy may read it.
func (i *intermediate) save(a *certs.Authority) error {
	chain, key, err := a.MarshalPEM()
	if err != nil {
		return fmt.Errorf("keep intermediate: %w", err)
	}
	tmp := i.path + ".new"
	if err := os.WriteFile(tmp, append(key, chain...), 0o600); err != nil {
		return fmt.Errorf("keep intermediate: %w", err)
	}
	if err := os.Rename(tmp, i.path); err != nil {
		return fmt.Errorf("keep intermediate: %w", err)
	}
	return nil
}
