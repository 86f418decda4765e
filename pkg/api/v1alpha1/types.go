package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Condition types of the group. Every kind has Ready, so that GitOps tools judge its health unmodified.
const (
	// ConditionAccepted says whether the object's spec was understood and checked.
	ConditionAccepted = "Accepted"
	// ConditionProgrammed says whether every sidecar in scope runs what the spec says.
	ConditionProgrammed = "Programmed"
	// ConditionReady sums the others up.
	ConditionReady = "Ready"
	// ConditionLearning says whether anything is learned of a workload's calls.
	ConditionLearning = "Learning"
	// ConditionDrifted says whether a workload's calls are other ones than those that its model learned from.
	ConditionDrifted = "Drifted"
)

// ClusterPolicyBundle is Rego that judges the calls of every namespace it selects.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=cpb,categories=sallyport
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="Digest",type=string,JSONPath=`.status.digest`
// +kubebuilder:printcolumn:name="Sidecars",type=integer,JSONPath=`.status.sidecars.total`
// +kubebuilder:printcolumn:name="Current",type=integer,JSONPath=`.status.sidecars.current`
// +kubebuilder:printcolumn:name="Stale",type=integer,JSONPath=`.status.sidecars.stale`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ClusterPolicyBundle struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ClusterPolicyBundleSpec   `json:"spec"`
	Status ClusterPolicyBundleStatus `json:"status,omitempty"`
}

// ClusterPolicyBundleList is a list of ClusterPolicyBundle.
//
// +kubebuilder:object:root=true
type ClusterPolicyBundleList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ClusterPolicyBundle `json:"items"`
}

// ClusterPolicyBundleSpec says which Rego applies to which namespaces.
type ClusterPolicyBundleSpec struct {
	// NamespaceSelector selects the namespaces whose calls the bundle judges. Empty selects all.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// Modules are Rego modules by file name. Each must be in the package sallyport.bundle.<name of this
	// object, with - written as _> or below it. A file whose name ends in _test.rego is a test: it runs when the
	// object changes, and a failing test refuses the change.
	// +optional
	Modules map[string]string `json:"modules,omitempty"`
	// ConfigMapRefs name ConfigMaps in the controller's namespace whose keys are further modules.
	// +optional
	ConfigMapRefs []corev1.LocalObjectReference `json:"configMapRefs,omitempty"`
}

// ClusterPolicyBundleStatus is what became of the spec.
type ClusterPolicyBundleStatus struct {
	// ObservedGeneration is the generation of the spec that the conditions speak of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Digest is the sha256 of the modules that are being served: of the last good spec, not of a refused one.
	Digest string `json:"digest,omitempty"`
	// Sidecars counts the sidecars in scope by what they run.
	Sidecars SidecarCounts `json:"sidecars,omitempty"`
	// Conditions are Accepted, Programmed and Ready.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SidecarCounts counts connected sidecars.
type SidecarCounts struct {
	// Total is the number of connected sidecars in scope.
	Total int32 `json:"total"`
	// Current is how many of them run the digest of the status.
	Current int32 `json:"current"`
	// Stale is how many of them run another one, or refused it.
	Stale int32 `json:"stale"`
}

// ModelProvider is a model API that workloads may be allowed to call.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=mp,categories=sallyport
// +kubebuilder:printcolumn:name="API",type=string,JSONPath=`.spec.api`
// +kubebuilder:printcolumn:name="Hosts",type=string,JSONPath=`.spec.hosts`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type ModelProvider struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ModelProviderSpec   `json:"spec"`
	Status ModelProviderStatus `json:"status,omitempty"`
}

// ModelProviderList is a list of ModelProvider.
//
// +kubebuilder:object:root=true
type ModelProviderList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []ModelProvider `json:"items"`
}

// ModelProviderAPI is the wire format that a provider speaks: it says how its calls are read and answered, and how it wants its credential.
// +kubebuilder:validation:Enum=openai;azure-openai;anthropic;gemini;vertex-ai;bedrock;cohere;ollama;mcp;a2a
type ModelProviderAPI string

// The wire formats known: those of the table of surfaces.
const (
	// APIOpenAI is OpenAI's, and that of the many servers that are compatible with it.
	APIOpenAI ModelProviderAPI = "openai"
	// APIAzureOpenAI is that of Azure OpenAI, with its deployments and API versions.
	APIAzureOpenAI ModelProviderAPI = "azure-openai"
	// APIAnthropic is Anthropic's.
	APIAnthropic ModelProviderAPI = "anthropic"
	// APIGemini is that of the Gemini API of Google AI Studio.
	APIGemini ModelProviderAPI = "gemini"
	// APIVertexAI is that of Vertex AI, Anthropic's models there included.
	APIVertexAI ModelProviderAPI = "vertex-ai"
	// APIBedrock is that of Amazon Bedrock's runtime.
	APIBedrock ModelProviderAPI = "bedrock"
	// APICohere is Cohere's.
	APICohere ModelProviderAPI = "cohere"
	// APIOllama is Ollama's own, and the compatible one that it has beside it.
	APIOllama ModelProviderAPI = "ollama"
	// APIMCP is the Model Context Protocol over streamable HTTP.
	APIMCP ModelProviderAPI = "mcp"
	// APIA2A is the JSON-RPC binding of the Agent2Agent protocol.
	APIA2A ModelProviderAPI = "a2a"
)

// ModelProviderAPIs returns the wire formats known.
func ModelProviderAPIs() []ModelProviderAPI {
	return []ModelProviderAPI{APIOpenAI, APIAzureOpenAI, APIAnthropic, APIGemini, APIVertexAI, APIBedrock, APICohere, APIOllama, APIMCP, APIA2A}
}

// ModelProviderSpec says where a provider is, what it speaks and which credential a released call gets.
//
// +kubebuilder:validation:XValidation:rule="!(has(self.plaintext) && self.plaintext) || (has(self.port) && self.port != 443)",message="a plaintext provider needs a port of its own, such as 80 or 8000: 443 is that of TLS"
// +kubebuilder:validation:XValidation:rule="!(has(self.plaintext) && self.plaintext) || !has(self.caBundle) || size(self.caBundle) == 0",message="a plaintext provider has no certificate that caBundle could be for"
type ModelProviderSpec struct {
	// API is the wire format the hosts speak.
	API ModelProviderAPI `json:"api"`
	// Hosts are exact DNS names, lower case, without port, as callers say them: a service of the cluster by its full name,
	// such as vllm.models.svc.cluster.local, since no search domain is tried.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`
	Hosts []string `json:"hosts"`
	// Port is the TCP port of the hosts. A plaintext provider must say it.
	// +kubebuilder:default=443
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	// +optional
	Port int32 `json:"port,omitempty"`
	// BasePath is the path under which the hosts have the API's own paths, where that is not the root: /openai for Groq, /api for
	// OpenRouter. It begins with a slash and ends with none. What is asked for outside it is an unknown surface.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^(/[A-Za-z0-9_~:@-][A-Za-z0-9._~:@-]*)*$`
	// +optional
	BasePath string `json:"basePath,omitempty"`
	// Plaintext says that the hosts speak HTTP without TLS, as servers inside a cluster do. They are then spoken to in no other way.
	// +optional
	Plaintext bool `json:"plaintext,omitempty"`
	// Addresses are dialled in the place of those that the hosts' names resolve to. Unlike those, they may be loopback and link-local.
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="self.all(a, isIP(a))",message="every address must be an IP address, without port or prefix length"
	// +listType=set
	// +optional
	Addresses []string `json:"addresses,omitempty"`
	// NamespaceSelector selects the namespaces that know this provider. Empty selects all.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// Credential is added to a released call in place of any that the caller sent. Without one, the
	// caller's own credential is forwarded.
	// +optional
	Credential *ProviderCredential `json:"credential,omitempty"`
	// CABundle is PEM of roots that the provider's certificate may chain to, in addition to the system's.
	// +optional
	CABundle string `json:"caBundle,omitempty"`
}

// ProviderCredential names the key of a Secret in the controller's namespace.
type ProviderCredential struct {
	// SecretRef names the Secret and the key in it that holds the credential: an API key; for vertex-ai an access token or the JSON key of a
	// service account; for bedrock a Bedrock API key or JSON, {"accessKeyId": "…", "secretAccessKey": "…", "sessionToken": "…", "region": "…"},
	// where the token may be left out, and the region as well where the hosts say it.
	SecretRef corev1.SecretKeySelector `json:"secretRef"`
}

// ModelProviderStatus is what became of the spec.
type ModelProviderStatus struct {
	// ObservedGeneration is the generation of the spec that the conditions speak of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Sidecars counts the sidecars that know the provider: current have acknowledged this generation.
	Sidecars SidecarCounts `json:"sidecars,omitempty"`
	// Conditions are Accepted, Programmed and Ready.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// EgressProfile sets how the sidecars of the namespaces it selects behave.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=egp,categories=sallyport
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type EgressProfile struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   EgressProfileSpec   `json:"spec"`
	Status EgressProfileStatus `json:"status,omitempty"`
}

// EgressProfileList is a list of EgressProfile.
//
// +kubebuilder:object:root=true
type EgressProfileList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []EgressProfile `json:"items"`
}

// Mode says what a sidecar does with a decision.
// +kubebuilder:validation:Enum=enforce;observe
type Mode string

// The modes.
const (
	// ModeEnforce carries decisions out.
	ModeEnforce Mode = "enforce"
	// ModeObserve records decisions and releases every call; each such release of a denied call is
	// counted and logged as relaxed.
	ModeObserve Mode = "observe"
)

// EgressProfileSpec is the behaviour. The zero value is the strict one.
type EgressProfileSpec struct {
	// NamespaceSelector selects the namespaces. The profile named "default" applies to every namespace that no other
	// profile selects; where several select one, the first by name applies.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
	// Mode is enforce (the default) or observe.
	// +kubebuilder:default=enforce
	// +optional
	Mode Mode `json:"mode,omitempty"`
	// KillSwitch refuses every call while it is true.
	// +optional
	KillSwitch bool `json:"killSwitch,omitempty"`
	// AllowOptOut honours sallyport.dev/inject: disabled on a pod.
	// +optional
	AllowOptOut bool `json:"allowOptOut,omitempty"`
	// Passthrough lists destinations that are no model provider and may be reached, tunnelled and unread.
	// +optional
	Passthrough []PassthroughRule `json:"passthrough,omitempty"`
	// MaxRequestBytes is the largest body that is judged; larger ones are refused. Default 16 MiB, at most 64 MiB.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=67108864
	// +optional
	MaxRequestBytes int64 `json:"maxRequestBytes,omitempty"`
	// Timeouts set how long a sidecar waits in a call, for the calls that begin from then on. There is none for a whole call.
	// +optional
	Timeouts TimeoutsSpec `json:"timeouts,omitempty"`
	// Limits set what a sidecar keeps in memory of the calls that begin from then on.
	// +optional
	Limits LimitsSpec `json:"limits,omitempty"`
	// Proxy sets the sidecar container.
	// +optional
	Proxy ProxySpec `json:"proxy,omitempty"`
	// Detector sets how baselines are learned and used.
	// +optional
	Detector DetectorSpec `json:"detector,omitempty"`
}

// LargestMaxRequestBytes is how large maxRequestBytes and what is held of responses may be.
const LargestMaxRequestBytes = 64 << 20

// DefaultMaxRequestBytes is in force where maxRequestBytes is 0.
const DefaultMaxRequestBytes = 16 << 20

// LongestTimeout is how long any of the timeouts may be.
const LongestTimeout = 24 * time.Hour

// TimeoutsSpec sets how long a sidecar waits in a call. What is absent or 0 is the default.
type TimeoutsSpec struct {
	// RequestBody is how long a request's body may take to arrive, and to wait for memory. Then the call fails with 408, or 503. Default 2m.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h)){1,4}$') && duration(self) <= duration('24h')",message="must be a duration such as 500ms, 30s or 1h30m: not negative, and 24h at most"
	// +optional
	RequestBody *metav1.Duration `json:"requestBody,omitempty"`
	// Connect is how long resolving and dialling the provider may take, and by itself the TLS handshake. Then the call fails with 504. Default 10s.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h)){1,4}$') && duration(self) <= duration('24h')",message="must be a duration such as 500ms, 30s or 1h30m: not negative, and 24h at most"
	// +optional
	Connect *metav1.Duration `json:"connect,omitempty"`
	// FirstByte is how long the provider may think before its response begins. Then the call fails with 504. Default 10m.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h)){1,4}$') && duration(self) <= duration('24h')",message="must be a duration such as 500ms, 30s or 1h30m: not negative, and 24h at most"
	// +optional
	FirstByte *metav1.Duration `json:"firstByte,omitempty"`
	// Idle is how long a response, or both ends of a WebSocket, may pause. Then the connection is broken off. Default 10m.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h)){1,4}$') && duration(self) <= duration('24h')",message="must be a duration such as 500ms, 30s or 1h30m: not negative, and 24h at most"
	// +optional
	Idle *metav1.Duration `json:"idle,omitempty"`
	// Hold is how long a caller hears nothing while a policy has its response held. Then it is sent what keeps it waiting, where the stream's form has
	// such a thing. Default 10s.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h)){1,4}$') && duration(self) <= duration('24h')",message="must be a duration such as 500ms, 30s or 1h30m: not negative, and 24h at most"
	// +optional
	Hold *metav1.Duration `json:"hold,omitempty"`
}

// LimitsSpec sets what a sidecar keeps in memory. What is absent or 0 is the default.
type LimitsSpec struct {
	// MemoryBytes is how much of requests, messages and held responses all calls of a sidecar may keep together. A call that needs more than is left
	// waits for it, and then fails with 503. It must be maxRequestBytes at least, and a part of the container's memory limit, since decoding takes more.
	// Default 128 MiB.
	// +kubebuilder:validation:Minimum=0
	// +optional
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	// HeldToolCallBytes is how much of a stream may be held until a tool call is complete, and how much of each tool call's arguments policy
	// is shown; a longer one ends the stream with a refusal. Default 1 MiB, at most 64 MiB.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=67108864
	// +optional
	HeldToolCallBytes int64 `json:"heldToolCallBytes,omitempty"`
	// HeldResponseBytes is how large a response, or a frame of a stream, may be that policy has held; a larger one is refused. Default 16 MiB, at
	// most 64 MiB.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=67108864
	// +optional
	HeldResponseBytes int64 `json:"heldResponseBytes,omitempty"`
}

// PassthroughRule is a destination by name or by address.
type PassthroughRule struct {
	// Host is an exact DNS name, as the caller names it in its ClientHello or Host header.
	// +optional
	Host string `json:"host,omitempty"`
	// CIDR is an address range; it matches the address dialled. Exactly one of host and cidr is set.
	// +optional
	CIDR string `json:"cidr,omitempty"`
	// Ports are the TCP ports; empty means all.
	// +optional
	Ports []int32 `json:"ports,omitempty"`
}

// ProxySpec sets the sidecar container.
type ProxySpec struct {
	// Image overrides the image the controller was started with.
	// +optional
	Image string `json:"image,omitempty"`
	// Resources of the proxy container, merged over the controller's defaults field by field.
	// +optional
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
	// Explicit has the sidecar also listen at 127.0.0.1:15002 as a proxy that callers know of, for HTTP_PROXY, HTTPS_PROXY and base URLs such
	// as http://127.0.0.1:15002/<ModelProvider>. Capture stays in force, and what is judged is the same. It applies to pods made from then on.
	// +optional
	Explicit bool `json:"explicit,omitempty"`
}

// Cold says what becomes of the calls of a workload that has no model yet.
// +kubebuilder:validation:Enum=Abstain;Deny
type Cold string

// The values of Cold.
const (
	// ColdAbstain lets policy decide, which sees that the detector is not ready.
	ColdAbstain Cold = "Abstain"
	// ColdDeny refuses every call that the detector would have judged.
	ColdDeny Cold = "Deny"
)

// PriorScope says whose calls a shared prior is made of.
// +kubebuilder:validation:Enum=Cluster;Namespace
type PriorScope string

// The scopes of a shared prior.
const (
	PriorCluster   PriorScope = "Cluster"
	PriorNamespace PriorScope = "Namespace"
)

// Defaults of DetectorSpec.
const (
	DefaultFalsePositivesPerMillion = 10_000
	DefaultMinCalls                 = 1_000
	DefaultMinSessions              = 50
	DefaultRetrainCalls             = 8_192
	DefaultRetrainInterval          = 24 * time.Hour
)

// Bounds of DetectorSpec.
const (
	// ShortestRetrainInterval is how often a model may be trained because of its age.
	ShortestRetrainInterval = time.Minute
	// LongestRetrainInterval is ninety days.
	LongestRetrainInterval = 90 * 24 * time.Hour
	MinCanaryBytes         = 8
	MaxCanaryBytes         = 256
	MaxCanaries            = 64
)

// DetectorSpec sets how baselines are learned and used.
type DetectorSpec struct {
	// FalsePositivesPerMillion is the budget: how many of a million benign calls may exceed the threshold. Default 10000 (1 %).
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=999999
	// +optional
	FalsePositivesPerMillion int32 `json:"falsePositivesPerMillion,omitempty"`
	// MinCalls is the number of released calls before the first model is trained of a workload's own. Default 1000.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2048
	// +optional
	MinCalls int32 `json:"minCalls,omitempty"`
	// MinSessions is the number of sessions that these must come from. Default 50.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=2048
	// +optional
	MinSessions int32 `json:"minSessions,omitempty"`
	// Cold says what becomes of calls while the workload has no model: with Abstain (the default) policy decides, with anomaly.ready false; with Deny the
	// calls that the detector would have judged are refused, which also means that nothing is learned of them: it is for workloads that start from
	// a shared prior, or that have learned already.
	// +kubebuilder:default=Abstain
	// +optional
	Cold Cold `json:"cold,omitempty"`
	// RetrainCalls is after how many further admitted calls a model is trained anew; a young model is sooner, each time that the number has doubled. Default 8192.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000000
	// +optional
	RetrainCalls int32 `json:"retrainCalls,omitempty"`
	// RetrainInterval is how old a model may become before it is trained anew, if calls were admitted since. From 1m to 2160h; default 24h.
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]{1,6}([.][0-9]{1,6})?(ms|s|m|h)){1,4}$') && duration(self) >= duration('1m') && duration(self) <= duration('2160h')",message="must be a duration such as 90m or 24h: 1m at least, and 2160h at most"
	// +optional
	RetrainInterval *metav1.Duration `json:"retrainInterval,omitempty"`
	// SharedPrior gives a workload that has too few calls yet a model of other workloads' calls, in which its own take their place one by one. What is
	// shared are numbers, never words. A workload that is unlike the others has calls over the threshold until somebody says that they are not attacks.
	// +optional
	SharedPrior bool `json:"sharedPrior,omitempty"`
	// PriorScope says of whose calls: those of all workloads of the cluster that have a model of their own (Cluster, the default) or of those in the workload's
	// namespace (Namespace).
	// +kubebuilder:default=Cluster
	// +optional
	PriorScope PriorScope `json:"priorScope,omitempty"`
	// Canaries are strings that no call may hold, in any coding: decoys that were put where no agent has business. A call that holds one is refused.
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=name
	// +optional
	Canaries []Canary `json:"canaries,omitempty"`
}

// Canary is a string that no call may hold. It is a decoy and not kept secret from those who may read profiles.
type Canary struct {
	// Name is what records and policies call it.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be lower-case letters, digits and hyphens, and begin and end with a letter or digit"
	Name string `json:"name"`
	// Value is the string: 8 to 256 printable ASCII characters, of which spaces do not count. Letters of either case are the same. A short or common one will
	// be found where it means nothing.
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.replace(' ', '').size() >= 8",message="must be 8 to 256 bytes long, spaces not counted"
	// +kubebuilder:validation:XValidation:rule="self.matches('^[!-~]([ -~]*[!-~])?$')",message="must be printable ASCII, and not begin or end with a space"
	Value string `json:"value"`
}

// EgressProfileStatus is what became of the spec.
type EgressProfileStatus struct {
	// ObservedGeneration is the generation of the spec that the conditions speak of.
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions are Accepted and Ready.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// Baseline is what the detector has learned of one workload. The controller makes one for each workload
// that has a sidecar; its name is <kind>-<name> in lower case.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=bl,categories=sallyport
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Learning",type=string,JSONPath=`.status.conditions[?(@.type=="Learning")].reason`
// +kubebuilder:printcolumn:name="Calls",type=integer,JSONPath=`.status.calls`
// +kubebuilder:printcolumn:name="Sessions",type=integer,JSONPath=`.status.sessions`
// +kubebuilder:printcolumn:name="Model",type=string,JSONPath=`.status.modelDigest`
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.status.modelSource`
// +kubebuilder:printcolumn:name="Over",type=string,JSONPath=`.status.falsePositives.share`
// +kubebuilder:printcolumn:name="Drifted",type=string,JSONPath=`.status.conditions[?(@.type=="Drifted")].reason`,priority=1
// +kubebuilder:printcolumn:name="Feature",type=string,JSONPath=`.status.drift.features[0].name`,priority=1
// +kubebuilder:printcolumn:name="Trained",type=date,JSONPath=`.status.trainedAt`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Baseline struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   BaselineSpec   `json:"spec,omitempty"`
	Status BaselineStatus `json:"status,omitempty"`
}

// BaselineList is a list of Baseline.
//
// +kubebuilder:object:root=true
type BaselineList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Baseline `json:"items"`
}

// BaselineSpec is what a person may set.
type BaselineSpec struct {
	// Freeze keeps the present model: nothing is learned while it is true.
	// +optional
	Freeze bool `json:"freeze,omitempty"`
}

// BaselinePhase is where learning stands.
type BaselinePhase string

// The phases.
const (
	// BaselineLearning is the phase until there is a model of the workload's own; it may have one of a shared prior.
	BaselineLearning BaselinePhase = "Learning"
	BaselineReady    BaselinePhase = "Ready"
	// BaselineDrifting is Ready, but the calls of late are not distributed as those that the model learned from, and more exceed than the budget allows.
	BaselineDrifting BaselinePhase = "Drifting"
	BaselineFrozen   BaselinePhase = "Frozen"
)

// ModelSource says whose calls a model was trained on.
type ModelSource string

// The sources of models.
const (
	ModelPrior ModelSource = "Prior" // other workloads' calls, and those that there are of its own
	ModelOwn   ModelSource = "Own"   // the workload's calls alone
)

// BaselineStatus is where learning stands.
type BaselineStatus struct {
	// Phase is Learning, Ready, Drifting or Frozen.
	Phase BaselinePhase `json:"phase,omitempty"`
	// Calls is how many feature vectors were received and admitted to the reservoir.
	Calls int64 `json:"calls,omitempty"`
	// Sessions is how many sessions those come from that are in the reservoir now.
	Sessions int64 `json:"sessions,omitempty"`
	// Rejected is how many vectors were kept out of the reservoir because their call was refused, over the threshold or in a tainted session.
	Rejected int64 `json:"rejected,omitempty"`
	// ModelDigest is the sha256 of the model in use, shortened to 12 hex digits.
	ModelDigest string `json:"modelDigest,omitempty"`
	// ModelSource is Own, or Prior while the model was trained on other workloads' calls.
	ModelSource ModelSource `json:"modelSource,omitempty"`
	// TrainedOn is how many of the workload's vectors the model was trained on, PriorRows how many of others'.
	TrainedOn int64 `json:"trainedOn,omitempty"`
	PriorRows int64 `json:"priorRows,omitempty"`
	// TrainedAt is when the model was trained.
	TrainedAt *metav1.Time `json:"trainedAt,omitempty"`
	// FalsePositives is how the model keeps to its budget.
	// +optional
	FalsePositives *FalsePositives `json:"falsePositives,omitempty"`
	// Drift is how the calls of late differ from those that the model learned from; absent while there are too few.
	// +optional
	Drift *DriftStatus `json:"drift,omitempty"`
	// Feedback counts the labels that the next model is trained with.
	// +optional
	Feedback *FeedbackStatus `json:"feedback,omitempty"`
	// Exceeded are the calls that exceeded the threshold last, the latest first: those that feedback is asked for.
	// +listType=atomic
	// +optional
	Exceeded []ExceededCall `json:"exceeded,omitempty"`
	// Conditions are Ready: calls are judged by a model; Learning: something is learned of calls; and, once there is a model, Drifted: they are other ones than the model learned from.
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// FalsePositives is the realised false-positive rate of the model in use: of the calls that it judged and that were released, or would have been but for their score, how
// many exceeded the threshold. Calls that were labelled as attacks are not among them; attacks that nobody labelled are, so that it is an upper bound.
type FalsePositives struct {
	Calls    int64 `json:"calls"`
	Exceeded int64 `json:"exceeded"`
	// Share is exceeded of calls, such as "0.81% of 1560".
	Share string `json:"share"`
}

// ScoreShift is where scores have moved to.
type ScoreShift string

// Where scores move to.
const (
	ScoresHigher ScoreShift = "Higher"
	ScoresLower  ScoreShift = "Lower" // the workload does something simpler, or less, than it did
)

// DriftStatus compares the calls of late with those that the model learned from.
type DriftStatus struct {
	// Calls is how many were compared.
	Calls int64 `json:"calls"`
	// ScorePSI is the population stability index of the scores, such as "0.12".
	ScorePSI string `json:"scorePSI"`
	// Scores is Higher or Lower where they have moved beyond chance.
	// +optional
	Scores ScoreShift `json:"scores,omitempty"`
	// Features are those that have moved beyond chance, most first, at most 5.
	// +listType=atomic
	// +optional
	Features []FeatureDrift `json:"features,omitempty"`
}

// FeatureDrift is how far a feature has moved.
type FeatureDrift struct {
	Name string `json:"name"`
	// PSI is its population stability index, such as "0.31".
	PSI string `json:"psi"`
}

// FeedbackStatus counts labelled calls.
type FeedbackStatus struct {
	FalsePositives int64 `json:"falsePositives,omitempty"`
	Attacks        int64 `json:"attacks,omitempty"`
	// Last is what became of the last annotation.
	Last string `json:"last,omitempty"`
}

// ExceededCall is a call that exceeded the threshold.
type ExceededCall struct {
	// ID is the decision's id.
	ID string `json:"id"`
	// Label is what somebody said of it: false-positive, attack or nothing.
	Label string `json:"label,omitempty"`
}

// BaselineName is the name of a workload's Baseline.
func BaselineName(kind, name string) string {
	return BoundedName(strings.ToLower(kind) + "-" + name)
}

// BoundedName is a name that Kubernetes accepts: what is too long, or has what may not be in a name, as owners that nobody checked may, ends in a digest of the whole.
func BoundedName(name string) string {
	if len(validation.IsDNS1123Subdomain(name)) == 0 {
		return name
	}
	const digits = 16
	sum := sha256.Sum256([]byte(name))
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, name)
	readable = strings.Trim(readable[:min(len(readable), validation.DNS1123SubdomainMaxLength-digits-1)], "-")
	return strings.TrimPrefix(readable+"-"+hex.EncodeToString(sum[:digits/2]), "-")
}
