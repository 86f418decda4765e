// Package host knows what a machine must have to run the cluster: which programs,
// plugins and kernel features, and which Debian package brings what is missing.
//
// It only looks, except for Install, which runs apt-get.
//
// The call most readers came for:
//
//	if err := host.Check(); err != nil { // names everything that is missing
package host
