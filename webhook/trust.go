package webhook

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"sallyport.dev/sallyport/certs"
	"sallyport.dev/sallyport/pkg/api/v1alpha1"
)

const rootFile = v1alpha1.TrustPath + "/" + v1alpha1.CAFile

// trustVariables make the common clients trust the leaves that the proxy mints.
var trustVariables = func() []corev1.EnvVar {
	var out []corev1.EnvVar
	for _, v := range certs.Variables(v1alpha1.TrustPath) {
		out = append(out, corev1.EnvVar{Name: v.Name, Value: v.Value})
	}
	return out
}()

// addTrust gives a container the trust files and the variables that point to them. A variable that the pod sets
// is never overridden.
func addTrust(c *corev1.Container) []Finding {
	var warnings []Finding
	added := false
	for _, v := range trustVariables {
		at := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == v.Name })
		switch {
		case at < 0:
			c.Env = append(c.Env, v)
			added = true
		case c.Env[at].ValueFrom != nil || c.Env[at].Value != v.Value:
			warnings = append(warnings, Finding{ReasonTrustVariableKept, "container " + c.Name + ": env " + v.Name,
				"the pod sets the variable itself, and it was left alone; what it points to must contain " + rootFile})
		}
	}
	if added && len(c.EnvFrom) > 0 {
		warnings = append(warnings, Finding{ReasonTrustVariableShadows, "container " + c.Name + ": envFrom",
			"trust variables that come from a ConfigMap or Secret are overridden; set them under env to keep them"})
	}
	mount := corev1.VolumeMount{Name: v1alpha1.TrustVolume, MountPath: v1alpha1.TrustPath, ReadOnly: true}
	if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == mount.MountPath }) {
		c.VolumeMounts = append(c.VolumeMounts, mount)
	}
	return warnings
}

// dropRawSockets takes away NET_RAW, which container runtimes give to root by default: packets written to a raw
// socket do not pass the capture. What it is commonly wanted for, ping, the capture refuses anyway.
func dropRawSockets(c *corev1.Container) {
	if drops(c, "NET_RAW") {
		return
	}
	if c.SecurityContext == nil {
		c.SecurityContext = &corev1.SecurityContext{}
	}
	if c.SecurityContext.Capabilities == nil {
		c.SecurityContext.Capabilities = &corev1.Capabilities{}
	}
	c.SecurityContext.Capabilities.Drop = append(c.SecurityContext.Capabilities.Drop, "NET_RAW")
}

func drops(c *corev1.Container, capability string) bool {
	if c.SecurityContext == nil || c.SecurityContext.Capabilities == nil {
		return false
	}
	return slices.ContainsFunc(c.SecurityContext.Capabilities.Drop, func(d corev1.Capability) bool {
		name := canonicalCapability(d)
		return name == "ALL" || name == capability
	})
}

// canChangeUser says whether a process in the container may call setuid for another user: root with the
// capability, or anybody who can become root by a setuid program.
func canChangeUser(spec *corev1.PodSpec, c *corev1.Container) bool {
	if drops(c, "SETUID") {
		if c.SecurityContext.Capabilities != nil {
			for _, a := range c.SecurityContext.Capabilities.Add {
				if canonicalCapability(a) == "SETUID" {
					return true
				}
			}
		}
		return false
	}
	var user *int64
	var nonRoot *bool
	if sc := spec.SecurityContext; sc != nil {
		user, nonRoot = sc.RunAsUser, sc.RunAsNonRoot
	}
	if sc := c.SecurityContext; sc != nil {
		if sc.RunAsUser != nil {
			user = sc.RunAsUser
		}
		if sc.RunAsNonRoot != nil {
			nonRoot = sc.RunAsNonRoot
		}
	}
	root := user == nil && (nonRoot == nil || !*nonRoot) || user != nil && *user == 0
	escalates := c.SecurityContext == nil || c.SecurityContext.AllowPrivilegeEscalation == nil || *c.SecurityContext.AllowPrivilegeEscalation
	return root || escalates
}
