package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sallyport.dev/sallyport/pkg/contract"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/policy"
	"sallyport.dev/sallyport/pkg/telemetry"
)

func call(id string) *telemetry.Record {
	return &telemetry.Record{
		ID: id, Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.Local), Outcome: telemetry.OutcomeReleased, Action: policy.ActionAllow,
		Destination: policy.Destination{Kind: policy.DestinationModel, Provider: "openai", Host: "api.openai.com", Port: 443, Method: "POST", Path: "/v1/x"},
		Call:        policy.Call{Surface: "openai.chat_completions", Model: "gpt-4o", Messages: 2, BodyBytes: 2048}, Status: 200, TotalMicros: 812_300,
		Usage: llm.Usage{InputTokens: 120, OutputTokens: 45}, ResponseToolCalls: []string{"read_file"}, Anomaly: policy.Anomaly{Ready: true, Score: 0.431},
	}
}

func TestLine(t *testing.T) {
	refused := call("id-2")
	refused.Outcome, refused.Rule, refused.Anomaly.Ready = telemetry.OutcomeRefused, "MODEL-001", false
	refused.Reasons = []policy.Reason{{Rule: "MODEL-001", Message: "Not on the list."}}
	unknown := call("id-3")
	unknown.Outcome, unknown.Rule, unknown.Call = telemetry.OutcomeRefused, "SYS-002", policy.Call{Surface: "unknown", Model: "\x1b[2Jevil", Messages: 1}
	unknown.Anomaly.Ready = false
	tunnel := call("id-4")
	tunnel.Destination = policy.Destination{Kind: policy.DestinationPassthrough, Host: "git.example", Port: 443}
	tunnel.Call, tunnel.Usage, tunnel.ResponseToolCalls, tunnel.Anomaly, tunnel.Status, tunnel.UpstreamError = policy.Call{}, llm.Usage{}, nil, policy.Anomaly{}, 0, "connect"
	for _, tc := range []struct {
		r    *telemetry.Record
		want string
	}{
		{call("id-1"), "05:06:07 released openai gpt-4o openai.chat_completions 2 messages 2.0 KB, 200 in 812ms, 120+45 tokens, calls read_file, score 0.43"},
		{refused, "05:06:07 refused  openai gpt-4o openai.chat_completions 2 messages 2.0 KB: MODEL-001 Not on the list. id-2"},
		{unknown, "05:06:07 refused  openai \ufffd[2Jevil POST /v1/x 1 message 0.0 KB: SYS-002 id-3"},
		{tunnel, "05:06:07 released passthrough git.example:443, provider: connect in 812ms"},
	} {
		if got := (Painter{}).Line(tc.r); got != tc.want {
			t.Errorf("%s\nwant\n%s", got, tc.want)
		}
		if got := (Painter{Colour: true}).Line(tc.r); !strings.Contains(got, "\x1b[32m") && !strings.Contains(got, "\x1b[31m") {
			t.Errorf("no colour in %q", got)
		}
	}
	if Colours(&bytes.Buffer{}) {
		t.Error("a buffer is taken for a terminal")
	}
}

func TestFit(t *testing.T) {
	for _, tc := range []struct {
		text string
		n    int
		want string
	}{
		{"", 2, "  "}, {"ab", 2, "ab"}, {"ab", 4, "ab  "}, {"abc", 2, "a…"}, {"事務員", 8, "事務員  "}, {"事務員", 6, "事務員"}, {"事務員", 5, "事務…"}, {"事務員", 4, "事… "},
		{"e\u0301te\u0301", 4, "e\u0301te\u0301 "}, {"e\u0301te\u0301s", 3, "e\u0301t…"}, {"ｆｕ", 4, "ｆｕ"}, {"a\x1b[31m", 9, "a\ufffd[31m   "}, {"😀x", 3, "😀x"},
	} {
		got := Fit(tc.text, tc.n)
		if got != tc.want || Width(got) != tc.n {
			t.Errorf("Fit(%q, %d) is %q of %d cells, want %q", tc.text, tc.n, got, Width(got), tc.want)
		}
	}
}

func TestMatches(t *testing.T) {
	const id = "01a205f1-546b-7cc1-9394-277c26b664f9"
	for given, want := range map[string]bool{id: true, id[:MinID]: true, id[:MinID-1]: false, "": false, "01a205f1-546c": false, id + "0": false} {
		if Matches(id, given) != want {
			t.Errorf("Matches(_, %q) is %v", given, !want)
		}
	}
	if !Matches("d-1", "d-1") || Matches("d-10", "d-1") {
		t.Error("short IDs are matched as a whole")
	}
}

func write(t *testing.T, file string, flags int, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|flags, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func encoded(t *testing.T, id string) string {
	t.Helper()
	b, err := call(id).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}

// A pod whose log cannot be read, as one that is just starting, does not keep the others' from being read.
func TestReadPassesOverWhatCannotBeRead(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch name := path.Base(path.Dir(r.URL.Path)); {
		case strings.HasSuffix(r.URL.Path, "/pods"):
			var pods corev1.PodList
			for _, name := range []string{"starting", "plain", "running"} {
				p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "agents"}}
				if name != "plain" {
					p.Spec.InitContainers = []corev1.Container{{Name: contract.ProxyContainerName}}
				}
				pods.Items = append(pods.Items, p)
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(pods)
		case name == "running" && r.URL.Query().Get("container") == contract.ProxyContainerName:
			_, _ = io.WriteString(w, "a line\n"+encoded(t, "1")+encoded(t, "2"))
		default:
			http.Error(w, "the container is waiting to start", http.StatusBadRequest)
		}
	}))
	defer api.Close()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	write(t, config, 0, fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u","user":{}}]}`, api.URL))
	t.Setenv("KUBECONFIG", config)
	c, err := OpenCluster("agents", false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	pods, err := c.Read(t.Context(), func(r *telemetry.Record) error { got = append(got, r.ID); return nil })
	if pods != 1 || strings.Join(got, " ") != "1 2" || err == nil || !strings.Contains(err.Error(), "agents/starting") || strings.Contains(err.Error(), "plain") {
		t.Errorf("%d pods, records %q, %v", pods, got, err)
	}
	enough := errors.New("enough")
	if _, err := c.Read(t.Context(), func(*telemetry.Record) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("%v, want what each returned", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Read(ended, func(*telemetry.Record) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// A file is followed from before it is there, over lines written in halves, to the file that replaces it.
func TestFollow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "records")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan string, 16)
	ended := make(chan error, 1)
	go func() {
		ended <- Follow(ctx, file, true, func(r *telemetry.Record) error { got <- r.ID; return nil })
	}()
	want := func(id string) {
		t.Helper()
		select {
		case have := <-got:
			if have != id {
				t.Fatalf("%s, want %s", have, id)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no %s", id)
		}
	}
	one := encoded(t, "1")
	write(t, file, os.O_APPEND, one[:20])
	write(t, file, os.O_APPEND, one[20:]+`{"msg":"a log line"}`+"\nno JSON\n"+fmt.Sprintf(`{"msg":"SALLYPORT-DECISION","record":%s}`, strings.TrimSpace(encoded(t, "2")))+"\n")
	want("1")
	want("2")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, file, os.O_APPEND, encoded(t, "3"))
	want("3")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	first := ""
	if err := Follow(ctx, file, true, func(r *telemetry.Record) error { first = r.ID; cancel(); return nil }); err != nil || first != "3" {
		t.Errorf("%q, %v", first, err)
	}
}
