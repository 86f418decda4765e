package node

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed config manifests
var files embed.FS

// configFiles are the files rendered below the state directory's config/, by name of
// their template.
var configFiles = []string{
	"cni/10-sallyport.conflist", "containerd.toml", "kube-proxy.yaml", "kubelet.yaml", "resolv.conf",
}

// values is what the templates may refer to.
type values struct {
	State, Node, Bridge                          string
	BridgeIPv4, BridgeIPv6                       string
	PodRangeIPv4, PodRangeIPv6                   string
	PodRangesIPv4, PodRangesIPv6                 string
	DNSServiceIPv4, DNSServiceIPv6               string
	Domain, CNIBinaries, CNINetwork, Runc        string
	PauseImage, CoreDNSImage, CertManagerImage   string
	APIPort, ServiceIPv4, ServiceIPv6, Namespace string
}

func (n Node) values() values {
	return values{
		State: n.State, Node: nodeName, Bridge: bridge,
		BridgeIPv4: bridgeIPv4, BridgeIPv6: bridgeIPv6,
		PodRangeIPv4: podRangeIPv4, PodRangeIPv6: podRangeIPv6,
		PodRangesIPv4: podRangesIPv4, PodRangesIPv6: podRangesIPv6,
		DNSServiceIPv4: dnsServiceIPv4, DNSServiceIPv6: dnsServiceIPv6,
		Domain: clusterDomain, CNIBinaries: cniBinaries, CNINetwork: cniNetwork,
		PauseImage: Registry + "/cluster/pause:1",
		APIPort:    apiPort, ServiceIPv4: serviceIPv4, ServiceIPv6: serviceIPv6,
		Namespace: certManagerName,
	}
}

// render fills in one embedded template.
func render(name string, v values) ([]byte, error) {
	t, err := template.New(filepath.Base(name)).Option("missingkey=error").ParseFS(files, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("fill in %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// writeConfigs renders every configuration file into the state directory.
func (n Node) writeConfigs(v values) error {
	for _, name := range configFiles {
		content, err := render("config/"+name, v)
		if err != nil {
			return err
		}
		if err := writeFile(n.config(name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file unless it already has that content, creating its directory.
func writeFile(file string, content []byte, mode fs.FileMode) error {
	have, err := os.ReadFile(file)
	if err == nil && bytes.Equal(have, content) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, content, mode)
}
