package contract

// Names that are part of the contract between the webhook, the control plane and the sidecar, and
// between Sallyport and its users. Every annotation and label that Sallyport reads or writes is here.
const (
	// InjectLabel on a namespace or a pod asks for injection when its value is InjectEnabled.
	InjectLabel = "sallyport.dev/inject"
	// InjectEnabled is the value of InjectLabel that turns injection on.
	InjectEnabled = "enabled"
	// InjectDisabled is the value of InjectLabel that turns injection off for a pod. It is honoured
	// only where the pod's EgressProfile sets allowOptOut.
	InjectDisabled = "disabled"

	// StatusAnnotation is written by the webhook: JSON that says what was injected, and by which template.
	StatusAnnotation = "sallyport.dev/status"
	// ProxyCPUAnnotation and its siblings set single resources of the proxy container; each is merged by itself.
	ProxyCPURequestAnnotation    = "sallyport.dev/proxy-cpu-request"
	ProxyCPULimitAnnotation      = "sallyport.dev/proxy-cpu-limit"
	ProxyMemoryRequestAnnotation = "sallyport.dev/proxy-memory-request"
	ProxyMemoryLimitAnnotation   = "sallyport.dev/proxy-memory-limit"

	// FeedbackAnnotation on a Baseline labels calls of its workload: ID=LabelFalsePositive or ID=LabelAttack, several separated by commas. The
	// controller applies it, tells in an Event what became of it, and removes it.
	FeedbackAnnotation = "sallyport.dev/feedback"
	// LabelFalsePositive says that a call that exceeded the threshold was none to object to.
	LabelFalsePositive = "false-positive"
	// LabelAttack says that a call was an attack, whether it exceeded or not.
	LabelAttack = "attack"

	// InitContainerName is the init container that installs the capture rules.
	InitContainerName = "sallyport-init"
	// ProxyContainerName is the native sidecar.
	ProxyContainerName = "sallyport-proxy"

	// ProxyUID is the user and group id of the proxy. It is reserved: no other container may run with it.
	ProxyUID int64 = 2113

	// TokenAudience is the audience of the projected ServiceAccount token by which a sidecar proves who it is.
	TokenAudience = "sallyport"
	// DefaultProfile is the EgressProfile that applies where no other selects the namespace.
	DefaultProfile = "default"
)

// Ports of the sidecar.
const (
	CapturePort int32 = 15001
	// ExplicitPort is that of the explicit proxy, on the loopback address.
	ExplicitPort int32 = 15002
	HealthPort   int32 = 15020
)

// Ports of the controller's Service.
const (
	// DiscoveryPort serves gRPC over TLS: delta ADS, the access-log service, certificate signing.
	DiscoveryPort int32 = 15012
	// BundlePort serves HTTPS: OPA bundles and OPA status reports.
	BundlePort int32 = 15013
)

// Environment of the sidecar, written by the webhook and read by cmd/sallyport-proxy.
const (
	// EnvDiscoveryAddress is host:port of the controller's gRPC service.
	EnvDiscoveryAddress = "SALLYPORT_DISCOVERY_ADDRESS"
	// EnvBundleURL is the base URL of the controller's bundle service, https://host:port.
	EnvBundleURL = "SALLYPORT_BUNDLE_URL"
	// EnvTrustAnchors is the PEM of the cluster's root certificate, to which the controller's serving
	// certificate and every sidecar's intermediate chain.
	EnvTrustAnchors = "SALLYPORT_TRUST_ANCHORS"
	// EnvBundleKeys is PEM with one or more PKIX public keys (ECDSA P-256) that may sign bundles.
	EnvBundleKeys = "SALLYPORT_BUNDLE_KEYS"
	// EnvWorkload is "Kind/name" of the pod's owner as the webhook saw it. It is informative: the
	// control plane takes the workload from the authenticated identity.
	EnvWorkload = "SALLYPORT_WORKLOAD"
	// EnvExplicit is "true" where the sidecar also serves the explicit proxy.
	EnvExplicit = "SALLYPORT_EXPLICIT_PROXY"
	// EnvPodName, EnvPodNamespace, EnvPodUID and EnvServiceAccount come from the downward API.
	EnvPodName        = "POD_NAME"
	EnvPodNamespace   = "POD_NAMESPACE"
	EnvPodUID         = "POD_UID"
	EnvServiceAccount = "POD_SERVICE_ACCOUNT"
)

// Paths in the proxy container, all on volumes that the webhook adds.
const (
	// TokenVolume is a projected volume with the token at TokenPath; mounted in the proxy alone.
	TokenVolume = "sallyport-token"
	TokenPath   = "/var/run/secrets/sallyport.dev/token"
	// StateVolume is a memory-backed emptyDir for the last good of everything, the intermediate's key
	// and the admin socket; mounted in the proxy alone.
	StateVolume = "sallyport-state"
	StatePath   = "/var/lib/sallyport"
	// TrustVolume is an emptyDir with ca.crt and bundle.crt: written by the proxy, mounted read-only in the
	// agent's containers.
	TrustVolume = "sallyport-trust"
	TrustPath   = "/etc/sallyport/trust"
	// CAFile holds the cluster's root alone; BundleFile the system roots and ours.
	CAFile     = "ca.crt"
	BundleFile = "bundle.crt"
)
