// Package image makes container images out of static binaries and pushes them.
//
// An image is one layer with each binary at /<its name>, a world-writable /tmp and,
// if asked for, the system's CA certificates. Timestamps are fixed, so that an
// unchanged binary gives the same digest. It does not run commands in images, and has
// no base images: what is not a static binary does not belong here.
//
// The call most readers came for:
//
//	img, err := image.Build(image.Spec{Binaries: []string{"bin/sallyport-proxy"}})
//	ref, err := image.Push(ctx, img, "127.0.0.1:5000/sallyport-proxy:dev")
package image
