// Package xdsserver is the control plane's half of the channel that package xds describes: it serves delta ADS from caches that are one
// for each namespace, workload and pod, takes decision records in, and has certificate requests signed.
//
//	server, err := xdsserver.New(xdsserver.Config{Authenticator: a, GetCertificate: certs.GetCertificate})
//	server.SetNamespace("agents", xdsserver.NamespaceResources{Config: config, Providers: providers, Secrets: secrets})
//	err = server.Serve(ctx, listener)
//
// Who a sidecar is the Authenticator says, and what it is sent the caller: the package knows neither Kubernetes nor policy. It links
// go-control-plane's caches and with them most of Envoy's protos, which is why a sidecar must not import it.
package xdsserver
