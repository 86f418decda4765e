package execute

import (
	"slices"
	"strings"

	"sallyport.dev/sallyport/certs"
)

// way is how a command comes to the explicit proxy; the zero value is that of one which need not know.
type way struct {
	address string
	token   string
}

// environment is the command's: this process's without the providers' credentials, with what makes clients trust the gate and, where there is
// a way to it, what makes them go there. A variable that the user set is never overridden but for credentials and for the way out.
func environment(of []string, s *providerSet, trustDir string, to way) []string {
	env := map[string]string{}
	var order []string
	set := func(name, value string) {
		if _, ok := env[name]; !ok {
			order = append(order, name)
		}
		env[name] = value
	}
	for _, v := range of {
		name, value, _ := strings.Cut(v, "=")
		if !slices.Contains(s.removed, name) {
			set(name, value)
		}
	}
	for _, name := range s.replaced {
		set(name, placeholder)
	}
	for _, v := range certs.Variables(trustDir) {
		set(v.Name, v.Value)
	}
	if to == (way{}) {
		// Sealed: whatever proxy the machine uses is not reachable from inside, and the gate is on every way.
		for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"} {
			delete(env, name)
		}
	} else {
		for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"} {
			set(name, "http://sallyport:"+to.token+"@"+to.address)
		}
		set("NO_PROXY", "")
		set("no_proxy", "")
		set("NODE_USE_ENV_PROXY", "1")
		for name, path := range s.bases {
			if env[name] == "" {
				set(name, "http://"+to.address+"/"+to.token+"/"+path)
			}
		}
	}
	out := make([]string, 0, len(order))
	for _, name := range order {
		if value, ok := env[name]; ok {
			out = append(out, name+"="+value)
		}
	}
	slices.Sort(out)
	return out
}
