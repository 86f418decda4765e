package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// CertificatesPath is where the CA certificates lie, on a Debian host and in the image.
const CertificatesPath = "/etc/ssl/certs/ca-certificates.crt"

// A Spec says what an image holds.
type Spec struct {
	// Binaries are files of this machine. Each lies at /<base name> in the image.
	Binaries []string
	// Entrypoint is the path in the image of what runs; empty means the first binary.
	Entrypoint string
	// User is the numeric user, or user:group, that runs it; empty means root.
	User string
	// Certs adds this machine's CA certificates.
	Certs bool
}

// Build makes the image. The same files always give the same digest.
func Build(spec Spec) (v1.Image, error) {
	if len(spec.Binaries) == 0 {
		return nil, errors.New("an image needs at least one binary")
	}
	content, names, err := layerTar(spec)
	if err != nil {
		return nil, err
	}
	entrypoint := spec.Entrypoint
	if entrypoint == "" {
		entrypoint = names[0]
	}
	if !slices.Contains(names, entrypoint) {
		return nil, fmt.Errorf("entrypoint %s is none of the image's binaries %v", entrypoint, names)
	}
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithCompressionLevel(gzip.BestSpeed), tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		return nil, fmt.Errorf("make the layer: %w", err)
	}
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return nil, fmt.Errorf("add the layer: %w", err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the image's config: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", runtime.GOARCH
	file.Config = v1.Config{Entrypoint: []string{entrypoint}, Env: []string{"PATH=/"}, WorkingDir: "/", User: spec.User}
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return nil, fmt.Errorf("set the image's config: %w", err)
	}
	return img, nil
}

// layerTar writes the image's file system and returns the paths of the binaries in it.
func layerTar(spec Spec) (content []byte, names []string, err error) {
	var buffer bytes.Buffer
	w := tar.NewWriter(&buffer)
	file := func(at string, mode int64, content []byte) error {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: at[1:], Mode: mode, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err := w.Write(content)
		return err
	}
	dir := func(at string, mode int64) error {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: at[1:] + "/", Mode: mode})
	}
	if err := dir("/tmp", 0o1777); err != nil {
		return nil, nil, fmt.Errorf("write the layer: %w", err)
	}
	if spec.Certs {
		certs, err := os.ReadFile(CertificatesPath)
		if err != nil {
			return nil, nil, fmt.Errorf("read the CA certificates (Debian package ca-certificates): %w", err)
		}
		if err := errors.Join(dir("/etc", 0o755), dir("/etc/ssl", 0o755), dir("/etc/ssl/certs", 0o755),
			file(CertificatesPath, 0o644, certs)); err != nil {
			return nil, nil, fmt.Errorf("write the layer: %w", err)
		}
	}
	for _, binary := range spec.Binaries {
		content, err := os.ReadFile(binary)
		if err != nil {
			return nil, nil, fmt.Errorf("read the binary: %w", err)
		}
		at := path.Join("/", filepath.Base(binary))
		if slices.Contains(names, at) {
			return nil, nil, fmt.Errorf("two binaries are called %s", at)
		}
		if err := file(at, 0o755, content); err != nil {
			return nil, nil, fmt.Errorf("write the layer: %w", err)
		}
		names = append(names, at)
	}
	if err := w.Close(); err != nil {
		return nil, nil, fmt.Errorf("write the layer: %w", err)
	}
	return buffer.Bytes(), names, nil
}

// Push pushes the image under a full reference (registry/name:tag) and returns the
// reference by digest. A registry on a loopback or private address is spoken to over
// plain HTTP if it has no TLS.
func Push(ctx context.Context, img v1.Image, reference string) (string, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return "", fmt.Errorf("read the image's name: %w", err)
	}
	if err := remote.Write(ref, img, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return "", fmt.Errorf("push %s: %w", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return "", fmt.Errorf("compute the digest of %s: %w", ref, err)
	}
	return ref.Context().Digest(digest.String()).String(), nil
}
