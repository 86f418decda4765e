package execute

import (
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

func env(pairs ...string) func(string) string { return lookup(pairs) }

func TestGather(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.yaml")
	text := "apiVersion: sallyport.dev/v1alpha1\nkind: ModelProvider\nmetadata: {name: my-vllm}\nspec: {api: openai, hosts: [api.openai.com], port: 8000, plaintext: true, basePath: /llm}\n---\n" +
		"apiVersion: sallyport.dev/v1alpha1\nkind: ModelProvider\nmetadata: {name: anthropic}\nspec: {api: anthropic, hosts: [claude.example]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := gather([]string{file}, env("SALLYPORT_CREDENTIAL_MY_VLLM=v", "OPENAI_API_KEY=o", "ANTHROPIC_API_KEY=a", "GROQ_API_KEY=g",
		"AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=secret", "AWS_SESSION_TOKEN=t", "AZURE_OPENAI_ENDPOINT=https://mine.openai.azure.com/"))
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]int{}
	for i, p := range s.providers {
		byName[p.Name] = i
	}
	if p := s.providers[byName["my-vllm"]]; p.Port != 8000 || !p.Plaintext || p.BasePath != "/llm" || string(s.credentials[p.Credential]) != "v" {
		t.Errorf("%+v", p)
	}
	// A host belongs to one provider, and a name to one: the file's.
	if _, ok := byName["openai"]; ok {
		t.Error("the known provider is there whose host the file gives to another")
	}
	if p := s.providers[byName["anthropic"]]; !slices.Equal(p.Hosts, []string{"claude.example"}) || string(s.credentials["anthropic"]) != "a" {
		t.Errorf("%+v with %q", p, s.credentials["anthropic"])
	}
	if p := s.providers[byName["bedrock"]]; p.Hosts[0] != "bedrock-runtime.eu-west-1.amazonaws.com" || !strings.Contains(string(s.credentials["bedrock"]), `"sessionToken":"t"`) {
		t.Errorf("%+v", p)
	}
	if p := s.providers[byName["azure-openai"]]; p.Hosts[0] != "mine.openai.azure.com" || p.Credential != "" {
		t.Errorf("%+v", p)
	}
	if p := s.providers[byName["groq"]]; p.BasePath != "/openai" || p.Credential == "" {
		t.Errorf("%+v", p)
	}
	got := environment([]string{"OPENAI_API_KEY=o", "GROQ_API_KEY=g", "AWS_SESSION_TOKEN=t", "SALLYPORT_CREDENTIAL_MY_VLLM=v", "HOME=/h", "HTTPS_PROXY=http://corp", "ANTHROPIC_BASE_URL=http://mine"}, s, "/t", way{"127.0.0.1:9", "tok"})
	for _, want := range []string{"GROQ_API_KEY=" + placeholder, "HOME=/h", "HTTPS_PROXY=http://sallyport:tok@127.0.0.1:9", "NO_PROXY=", "SSL_CERT_FILE=/t/bundle.crt", "ANTHROPIC_BASE_URL=http://mine", "GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:9/tok/gemini"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	for _, v := range got {
		if strings.HasPrefix(v, "AWS_SESSION_TOKEN=") || strings.HasPrefix(v, "SALLYPORT_CREDENTIAL_") || strings.HasSuffix(v, "=g") {
			t.Errorf("the command would see %q", v)
		}
	}
	if sealed := environment([]string{"HTTPS_PROXY=http://corp"}, s, "/t", way{}); slices.ContainsFunc(sealed, func(v string) bool { return strings.HasPrefix(v, "HTTPS_PROXY") || strings.Contains(v, "BASE_URL") }) {
		t.Errorf("%q", sealed)
	}

	for name, bad := range map[string]string{
		"another kind":   "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n",
		"unknown field":  "apiVersion: sallyport.dev/v1alpha1\nkind: ModelProvider\nmetadata: {name: x}\nspec: {api: openai, host: x}\n",
		"no host":        "apiVersion: sallyport.dev/v1alpha1\nkind: ModelProvider\nmetadata: {name: x}\nspec: {api: openai}\n",
		"no YAML":        "a: b: c\n",
		"empty":          "\n",
		"port":           "apiVersion: sallyport.dev/v1alpha1\nkind: ModelProvider\nmetadata: {name: x}\nspec: {api: openai, hosts: [x.example], port: 70000}\n",
		"the same twice": text + "---\n" + text,
	} {
		if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := gather([]string{file}, env()); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func query(t testing.TB, name string, kind dnsmessage.Type) []byte {
	t.Helper()
	b, err := (&dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNames(t *testing.T) {
	n := newNames()
	ask := func(name string, kind dnsmessage.Type) (addrs []string) {
		var m dnsmessage.Message
		if err := m.Unpack(n.answer(query(t, name, kind))); err != nil || m.ID != 7 || !m.Response || m.RCode != dnsmessage.RCodeSuccess {
			t.Fatalf("%s: %+v, %v", name, m, err)
		}
		for _, a := range m.Answers {
			ip := a.Body.(*dnsmessage.AResource).A
			addrs = append(addrs, net.IP(ip[:]).String())
		}
		return addrs
	}
	one := ask("api.openai.com.", dnsmessage.TypeA)
	if len(one) != 1 || !strings.HasPrefix(one[0], "198.18.") || !slices.Equal(one, ask("api.openai.com.", dnsmessage.TypeA)) {
		t.Errorf("%q", one)
	}
	if two := ask("other.example.", dnsmessage.TypeA); slices.Equal(one, two) {
		t.Errorf("two names have the address %q", two)
	}
	for _, kind := range []dnsmessage.Type{dnsmessage.TypeAAAA, dnsmessage.TypeTXT, dnsmessage.Type(65)} {
		if got := ask("api.openai.com.", kind); got != nil {
			t.Errorf("%v: %q", kind, got)
		}
	}
	if len(n.answer([]byte("no query"))) != 0 {
		t.Error("an answer to what is no query")
	}
	// By TCP, a query after another.
	near, far := net.Pipe()
	go n.serveStream(far)
	defer near.Close()
	for range 2 {
		q := query(t, "api.openai.com.", dnsmessage.TypeA)
		if _, err := near.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 512)
		size, err := near.Read(b)
		if err != nil || size < 2 || int(binary.BigEndian.Uint16(b)) != size-2 {
			t.Fatalf("read %d bytes, %v", size, err)
		}
	}
}

func FuzzNames(f *testing.F) {
	f.Add(query(f, "api.openai.com.", dnsmessage.TypeA))
	f.Add(query(f, ".", dnsmessage.TypeAAAA))
	n := newNames()
	f.Fuzz(func(t *testing.T, b []byte) {
		out := n.answer(b)
		if out == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil || !m.Response || len(m.Answers) > 1 {
			t.Errorf("%x is answered by %x: %v", b, out, err)
		}
	})
}

// What a run has learned, the next one begins with; and what was not released teaches nothing.
func TestLearning(t *testing.T) {
	dir := t.TempDir()
	l, m, err := openLearning(dir, "agent", detector.Options{MinCalls: 64, MinSessions: 4})
	if err != nil || m != nil {
		t.Fatalf("%v, %v", m, err)
	}
	rows := detectortest.Rows(1, 300)[:300]
	rec := func(row detector.Row, o telemetry.Outcome) *telemetry.Record {
		return &telemetry.Record{ID: "x", Outcome: o, Action: policy.ActionAllow, Session: policy.Session{ID: row.Session}, Schema: features.SchemaID, Features: row.Vector[:]}
	}
	for _, row := range rows[:30] {
		l.add(rec(row, telemetry.OutcomeReleased))
	}
	said, err := l.close()
	if err != nil || !strings.Contains(said, "still learning: 30 calls") {
		t.Fatalf("%q, %v", said, err)
	}
	if l, m, err = openLearning(dir, "agent", detector.Options{MinCalls: 64, MinSessions: 4}); err != nil || m != nil {
		t.Fatalf("%v, %v", m, err)
	}
	for _, row := range rows[30:] {
		l.add(rec(row, telemetry.OutcomeReleased))
		l.add(rec(row, telemetry.OutcomeRefused))
	}
	l.add(&telemetry.Record{ID: "tunnel", Outcome: telemetry.OutcomeReleased})
	if said, err = l.close(); err != nil || !strings.Contains(said, "has learned from 300 calls") {
		t.Fatalf("%q, %v", said, err)
	}
	if _, m, err = openLearning(dir, "agent", detector.Options{}); err != nil || m.Digest() == "" {
		t.Fatalf("%v, %v", m, err)
	}
	if _, m, err = openLearning(dir, "another", detector.Options{}); err != nil || m != nil {
		t.Errorf("another command begins with %v, %v", m, err)
	}
	for _, name := range []string{"", "..", "a/b", ".hidden"} {
		if _, _, err := openLearning(dir, name, detector.Options{}); err == nil {
			t.Errorf("the name %q is accepted", name)
		}
	}
	if err := os.WriteFile(ModelFile(dir, "agent"), []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openLearning(dir, "agent", detector.Options{}); err == nil || !strings.Contains(err.Error(), "to begin anew") {
		t.Errorf("a broken model: %v", err)
	}
}
