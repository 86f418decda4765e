package surface_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
	"sallyport.dev/sallyport/pkg/llm/surface"
)

const (
	docs   = "../../../docs/surfaces.md"
	matrix = "../../../e2e/clients/matrix.json"
)

// docsHead explains the table.
const docsHead = `# Surfaces

Every API shape that Sallyport reads, as the table in ` + "`pkg/llm/surface`" + ` has it. A request to a provider that no row matches, byte for byte, is of the surface
` + "`unknown`" + `, which is denied.

This file is written by ` + "`go test ./pkg/llm/surface -run TestDocs -update`" + ` from the rows, from the fixtures in the codecs' ` + "`testdata`" + ` and from the clients that the end-to-end tests
run; the test fails when it is stale.

- **class**: ` + "`model`" + ` and ` + "`auxiliary`" + ` are allowed by the baseline policy; ` + "`dead_drop`" + ` (leaves something at the provider, or fetches what was left) and ` + "`tool`" + ` are denied unless a bundle
  allows them.
- **method and path**: paths that differ in their version alone are written together, as in ` + "`/v1beta,v1/models`" + `. ` + "`{names}`" + ` are one segment or the rest of one.
- **request**: what the codec reads: JSON, a form (` + "`multipart/form-data`" + `), none where the request has no body, bytes where the body is a file. On a WebSocket, each message.
- **response**: JSON or whatever a response that is no stream is, and the framings of those that are. A stream in **bold** can be ended midway with an error that the caller's SDK raises.
- **usage**: the forms of response in whose fixtures tokens were read.
- **refusal**: the status of a call that is refused before it is sent, and the members of the error's body.
- **fixtures**: golden requests + responses, taken from the provider's documentation or written by its SDKs, hostile ones included. Every codec has a fuzz test that begins with them.
- **clients**: unmodified clients that the matrix runs against the surface through the gate.
`

// evidence is what the fixtures say of a surface.
type evidence struct {
	requests, responses int
	usage               map[string]bool // forms of response with tokens
}

// form of a response by the end of its file's name.
var responseForms = map[string]string{".array.json": "json_array", ".json": "json", ".sse": "sse", ".ndjson": "ndjson", ".eventstream": "event_stream", ".ws": "websocket"}

func gather(t *testing.T) map[llm.Surface]*evidence {
	t.Helper()
	out := map[llm.Surface]*evidence{}
	of := func(s llm.Surface) *evidence {
		if out[s] == nil {
			out[s] = &evidence{usage: map[string]bool{}}
		}
		return out[s]
	}
	for _, d := range directories(t) {
		for s, n := range d.requests {
			of(s).requests += n
		}
		e := of(d.surface)
		files, err := filepath.Glob(filepath.Join(filepath.Dir(d.path), "responses", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			for _, suffix := range golden.ResponseSuffixes() {
				name, ok := strings.CutSuffix(f, suffix)
				if !ok {
					continue
				}
				e.responses++
				var reply struct {
					Usage llm.Usage `json:"usage"`
				}
				if err := json.Unmarshal(read(t, name+".golden"), &reply); err != nil {
					t.Fatalf("%s: %v", f, err)
				}
				if reply.Usage != (llm.Usage{}) {
					e.usage[responseForms[suffix]] = true
				}
				break
			}
		}
	}
	return out
}

// clients returns the clients that were run against each surface of each API.
func clients(t *testing.T) map[string]map[llm.Surface][]string {
	t.Helper()
	out := map[string]map[llm.Surface][]string{}
	text, err := os.ReadFile(matrix)
	if errors.Is(err, fs.ErrNotExist) {
		return out
	}
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Client   string                   `json:"client"`
		Surfaces map[string][]llm.Surface `json:"surfaces"` // by API
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatalf("%s: %v", matrix, err)
	}
	for _, api := range surface.APIs() {
		out[api] = map[llm.Surface][]string{}
	}
	for _, c := range list {
		for api, surfaces := range c.Surfaces {
			for _, s := range surfaces {
				if !slices.ContainsFunc(surface.Rows(api), func(row llm.Row) bool { return row.Surface == s }) {
					t.Errorf("%s: client %s names the surface %q of the API %q, which there is not", matrix, c.Client, s, api)
				} else if !slices.Contains(out[api][s], c.Client) {
					out[api][s] = append(out[api][s], c.Client)
				}
			}
		}
	}
	return out
}

// bodies says what a row's requests are.
func bodies(row llm.Row) []string {
	path, vars := example(row.Path)
	accepts := func(method, contentType, body string) bool {
		r := &llm.Request{Method: method, Path: path, Vars: vars, ContentType: contentType, Body: []byte(body)}
		return !slices.ContainsFunc(row.Decode(r, llm.DefaultLimits()).Findings, func(f llm.Finding) bool {
			return f.Code == llm.FindingContentType || f.Code == llm.FindingTrailingData
		})
	}
	var out []string
	switch {
	case row.RefuseMessage != nil:
		return []string{"JSON messages"}
	case accepts(row.Method, "application/x-unheard-of", "\x00"):
		return []string{"bytes"}
	}
	if accepts(row.Method, "application/json", "{}") {
		out = append(out, "JSON")
	}
	if accepts(row.Method, "multipart/form-data; boundary=X", form) {
		out = append(out, "form")
	}
	if !wantsBody(row) || len(out) == 0 {
		out = append(out, "none")
	}
	return out
}

// responses says what a row's responses are.
func responses(row llm.Row) []string {
	out := []string{"whole"}
	for _, f := range row.Streams {
		name := string(f)
		if row.Watch(llm.WatchOptions{Framing: f}).End(llm.Refusal{}) != nil {
			name = "**" + name + "**"
		}
		if f == llm.FramingWebSocket {
			out = nil
		}
		out = append(out, name)
	}
	return out
}

// refusal says what a refused caller gets.
func refusal(t *testing.T, row llm.Row) string {
	a := row.Refuse(llm.Refusal{})
	var members func(v any) string
	members = func(v any) string {
		m, ok := v.(map[string]any)
		if !ok {
			return ""
		}
		var names []string
		for _, name := range slices.Sorted(maps.Keys(m)) {
			names = append(names, name+members(m[name]))
		}
		return "{" + strings.Join(names, ",") + "}"
	}
	var body any
	if err := json.Unmarshal(a.Body, &body); err != nil {
		t.Errorf("%s: %v", row.Path, err)
	}
	return fmt.Sprintf("%d `%s`", a.Status, members(body))
}

// A change of the table, of a fixture or of the clients is a change of the documentation.
func TestDocs(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(docsHead)
	found, run := gather(t), clients(t)

	fmt.Fprint(&b, "\n## Summary\n\n| API | gen_ai.provider.name | surfaces | methods and paths | streams |\n|---|---|---|---|---|\n")
	for _, api := range surface.APIs() {
		surfaces, streams := map[llm.Surface]bool{}, map[string]bool{}
		for _, row := range surface.Rows(api) {
			surfaces[row.Surface] = true
			for _, f := range row.Streams {
				streams[string(f)] = true
			}
		}
		fmt.Fprintf(&b, "| [%s](#%s) | `%s` | %d | %d | %s |\n", api, api, surface.Provider(api), len(surfaces), len(surface.Rows(api)), strings.Join(slices.Sorted(maps.Keys(streams)), ", "))
	}

	for _, api := range surface.APIs() {
		fmt.Fprintf(&b, "\n## %s\n\n| surface | class | method and path | request | response | usage | refusal | fixtures | clients |\n|---|---|---|---|---|---|---|---|---|\n", api)
		var order []llm.Surface
		bySurface := map[llm.Surface][]llm.Row{}
		for _, row := range surface.Rows(api) {
			if bySurface[row.Surface] == nil {
				order = append(order, row.Surface)
			}
			bySurface[row.Surface] = append(bySurface[row.Surface], row)
		}
		for _, s := range order {
			classes, reads, replies, refusals := &list{}, &list{}, &list{}, &list{}
			for _, row := range bySurface[s] {
				classes.add(string(row.Class))
				reads.add(bodies(row)...)
				replies.add(responses(row)...)
				refusals.add(refusal(t, row))
			}
			e := found[s]
			if e == nil {
				e = &evidence{}
			}
			usage := strings.Join(slices.Sorted(maps.Keys(e.usage)), ", ")
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %d + %d | %s |\n", s, classes, strings.Join(paths(bySurface[s]), "<br>"), reads, replies, usage, refusals, e.requests, e.responses, strings.Join(run[api][s], ", "))
		}
	}
	if want, same := golden.Text(t, docs, b.Bytes()); !same {
		got, had := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
		for i := range min(len(got), len(had)) {
			if got[i] != had[i] {
				t.Errorf("%s is stale: run go test ./pkg/llm/surface -run TestDocs -update. The first line that differs is\n%s\nand should be\n%s", docs, had[i], got[i])
				return
			}
		}
		t.Errorf("%s is stale: run go test ./pkg/llm/surface -run TestDocs -update. It has %d lines, and should have %d", docs, len(had), len(got))
	}
}

// list is a list of different words.
type list struct{ words []string }

func (l *list) add(words ...string) {
	for _, word := range words {
		if !slices.Contains(l.words, word) {
			l.words = append(l.words, word)
		}
	}
}

func (l *list) String() string { return strings.Join(l.words, ", ") }

// paths returns the methods and paths of rows. Those that differ only in their first segment, which is a version, are written together.
func paths(rows []llm.Row) []string {
	var order []string
	versions := map[string]*list{}
	for _, row := range rows {
		first, rest, more := strings.Cut(strings.TrimPrefix(row.Path, "/"), "/")
		if more {
			rest = "/" + rest
		} else {
			first, rest = "", row.Path
		}
		key := row.Method + " \x00" + rest
		if versions[key] == nil {
			versions[key] = &list{}
			order = append(order, key)
		}
		versions[key].add(first)
	}
	var out []string
	for _, key := range order {
		method, rest, _ := strings.Cut(key, "\x00")
		first := strings.Join(versions[key].words, ",")
		switch {
		case first != "":
			first = "/" + first
		case rest == "":
			rest = "(the base path)"
		}
		out = append(out, "`"+method+first+rest+"`")
	}
	return out
}
