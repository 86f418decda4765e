// Package webhook puts the gate into pods: it decides whether a pod gets the Sallyport sidecar and
// renders it.
//
// The decision and the rendering are one pure function, which the admission handler and
// "sallyport inject" share:
//
//	out, report := webhook.Inject(pod, webhook.Target{Namespace: "agents", Labels: labels, Profile: profile}, config)
//	switch report.Result {
//	case webhook.Injected: // out is the pod with the sidecar; webhook.Patch(pod, out) is the JSON patch
//	case webhook.Skipped:  // nothing asked for injection, or the pod may and does opt out
//	case webhook.Refused:  // the pod asked for what the gate cannot guard; report.Message says what is accepted
//	}
//
// Injecting twice changes nothing, and injecting after another webhook has added a container gives that
// container its trust and puts ours first again.
//
// [Handler] serves the function to the API server. It reads the namespace and its EgressProfile from a
// cache, never from the network, and where it cannot tell, it refuses.
//
// The package does not guard the final shape of pods: that is the ValidatingAdmissionPolicy in deploy/base,
// which the API server evaluates itself, after every webhook has had its turn.
package webhook
