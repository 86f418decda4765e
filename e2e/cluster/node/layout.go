package node

import "path/filepath"

// The addresses of the cluster. The bridge's addresses are the node's own, and the
// only ones besides loopback that anything listens on.
const (
	nodeName        = "sallyport"
	bridge          = "sallyport0"
	serviceLink     = "sallyport1" // a bridge without ports, that routes to Services lead to
	bridgeIPv4      = "10.244.0.1"
	bridgeIPv6      = "fd00:10:244::1"
	podRangesIPv4   = "10.244.0.0/16"
	podRangesIPv6   = "fd00:10:244::/56"
	podRangeIPv4    = "10.244.0.0/24" // the node's share, the first of podRangesIPv4
	podRangeIPv6    = "fd00:10:244::/64"
	serviceIPv4     = "10.96.0.0/16"
	serviceIPv6     = "fd00:10:96::/112"
	apiServiceIPv4  = "10.96.0.1"
	dnsServiceIPv4  = "10.96.0.10"
	dnsServiceIPv6  = "fd00:10:96::a"
	apiPort         = "6443"
	cniNetwork      = "sallyport"
	cniBinaries     = "/usr/lib/cni"
	nftTable        = "sallyport_cluster"
	clusterDomain   = "cluster.local"
	certManagerName = "cert-manager"
)

// Registry is where the cluster's own registry listens.
const Registry = "127.0.0.1:5000"

// A Layout says where things lie.
type Layout struct {
	// State holds everything a running cluster writes; Down removes it.
	State string
	// Cache holds what is built; Down leaves it alone.
	Cache string
	// Source is the directory that holds components/.
	Source string
}

// Kubeconfig is the administrator's kubeconfig.
func (l Layout) Kubeconfig() string { return l.in("kubeconfig") }

// Programs is a directory with links to kubectl and the other programs.
func (l Layout) Programs() string { return l.in("bin") }

// Logs holds one log per program, and the logs of pods.
func (l Layout) Logs() string { return l.in("logs") }

func (l Layout) in(parts ...string) string {
	return filepath.Join(append([]string{l.State}, parts...)...)
}

func (l Layout) pki(name string) string    { return l.in("pki", name) }
func (l Layout) config(name string) string { return l.in("config", name) }
func (l Layout) runtimeSocket() string     { return l.in("run", "containerd.sock") }
