// Package inject is the command "sallyport inject": what the webhook does to pods, done to manifests in a file.
//
// [Run] reads a stream of manifests and writes them with the sidecar in every pod template:
//
//	err := inject.Run(os.Stdin, os.Stdout, os.Stderr, inject.Options{Config: config, Namespace: "agents"})
//
// Namespaces and EgressProfiles in the stream count as they would in the cluster. The package does not talk to a
// cluster.
package inject
