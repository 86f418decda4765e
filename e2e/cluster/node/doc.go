// Package node runs a whole Kubernetes cluster on this machine: one node that is both
// control plane and worker, with CoreDNS and cert-manager in pods.
//
// Nothing is simulated: it starts the released programs (etcd, kube-apiserver,
// kube-controller-manager, kube-scheduler, containerd, kubelet, kube-proxy), each
// detached from the command that started it. Everything they write lies below one
// state directory, and what they leave elsewhere (a bridge, nftables tables, sysctls,
// cgroups) is known here and taken back by Down.
//
// It is for tests. There is one node, one etcd member that never syncs to disk, an
// administrator's key in a file, and no way for a pod to reach anything outside.
//
// The call most readers came for:
//
//	n := node.Node{Layout: node.Layout{State: state, Cache: cache, Source: "."}, Log: os.Stdout}
//	err := n.Up(ctx)
package node
