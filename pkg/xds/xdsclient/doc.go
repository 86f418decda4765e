// Package xdsclient is the sidecar's half of the channel that package xds describes: it is told what to run, and hands it over whole or
// not at all; it sends decision records; and it has the sidecar's intermediate signed.
//
//	client, err := xdsclient.Dial(xdsclient.Config{Address: address, TrustAnchors: pem, TokenPath: path, StateDir: dir, OnSnapshot: apply})
//	err = client.Run(ctx)
//
// What was accepted last is kept in a file, so that a sidecar that starts again while the control plane is gone runs what it ran before.
// It does not say what a snapshot means: that is the program's.
package xdsclient
