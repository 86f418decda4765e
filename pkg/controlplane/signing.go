package controlplane

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/pkg/xds"
)

// Bounds of signing.
const (
	intermediateLife  = 24 * time.Hour
	signTimeout       = 30 * time.Second
	maxRequestBytes   = 64 << 10
	requestsKeptFor   = time.Hour
	requestsSweptEach = 10 * time.Minute
	// A sidecar asks when it starts and when its intermediate or its providers change.
	signingsPerPod  = 6
	signingsWithin  = time.Minute
	maxSigningPods  = 16_384
	intermediateOf  = "intermediate" // value of componentLabel
	intermediateFor = "sallyport sidecar "
)

// Signer has sidecars' intermediates signed by cert-manager: it checks what is asked for against who asks, makes a CertificateRequest in the controller's
// namespace and waits for it.
type Signer struct {
	client    client.WithWatch
	namespace string
	issuer    string
	hosts     func(namespace string) []string
	limit     *limiter
	now       func() time.Time
	metrics   *metrics
}

func newSigner(c client.WithWatch, namespace, issuer string, hosts func(string) []string, now func() time.Time, m *metrics) (*Signer, error) {
	limit, err := newLimiter(maxSigningPods, signingsPerPod, signingsWithin, now)
	if err != nil {
		return nil, err
	}
	return &Signer{client: c, namespace: namespace, issuer: issuer, hosts: hosts, limit: limit, now: now, metrics: m}, nil
}

// Sign returns the chain for a sidecar's request: the intermediate and what it chains to, without the root.
func (s *Signer) Sign(ctx context.Context, id xds.Identity, csrDER []byte) (chain []byte, err error) {
	defer func() {
		result := "signed"
		if err != nil {
			result = status.Code(err).String()
		}
		s.metrics.signed.WithLabelValues(result).Inc()
	}()
	if !s.limit.allow(id.PodUID) {
		return nil, status.Error(codes.ResourceExhausted, "too many certificate requests from this pod")
	}
	if len(csrDER) > maxRequestBytes {
		return nil, status.Error(codes.InvalidArgument, "certificate request too large")
	}
	if err := certs.CheckIntermediateRequest(csrDER, intermediateFor+id.Namespace+"/"+id.Pod, s.hosts(id.Namespace)); err != nil {
		return nil, status.Error(codes.PermissionDenied, err.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	request := &cmapi.CertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: "sallyport-sidecar-",
			Namespace:    s.namespace,
			Labels:       map[string]string{managedByLabel: managedBy, componentLabel: intermediateOf},
		},
		Spec: cmapi.CertificateRequestSpec{
			Request:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csrDER}),
			IsCA:      true,
			Duration:  &metav1.Duration{Duration: intermediateLife},
			Usages:    []cmapi.KeyUsage{cmapi.UsageCertSign, cmapi.UsageCRLSign},
			IssuerRef: cmmeta.IssuerReference{Name: s.issuer, Kind: "Issuer", Group: "cert-manager.io"},
		},
	}
	if err := s.client.Create(ctx, request); err != nil {
		return nil, fmt.Errorf("create certificate request: %w", err)
	}
	signed, err := s.wait(ctx, request)
	// The certificate is the sidecar's; the request has done its part whatever came of it. What is left behind here is swept later.
	defer func() {
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTimeout)
		defer cancel()
		_ = s.client.Delete(clean, request)
	}()
	if err != nil {
		return nil, err
	}
	return withoutRoot(signed)
}

// wait watches a request until cert-manager has decided.
func (s *Signer) wait(ctx context.Context, request *cmapi.CertificateRequest) ([]byte, error) {
	for ctx.Err() == nil {
		w, err := s.client.Watch(ctx, &cmapi.CertificateRequestList{}, &client.ListOptions{
			Namespace: s.namespace, FieldSelector: fields.OneTermEqualSelector("metadata.name", request.Name),
		})
		if err != nil {
			return nil, fmt.Errorf("watch certificate request: %w", err)
		}
		chain, done, err := s.follow(ctx, w)
		w.Stop()
		if done || err != nil {
			return chain, err
		}
	}
	return nil, status.Error(codes.Unavailable, "the issuer has not answered in time")
}

// follow reads a watch; done is false where it ended before there was a decision.
func (s *Signer) follow(ctx context.Context, w watch.Interface) (chain []byte, done bool, err error) {
	for {
		select {
		case <-ctx.Done():
			return nil, false, nil
		case event, open := <-w.ResultChan():
			if !open {
				return nil, false, nil
			}
			if event.Type == watch.Deleted {
				return nil, true, status.Error(codes.Unavailable, "the certificate request was deleted")
			}
			if request, ok := event.Object.(*cmapi.CertificateRequest); ok {
				if chain, done, err := decided(request); done {
					return chain, true, err
				}
			}
		}
	}
}

// decided says what cert-manager made of a request.
func decided(request *cmapi.CertificateRequest) (chain []byte, done bool, err error) {
	for _, c := range request.Status.Conditions {
		switch {
		case c.Type == cmapi.CertificateRequestConditionDenied && c.Status == cmmeta.ConditionTrue:
			return nil, true, status.Error(codes.PermissionDenied, "the certificate request was denied: "+shorten(c.Message))
		case c.Type == cmapi.CertificateRequestConditionInvalidRequest && c.Status == cmmeta.ConditionTrue:
			return nil, true, status.Error(codes.InvalidArgument, "the certificate request is invalid: "+shorten(c.Message))
		case c.Type == cmapi.CertificateRequestConditionReady && c.Reason == cmapi.CertificateRequestReasonFailed:
			return nil, true, status.Error(codes.Unavailable, "the issuer failed: "+shorten(c.Message))
		case c.Type == cmapi.CertificateRequestConditionReady && c.Status == cmmeta.ConditionTrue && len(request.Status.Certificate) > 0:
			return request.Status.Certificate, true, nil
		}
	}
	return nil, false, nil
}

// withoutRoot takes certificates that are their own issuer out of a chain.
func withoutRoot(chainPEM []byte) ([]byte, error) {
	var out []byte
	for rest := chainPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read the issued chain: %w", err)
		}
		if slices.Equal(certificate.RawSubject, certificate.RawIssuer) && certificate.CheckSignatureFrom(certificate) == nil {
			continue
		}
		out = append(out, pem.EncodeToMemory(block)...)
	}
	if len(out) == 0 {
		return nil, errors.New("read the issued chain: no certificate")
	}
	return out, nil
}

// sweep deletes requests that were left behind, now and then until ctx is done.
func (s *Signer) sweep(ctx context.Context, report func(error, string)) {
	tick := time.NewTicker(requestsSweptEach)
	defer tick.Stop()
	for {
		if err := s.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			report(err, "old certificate requests are not deleted")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Signer) sweepOnce(ctx context.Context) error {
	var old cmapi.CertificateRequestList
	if err := s.client.List(ctx, &old, client.InNamespace(s.namespace), client.MatchingLabels{managedByLabel: managedBy, componentLabel: intermediateOf}); err != nil {
		return err
	}
	for i := range old.Items {
		if s.now().Sub(old.Items[i].CreationTimestamp.Time) < requestsKeptFor {
			continue
		}
		if err := s.client.Delete(ctx, &old.Items[i]); client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}
