package node

import (
	"encoding/json"
	"fmt"
	"os"
)

// writeKubeconfigs writes the kubeconfig of every program that talks to the API
// server, and the administrator's.
func (n Node) writeKubeconfigs() error {
	inside := "https://" + bridgeIPv4 + ":" + apiPort
	for file, k := range map[string]struct{ certificate, server string }{
		n.Kubeconfig(): {"admin", "https://127.0.0.1:" + apiPort},
		n.config("controller-manager.kubeconfig"): {"controller-manager", inside},
		n.config("scheduler.kubeconfig"):          {"scheduler", inside},
		n.config("kubelet.kubeconfig"):            {"kubelet", inside},
		n.config("kube-proxy.kubeconfig"):         {"kube-proxy", inside},
	} {
		content, err := n.kubeconfig(k.certificate, k.server)
		if err != nil {
			return fmt.Errorf("make %s: %w", file, err)
		}
		if err := writeFile(file, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// kubeconfig holds its keys inline, so that the file alone is enough. It is written as
// JSON, which is YAML too.
func (n Node) kubeconfig(certificate, server string) ([]byte, error) {
	var data [3][]byte
	for i, name := range []string{"ca.crt", certificate + ".crt", certificate + ".key"} {
		var err error
		if data[i], err = os.ReadFile(n.pki(name)); err != nil {
			return nil, err
		}
	}
	type named map[string]any
	return json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Config",
		"clusters": []named{{"name": "sallyport", "cluster": named{"server": server, "certificate-authority-data": data[0]}}},
		"users":    []named{{"name": certificate, "user": named{"client-certificate-data": data[1], "client-key-data": data[2]}}},
		"contexts": []named{{"name": "sallyport", "context": named{"cluster": "sallyport", "user": certificate}}},

		"current-context": "sallyport",
	}, "", "  ")
}
