// Package controlplane is the controller's part of Sallyport that is not admission: it says who a sidecar is, checks and serves policy, distributes providers,
// credentials and models, has intermediates signed and learns baselines.
//
// New puts all of it on a controller-runtime manager:
//
//	plane, err := controlplane.New(mgr, controlplane.Config{Namespace: "sallyport-system", Issuer: "sallyport-root", BundleKey: key, …})
//	err = mgr.Start(ctx)
//
// # One leader
//
// Reconcilers, statuses and learning run on the leader alone, and so do the discovery and bundle services: the other replicas do not listen on their
// ports. A sidecar whose connection ends up at one of those is refused and dials again, until it has reached the leader. So the leader sees
// every sidecar, its status and its records, and no two replicas have to agree on anything. The price: one replica serves all sidecars; and while a new
// leader is being found (a lease's length after a crash, at once after an orderly stop) sidecars work on with what they have, pods that start in that time wait, and records wait
// in the sidecars' queues. Admission runs on every replica.
//
// # What survives
//
// The last good of every ClusterPolicyBundle and what was learned of every workload are kept in ConfigMaps of the controller's namespace, so that a restart
// while a broken bundle is in the API serves the last good still, and takes no model from a sidecar. Whoever can write ConfigMaps there can change policy; as can
// whoever can write a ConfigMap that a ClusterPolicyBundle refers to.
//
// What was learned is of one Baseline, which it is kept with: who deletes that while nobody leads has it forgotten by the next leader.
//
// Nothing listens before all of that is restored and every object has been looked at once: to a sidecar an empty answer would mean that its
// providers are gone.
//
// # Learning
//
// A Learner takes the decision records in and trains a model of each workload. What it holds of all of them has a bound (room.go): rows are packed, models are held as they are sent, and when there is
// too much, the largest give up evidence and calls before a workload is refused. What is due is trained in a fair order, two at a time. What becomes of it is in each workload's Baseline: a phase, and
// conditions whose reasons name whatever somebody may have to do something about.
package controlplane
