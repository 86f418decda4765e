package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"sallyport.dev/sallyport/e2e/cluster/build"
	"sallyport.dev/sallyport/e2e/cluster/process"
)

// programs returns everything that runs on the machine itself, in the order in which
// it is started. Each line of what a program is told stands where its reason does.
func (n Node) programs(set build.Set) []process.Spec {
	const local = "https://127.0.0.1"
	api := "https://" + bridgeIPv4 + ":" + apiPort
	kubeconfig := func(program string) string { return n.config(program + ".kubeconfig") }
	controllerFlags := func(program, port string) []string {
		return []string{
			"--kubeconfig=" + kubeconfig(program),
			"--authentication-kubeconfig=" + kubeconfig(program),
			"--authorization-kubeconfig=" + kubeconfig(program),
			"--bind-address=127.0.0.1", "--secure-port=" + port,
			"--tls-cert-file=" + n.pki("local.crt"), "--tls-private-key-file=" + n.pki("local.key"),
			"--leader-elect=false",
		}
	}
	specs := []process.Spec{
		{
			Name: "registry", Path: set.Path("crane"),
			Args:  []string{"registry", "serve", "--address", Registry, "--disk", n.in("registry")},
			Ready: n.answers("http://" + Registry + "/v2/"),
		},
		{
			Name: "etcd", Path: set.Path("etcd"),
			Args: []string{
				"--name=" + nodeName, "--data-dir=" + n.in("etcd"),
				"--unsafe-no-fsync", // its data need not survive a power cut
				"--listen-client-urls=" + local + ":2379", "--advertise-client-urls=" + local + ":2379",
				"--listen-peer-urls=" + local + ":2380", "--initial-advertise-peer-urls=" + local + ":2380",
				"--initial-cluster=" + nodeName + "=" + local + ":2380",
				"--listen-metrics-urls=http://127.0.0.1:2381",
				"--client-cert-auth", "--trusted-ca-file=" + n.pki("ca.crt"),
				"--cert-file=" + n.pki("etcd.crt"), "--key-file=" + n.pki("etcd.key"),
				"--peer-client-cert-auth", "--peer-trusted-ca-file=" + n.pki("ca.crt"),
				"--peer-cert-file=" + n.pki("etcd.crt"), "--peer-key-file=" + n.pki("etcd.key"),
			},
			Ready: n.answers("http://127.0.0.1:2381/readyz"),
		},
		{
			Name: "kube-apiserver", Path: set.Path("kube-apiserver"),
			Args: []string{
				// Pods reach it here through the Service kubernetes; the machine
				// itself through 127.0.0.1 and a rule of its own.
				"--bind-address=" + bridgeIPv4, "--advertise-address=" + bridgeIPv4, "--secure-port=" + apiPort,
				"--tls-cert-file=" + n.pki("apiserver.crt"), "--tls-private-key-file=" + n.pki("apiserver.key"),
				"--client-ca-file=" + n.pki("ca.crt"),
				"--etcd-servers=" + local + ":2379", "--etcd-cafile=" + n.pki("ca.crt"),
				"--etcd-certfile=" + n.pki("apiserver-etcd-client.crt"), "--etcd-keyfile=" + n.pki("apiserver-etcd-client.key"),
				"--authorization-mode=Node,RBAC",
				"--enable-admission-plugins=NodeRestriction", // besides those on by default, Pod Security among them
				"--allow-privileged=true",
				"--service-cluster-ip-range=" + serviceIPv4 + "," + serviceIPv6,
				"--service-account-issuer=https://kubernetes.default.svc." + clusterDomain,
				"--service-account-key-file=" + n.pki("sa.pub"), "--service-account-signing-key-file=" + n.pki("sa.key"),
				"--kubelet-preferred-address-types=InternalIP",
				"--kubelet-certificate-authority=" + n.pki("ca.crt"),
				"--kubelet-client-certificate=" + n.pki("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + n.pki("apiserver-kubelet-client.key"),
				"--requestheader-client-ca-file=" + n.pki("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
				"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
				"--requestheader-extra-headers-prefix=X-Remote-Extra-",
				"--proxy-client-cert-file=" + n.pki("front-proxy-client.crt"), "--proxy-client-key-file=" + n.pki("front-proxy-client.key"),
				"--profiling=false",
			},
			Ready: n.answers(api + "/readyz"),
		},
		{
			Name: "kube-controller-manager", Path: set.Path("kube-controller-manager"),
			Args: append(controllerFlags("controller-manager", "10257"),
				"--use-service-account-credentials",
				"--service-account-private-key-file="+n.pki("sa.key"), "--root-ca-file="+n.pki("ca.crt"),
				"--cluster-signing-cert-file="+n.pki("ca.crt"), "--cluster-signing-key-file="+n.pki("ca.key"),
				"--allocate-node-cidrs", "--cluster-cidr="+podRangesIPv4+","+podRangesIPv6,
				"--node-cidr-mask-size-ipv4=24", "--node-cidr-mask-size-ipv6=64",
				"--service-cluster-ip-range="+serviceIPv4+","+serviceIPv6),
			Ready: n.answers(local + ":10257/healthz"),
		},
		{
			Name: "kube-scheduler", Path: set.Path("kube-scheduler"),
			Args:  controllerFlags("scheduler", "10259"),
			Ready: n.answers(local + ":10259/healthz"),
		},
		{
			Name: "containerd", Path: set.Path("containerd"),
			Args:  []string{"--config", n.config("containerd.toml")},
			Env:   []string{"PATH=" + n.Programs() + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, // the shim is found here
			Files: []string{n.config("containerd.toml")},
			Ready: func(context.Context) error {
				conn, err := net.DialTimeout("unix", n.runtimeSocket(), time.Second)
				if err != nil {
					return err
				}
				return conn.Close()
			},
		},
		{
			Name: "kubelet", Path: set.Path("kubelet"),
			Args: []string{
				"--config=" + n.config("kubelet.yaml"), "--kubeconfig=" + kubeconfig("kubelet"),
				"--root-dir=" + n.in("kubelet"), "--cert-dir=" + n.in("kubelet", "pki"),
				"--hostname-override=" + nodeName, "--node-ip=" + bridgeIPv4 + "," + bridgeIPv6,
			},
			Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Files: []string{n.config("kubelet.yaml"), n.config("resolv.conf")},
			Ready: n.answers("http://127.0.0.1:10248/healthz"),
		},
		{
			Name: "kube-proxy", Path: set.Path("kube-proxy"),
			Args:  []string{"--config=" + n.config("kube-proxy.yaml")},
			Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Files: []string{n.config("kube-proxy.yaml")},
			Ready: n.answers("http://127.0.0.1:10256/livez"),
		},
	}
	for i := range specs {
		specs[i].Timeout = 2 * time.Minute
	}
	return specs
}

// answers returns a probe that wants status 200 from a URL. A URL with https must show
// a certificate of the cluster's own authority.
func (n Node) answers(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		transport := &http.Transport{DisableKeepAlives: true, Proxy: nil}
		if strings.HasPrefix(url, "https:") {
			ca, err := os.ReadFile(n.pki("ca.crt"))
			if err != nil {
				return err
			}
			roots := x509.NewCertPool()
			if !roots.AppendCertsFromPEM(ca) {
				return errors.New("the cluster's authority is not readable")
			}
			transport.TLSClientConfig = &tls.Config{RootCAs: roots}
		}
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", url, response.Status)
		}
		return nil
	}
}
