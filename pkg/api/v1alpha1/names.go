package v1alpha1

import "sallyport.dev/sallyport/pkg/contract"

// The names of pkg/contract, which documents them, for those who use the API types as well.
const (
	InjectLabel                  = contract.InjectLabel
	InjectEnabled                = contract.InjectEnabled
	InjectDisabled               = contract.InjectDisabled
	StatusAnnotation             = contract.StatusAnnotation
	ProxyCPURequestAnnotation    = contract.ProxyCPURequestAnnotation
	ProxyCPULimitAnnotation      = contract.ProxyCPULimitAnnotation
	ProxyMemoryRequestAnnotation = contract.ProxyMemoryRequestAnnotation
	ProxyMemoryLimitAnnotation   = contract.ProxyMemoryLimitAnnotation
	FeedbackAnnotation           = contract.FeedbackAnnotation
	LabelFalsePositive           = contract.LabelFalsePositive
	LabelAttack                  = contract.LabelAttack
	InitContainerName            = contract.InitContainerName
	ProxyContainerName           = contract.ProxyContainerName
	ProxyUID                     = contract.ProxyUID
	TokenAudience                = contract.TokenAudience
	DefaultProfile               = contract.DefaultProfile
	CapturePort                  = contract.CapturePort
	ExplicitPort                 = contract.ExplicitPort
	HealthPort                   = contract.HealthPort
	DiscoveryPort                = contract.DiscoveryPort
	BundlePort                   = contract.BundlePort
	EnvDiscoveryAddress          = contract.EnvDiscoveryAddress
	EnvBundleURL                 = contract.EnvBundleURL
	EnvTrustAnchors              = contract.EnvTrustAnchors
	EnvBundleKeys                = contract.EnvBundleKeys
	EnvWorkload                  = contract.EnvWorkload
	EnvExplicit                  = contract.EnvExplicit
	EnvPodName                   = contract.EnvPodName
	EnvPodNamespace              = contract.EnvPodNamespace
	EnvPodUID                    = contract.EnvPodUID
	EnvServiceAccount            = contract.EnvServiceAccount
	TokenVolume                  = contract.TokenVolume
	TokenPath                    = contract.TokenPath
	StateVolume                  = contract.StateVolume
	StatePath                    = contract.StatePath
	TrustVolume                  = contract.TrustVolume
	TrustPath                    = contract.TrustPath
	CAFile                       = contract.CAFile
	BundleFile                   = contract.BundleFile
)
