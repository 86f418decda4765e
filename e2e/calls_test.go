package e2e

import (
	"net"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/e2e/harness"
	"sallyport.dev/sallyport/e2e/standin"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

func received(t *testing.T) []standin.Received {
	t.Helper()
	r, err := env.Received(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReleasedCalls(t *testing.T) {
	for _, tc := range []struct {
		name, backend, form, surface string
	}{
		{"OpenAI plain", "openai", "plain", "openai.chat_completions"},
		{"OpenAI streamed", "openai", "stream", "openai.chat_completions"},
		{"Anthropic plain", "anthropic", "plain", "anthropic.messages"},
		{"Anthropic streamed", "anthropic", "stream", "anthropic.messages"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := run(t, "task", tc.backend, tc.form)
			if !s.OK || !strings.Contains(s.Text, "Here is what I found") {
				t.Fatalf("the agent got %+v", s)
			}
			d := record(t, s.DecisionID)
			if d.Outcome != telemetry.OutcomeReleased || d.Call.Surface != tc.surface || d.Call.Stream != (tc.form == "stream") {
				t.Errorf("record %+v", d)
			}
			if d.Usage.InputTokens == 0 || d.Usage.OutputTokens == 0 {
				t.Errorf("usage was not read: %+v", d.Usage)
			}
			if len(d.Call.Findings) > 0 || len(d.Call.UnknownFields) > 0 {
				t.Errorf("an SDK's own call has findings %v and unknown fields %v", d.Call.Findings, d.Call.UnknownFields)
			}
		})
	}
}

// The agent's pod holds no key: what reaches the provider carries one all the same, and what the agent's SDK sent in its place does not.
func TestCredentialIsAdded(t *testing.T) {
	run(t, "task", "openai", "plain")
	run(t, "task", "anthropic", "plain")
	seen := map[string]bool{}
	for _, r := range received(t) {
		switch r.Host {
		case "api.openai.com":
			if v := r.Header.Values("Authorization"); r.Status == 200 && (len(v) != 1 || !strings.HasPrefix(v[0], "Bearer sk-standin")) {
				t.Errorf("Authorization %q", v)
			}
			seen[r.Host] = seen[r.Host] || r.Status == 200
		case "api.anthropic.com":
			if v := r.Header.Values("X-Api-Key"); r.Status == 200 && (len(v) != 1 || !strings.HasPrefix(v[0], "sk-ant-standin")) {
				t.Errorf("X-Api-Key %q", v)
			}
			seen[r.Host] = seen[r.Host] || r.Status == 200
		}
	}
	if len(seen) != 2 {
		t.Errorf("providers that answered: %v, want both", seen)
	}
	pods := env.Kubectl(t.Context(), nil, "-n", agents, "get", "pods", "-o", "yaml")
	if pods.Err != nil || strings.Contains(pods.Out, "standin-openai-0001") || strings.Contains(pods.Out, "sk-ant-standin") {
		t.Errorf("a credential is in the agent's pod (%v)", pods.Err)
	}
}

// The stand-in's CA stands for the public web's; the certificate that the guarded agent sees is minted in its pod.
func TestCertificates(t *testing.T) {
	body := `{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}`
	guarded := run(t, "post", "https://api.openai.com/v1/chat/completions", body)
	if !guarded.OK || strings.Contains(guarded.Issuer, "public web") || guarded.Issuer == "" {
		t.Errorf("guarded agent: %+v", guarded)
	}
	alone := runIn(t, unlabelled, "deployment/agent", "post", "https://api.openai.com/v1/chat/completions", body)
	if alone.Status != 401 || !strings.Contains(alone.Issuer, "public web") {
		t.Errorf("an agent in an unlabelled namespace is not left alone: %+v", alone)
	}
}

func TestBodyByteForByte(t *testing.T) {
	s := run(t, "exact")
	if !s.OK {
		t.Fatalf("%+v", s)
	}
	for _, r := range received(t) {
		if r.SHA256 == s.SHA256 {
			return
		}
	}
	t.Errorf("no body with SHA-256 %s reached the provider", s.SHA256)
}

// Every event of a stream reaches the agent before the next one is sent: nothing is held back, whatever the machine's load.
func TestStreamArrivesEventByEvent(t *testing.T) {
	for _, backend := range []string{"openai", "anthropic"} {
		t.Run(backend, func(t *testing.T) {
			s := run(t, "stamps", backend, "20", "250ms")
			if !s.OK || len(s.Stream) != 20 {
				t.Fatalf("%d events of 20: %+v", len(s.Stream), s)
			}
			for i := 1; i < len(s.Stream); i++ {
				if s.Stream[i-1].Arrived >= s.Stream[i].Sent {
					t.Errorf("event %d arrived %s after event %d was sent", i, time.Duration(s.Stream[i-1].Arrived-s.Stream[i].Sent), i+1)
				}
			}
		})
	}
}

func TestClientThatLeavesCancelsTheProvider(t *testing.T) {
	before := len(received(t))
	run(t, "abort", "openai")
	eventually(t, 30*time.Second, "the provider sees the caller gone", func() error {
		for _, r := range received(t)[before:] {
			if r.Gone && r.Header.Get(standin.HeaderEvents) == "1000" {
				return nil
			}
		}
		return errNotYet
	})
}

func TestRefusedCalls(t *testing.T) {
	waitLearned(t)
	for _, tc := range []struct {
		name     string
		scenario []string
		rule     string
		says     string
	}{
		{"model that is not allowed, OpenAI", []string{"task", "openai", "plain", "gpt-4.5-preview"}, "MODEL-001", "MODEL-001"},
		{"model that is not allowed, Anthropic, streamed", []string{"task", "anthropic", "stream", "claude-2"}, "MODEL-001", "MODEL-001"},
		{"hijacking tool result, OpenAI", []string{"hijack", "openai"}, "ANOM-001", "ANOM-001"},
		{"hijacking tool result, Anthropic", []string{"hijack", "anthropic"}, "ANOM-001", "ANOM-001"},
		{"duplicate key", []string{"post", "https://api.openai.com/v1/chat/completions", `{"model":"gpt-4o-mini","model":"gpt-4","messages":[]}`}, "SYS-", "duplicate_key"},
		{"not JSON", []string{"post", "https://api.openai.com/v1/chat/completions", `hello`}, "SYS-", "unparseable"},
		{"unknown surface", []string{"post", "https://api.openai.com/v1/files", `{}`}, "SYS-", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := run(t, tc.scenario...)
			if s.OK || s.Status != 403 {
				t.Fatalf("the agent saw %+v, want a 403", s)
			}
			if said := s.Error + s.Text; !strings.Contains(said, tc.says) || !strings.Contains(said, s.DecisionID) {
				t.Errorf("the refusal names neither %q nor its decision id: %s", tc.says, said)
			}
			d := record(t, s.DecisionID)
			if d.Outcome != telemetry.OutcomeRefused || !strings.HasPrefix(d.Rule, tc.rule) {
				t.Errorf("outcome %s, rule %q, reasons %v; anomaly %+v", d.Outcome, d.Rule, d.Reasons, d.Anomaly)
			}
			if strings.HasPrefix(tc.rule, "ANOM") && (!d.Anomaly.Exceeds || len(d.Anomaly.TopFeatures) == 0) {
				t.Errorf("anomaly %+v", d.Anomaly)
			}
		})
	}
	for _, r := range received(t) {
		if r.Path == "/v1/files" {
			t.Error("a refused call reached the provider")
		}
	}
}

func TestWaysAroundTheGate(t *testing.T) {
	var v4, v6 string
	var svc struct{ Spec struct{ ClusterIPs []string } }
	if err := env.Get(t.Context(), &svc, "-n", harness.ProviderNamespace, "service", harness.ProvidersService); err != nil {
		t.Fatal(err)
	}
	for _, ip := range svc.Spec.ClusterIPs {
		if net.ParseIP(ip).To4() != nil {
			v4 = ip
		} else {
			v6 = ip
		}
	}
	if v6 == "" {
		t.Fatal("the cluster is not dual-stack, so the IPv6 attempts cannot be made")
	}
	datagrams, err := env.Datagrams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	arrived := len(received(t))
	to := func(kind policy.DestinationKind, host string, port int) func(*telemetry.Record) bool {
		return func(r *telemetry.Record) bool {
			return r.Outcome == telemetry.OutcomeRefused && r.Destination.Kind == kind && r.Destination.Host == host && r.Destination.Port == port
		}
	}
	for _, tc := range []struct {
		name     string
		scenario []string
		record   func(*telemetry.Record) bool // nil where the capture rules refuse before the proxy
	}{
		{"host that is no provider", []string{"get", "https://" + harness.OtherHost + "/around"}, to(policy.DestinationOther, harness.OtherHost, 443)},
		{"the same over plain HTTP", []string{"get", "http://" + harness.OtherHost + "/around"}, to(policy.DestinationOther, harness.OtherHost, 80)},
		{"IPv4 literal", []string{"ip", v4}, to(policy.DestinationUnknown, v4, 443)},
		{"IPv6 literal", []string{"ip", "[" + v6 + "]"}, to(policy.DestinationUnknown, v6, 443)},
		{"provider on another port", []string{"get", "https://api.openai.com:8443/around"}, to(policy.DestinationOther, "api.openai.com", 8443)},
		{"neither TLS nor HTTP", []string{"tcp", v4 + ":8443"}, to(policy.DestinationUnknown, v4, 8443)},
		{"UDP 443, IPv4", []string{"udp", v4 + ":443"}, nil},
		{"UDP 443, IPv6", []string{"udp", "[" + v6 + "]:443"}, nil},
		{"DNS to another server than the pod's", []string{"udp", v4 + ":53"}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			since := time.Now().Add(-time.Second)
			if s := run(t, tc.scenario...); s.OK {
				t.Fatalf("went through: %+v", s)
			}
			if tc.record != nil {
				tunnel(t, since, tc.record)
			}
		})
	}
	t.Run("another Host than the TLS name", func(t *testing.T) {
		if s := run(t, "get", "https://api.openai.com/around", "api.anthropic.com"); s.Status != 421 {
			t.Errorf("the agent saw %+v, want 421", s)
		}
	})
	t.Run("nothing arrived", func(t *testing.T) {
		for _, r := range received(t)[arrived:] {
			if r.Path == "/around" || r.Path == "/" {
				t.Errorf("reached the provider: %+v", r)
			}
		}
		if now, err := env.Datagrams(t.Context()); err != nil || now != datagrams {
			t.Errorf("%d datagrams reached the provider (%v)", now-datagrams, err)
		}
	})
}
