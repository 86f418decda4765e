package certs

import "path/filepath"

// Variable is an environment variable.
type Variable struct{ Name, Value string }

// Variables are the environment variables by which common clients trust what WriteTrust wrote to dir. One that adds to what a
// client trusts anyway names our root alone; one that replaces it names the system's roots and ours.
func Variables(dir string) []Variable {
	root, bundle, store := filepath.Join(dir, rootFile), filepath.Join(dir, bundleFile), filepath.Join(dir, TrustStoreFile)
	return []Variable{
		{"SSL_CERT_FILE", bundle},                      // OpenSSL, Go, Python's ssl, httpx, rustls-native-certs
		{"REQUESTS_CA_BUNDLE", bundle},                 // Python requests
		{"CURL_CA_BUNDLE", bundle},                     // curl
		{"GIT_SSL_CAINFO", bundle},                     // git, also where it is linked to GnuTLS
		{"NODE_EXTRA_CA_CERTS", root},                  // Node.js: adds
		{"DENO_CERT", bundle},                          // Deno
		{"AWS_CA_BUNDLE", bundle},                      // AWS CLI and SDKs
		{"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", bundle},   // gRPC C core and its bindings
		{"PIP_CERT", bundle},                           // pip
		{"HTTPLIB2_CA_CERTS", bundle},                  // httplib2
		{"NIX_SSL_CERT_FILE", bundle},                  // programs built by Nix
		{"CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", bundle}, // gcloud
		{"JAVA_TOOL_OPTIONS", "-Djavax.net.ssl.trustStore=" + store + // every JVM; it says so on stderr
			" -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword=" + TrustStorePassword},
	}
}
