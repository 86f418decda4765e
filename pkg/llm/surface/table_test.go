package surface_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/framing"
	"sallyport.dev/sallyport/pkg/llm/internal/golden"
	"sallyport.dev/sallyport/pkg/llm/surface"
)

// rows goes over every row of every API.
func rows(t *testing.T, check func(t *testing.T, api string, row llm.Row)) {
	for _, api := range surface.APIs() {
		for _, row := range surface.Rows(api) {
			t.Run(api+" "+row.Method+" "+row.Path, func(t *testing.T) { check(t, api, row) })
		}
	}
}

// example returns a path that a pattern matches, and what its variables match there.
func example(pattern string) (path string, vars []string) {
	for rest := pattern; ; {
		before, after, ok := strings.Cut(rest, "{")
		path += before
		if !ok {
			return path, vars
		}
		name, more, _ := strings.Cut(after, "}")
		vars = append(vars, "some-"+name)
		path += "some-" + name
		rest = more
	}
}

func TestRowsAreWhole(t *testing.T) {
	rows(t, func(t *testing.T, api string, row llm.Row) {
		if row.Surface == "" || row.Surface == llm.SurfaceUnknown || row.Class == "" || row.Class == llm.ClassUnknown || row.Operation == "" || row.Operation == llm.OperationUnknown {
			t.Errorf("surface %q, class %q, operation %q", row.Surface, row.Class, row.Operation)
		}
		if row.Decode == nil || row.Watch == nil || row.Refuse == nil {
			t.Fatal("a function is missing")
		}
		if (row.RefuseMessage != nil) != slices.Contains(row.Streams, llm.FramingWebSocket) {
			t.Errorf("messages can be refused: %v, framings %q", row.RefuseMessage != nil, row.Streams)
		}
		if !slices.IsSorted(row.Query) || len(slices.Compact(slices.Clone(row.Query))) != len(row.Query) {
			t.Errorf("the parameters %q are not sorted, or one is there twice", row.Query)
		}
		path, vars := example(row.Path)
		m := surface.Lookup(api, row.Method, path)
		if m.Surface != row.Surface || m.Method != row.Method || m.Path != row.Path || !slices.Equal(m.Vars, vars) || m.API != api {
			t.Errorf("%s is of %s %s with %q", path, m.Surface, m.Path, m.Vars)
		}
		if surface.Provider(api) == "" {
			t.Error("the API has no provider")
		}
	})
}

// both reports whether there is a segment of a path that two segments of patterns match.
func both(a, b string) bool {
	aBefore, aAfter, aVar := strings.Cut(a, "{")
	bBefore, bAfter, bVar := strings.Cut(b, "{")
	_, aSuffix, _ := strings.Cut(aAfter, "}")
	_, bSuffix, _ := strings.Cut(bAfter, "}")
	fits := func(literal, pattern string) bool {
		_, ok := (&llm.Row{Path: pattern}).Match("", literal)
		return ok
	}
	switch {
	case !aVar && !bVar:
		return a == b
	case !aVar:
		return fits(a, b)
	case !bVar:
		return fits(b, a)
	}
	if !strings.HasPrefix(aBefore, bBefore) && !strings.HasPrefix(bBefore, aBefore) || !strings.HasSuffix(aSuffix, bSuffix) && !strings.HasSuffix(bSuffix, aSuffix) {
		return false
	}
	// The one with the longer suffix says what the other's variable would have to match, which has no colon where a suffix has one.
	short, long := aSuffix, bSuffix
	if len(short) > len(long) {
		short, long = long, short
	}
	return !strings.Contains(short, ":") || !strings.Contains(strings.TrimSuffix(long, short), ":")
}

// Which surface a request is of must not depend on the order of the table: of two rows that match the same path one has more literal bytes, and that one
// alone is found.
func TestNoTwoRowsMatch(t *testing.T) {
	literals := func(pattern string) int {
		for _, name := range names(pattern) {
			pattern = strings.Replace(pattern, "{"+name+"}", "", 1)
		}
		return len(pattern)
	}
	for _, api := range surface.APIs() {
		all := surface.Rows(api)
		for i, a := range all {
			for _, b := range all[:i] {
				if a.Method != b.Method {
					continue
				}
				as, bs := strings.Split(a.Path, "/"), strings.Split(b.Path, "/")
				same := len(as) == len(bs)
				for k := 0; same && k < len(as); k++ {
					same = both(as[k], bs[k])
				}
				if same && literals(a.Path) == literals(b.Path) {
					t.Errorf("%s: %s %s and %s match the same path", api, a.Method, a.Path, b.Path)
				}
			}
		}
	}
}

// names returns the names of a pattern's variables.
func names(pattern string) (out []string) {
	for {
		_, after, ok := strings.Cut(pattern, "{")
		if !ok {
			return out
		}
		name, rest, _ := strings.Cut(after, "}")
		out = append(out, name)
		pattern = rest
	}
}

// What is nearly a row's path is not of that row, for nobody can say what the provider makes of it.
func TestNearMisses(t *testing.T) {
	rows(t, func(t *testing.T, api string, row llm.Row) {
		path, _ := example(row.Path)
		literal, _, _ := strings.Cut(row.Path, "{")
		near := []string{path + "/", "/" + path, path + "//", path + "?", path + "#", strings.ToUpper(literal) + path[len(literal):], path + "/.", "." + path, path + ";a=b"}
		if n := len(path); !strings.HasSuffix(row.Path, "}") && n > 0 { // else it is another value of the variable
			near = append(near, path+"%20", path+"\x00", path+" ", path[:n-1], path+path[n-1:], path[:n-1]+fmt.Sprintf("%%%02x", path[n-1]))
		} else {
			near = slices.DeleteFunc(near, func(s string) bool { return strings.HasPrefix(s, path) && !strings.Contains(s[len(path):], "/") })
		}
		for _, p := range near {
			if p == path {
				continue
			}
			if m := surface.Lookup(api, row.Method, p); m.Surface != llm.SurfaceUnknown && m.Path == row.Path {
				t.Errorf("%q is of the row", p)
			}
		}
		for _, method := range []string{strings.ToLower(row.Method), row.Method + " ", "", "TRACE"} {
			if m := surface.Lookup(api, method, path); m.Surface != llm.SurfaceUnknown {
				t.Errorf("method %q is of %s", method, m.Surface)
			}
		}
	})
}

func TestLookupAllocatesNothing(t *testing.T) {
	rows(t, func(t *testing.T, api string, row llm.Row) {
		if strings.Contains(row.Path, "{") {
			return
		}
		if n := testing.AllocsPerRun(10, func() { surface.Lookup(api, row.Method, row.Path) }); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
	if n := testing.AllocsPerRun(10, func() { surface.Lookup(surface.APIOpenAI, "POST", "/v1/what/is/this") }); n > 0 {
		t.Errorf("%v allocations where no row matches", n)
	}
}

// form is a body of multipart/form-data whose boundary is X.
const form = "--X\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--X--\r\n"

// requests are requests to a row: with bodies that say nothing, that are broken, and those of its surface's fixtures.
func requests(t *testing.T, row llm.Row, fixtures map[llm.Surface][]*llm.Request) []*llm.Request {
	t.Helper()
	path, vars := example(row.Path)
	var out []*llm.Request
	for _, b := range []struct{ contentType, body string }{
		{"", ""},
		{"application/json", "{}"},
		{"application/json", `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"contents":[],"input":"x","prompt":["a"],"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`},
		{"application/json", `{"model":1,"messages":{},"contents":null,"tools":[[]],"stream":"x"`},
		{"application/json", "\xff\xfe\x00"},
		{"application/json", "[[[[]]]]"},
		{"multipart/form-data; boundary=X", form},
		{"multipart/form-data", form[:20]},
		{"text/plain", "hello"},
	} {
		out = append(out, &llm.Request{Method: row.Method, Path: path, Vars: vars, ContentType: b.contentType, Body: []byte(b.body)},
			&llm.Request{Method: row.Method, Path: path, Query: "alt=sse&what=1&what=2&%zz", ContentType: b.contentType, Body: []byte(b.body)}) // without what the row's variables match
	}
	for _, f := range fixtures[row.Surface] {
		r := *f
		r.Path, r.Vars = path, vars
		if r.Method != llm.MethodMessage {
			r.Method = row.Method
		}
		out = append(out, &r)
	}
	if row.RefuseMessage != nil {
		for _, r := range slices.Clone(out) {
			m := *r
			m.Method = llm.MethodMessage
			out = append(out, &m)
		}
	}
	return out
}

// What holds for every row: a request that is judged is not touched, so that what was judged can be sent; judging it again says the same; the normal form names
// the row; no body makes it panic, and what it has to say stays within bounds.
func TestEveryRowDecodes(t *testing.T) {
	fixtures := fixtureRequests(t)
	rows(t, func(t *testing.T, api string, row llm.Row) {
		for _, r := range requests(t, row, fixtures) {
			header := fmt.Sprint(r.Header)
			before := *r
			before.Body, before.Vars = bytes.Clone(r.Body), slices.Clone(r.Vars)
			call := row.Decode(r, llm.DefaultLimits())
			if !bytes.Equal(r.Body, before.Body) || !slices.Equal(r.Vars, before.Vars) || r.Path != before.Path || r.Query != before.Query || fmt.Sprint(r.Header) != header {
				t.Fatalf("%.60q was changed", before.Body)
			}
			again := row.Decode(&before, llm.DefaultLimits())
			if !reflect.DeepEqual(call, again) {
				t.Errorf("%.60q read twice:\n%+v\n%+v", r.Body, call, again)
			}
			if call == nil || call.Surface != row.Surface || call.Provider == "" || call.Class == "" || call.Operation == "" {
				t.Fatalf("%.60q: %+v", r.Body, call)
			}
			golden.CheckCall(t, call, r.Body)
			if call.BodyBytes != len(r.Body) {
				t.Errorf("%.60q: %d bytes", r.Body, call.BodyBytes)
			}
		}
		// The smallest limits are kept, too.
		for _, r := range requests(t, row, fixtures) {
			call := row.Decode(r, llm.Limits{MaxBytes: 1, MaxFindings: 1})
			if len(call.Findings) > 2 && r.Query == "" {
				t.Errorf("%.60q: findings %+v beyond a limit of one", r.Body, call.Findings)
			}
			if len(r.Body) > 1 && len(call.Findings) == 0 {
				t.Errorf("%s %.60q: a body beyond the limit and no finding", r.Method, r.Body)
			}
		}
	})
}

// A refused caller must see an error that its SDK raises and does not try again, and read the reason.
func TestEveryRowRefuses(t *testing.T) {
	r := llm.Refusal{DecisionID: "0198c0de-0000-7000-8000-000000000001", Rule: "TEST-001", Message: "No \"quotes\",\nline feeds, \u2028 or <tags> \xff may break this."}
	readable := func(t *testing.T, what string, b []byte) {
		t.Helper()
		if !utf8.Valid(b) && !strings.Contains(what, string(llm.FramingEventStream)) || !bytes.Contains(b, []byte(r.Rule)) || !bytes.Contains(b, []byte(r.DecisionID)) {
			t.Errorf("%s %q does not name the rule and the decision", what, b)
		}
	}
	rows(t, func(t *testing.T, api string, row llm.Row) {
		a := row.Refuse(r)
		media, _, err := mime.ParseMediaType(a.ContentType)
		if err != nil || media == "application/json" && !json.Valid(a.Body) {
			t.Errorf("%s: %q", a.ContentType, a.Body)
		}
		switch a.Status {
		case 408, 409, 425, 429:
			t.Errorf("status %d, which SDKs try again", a.Status)
		default:
			if a.Status != 200 && a.Status/100 != 4 {
				t.Errorf("status %d", a.Status)
			}
		}
		if a.Header.Get("Retry-After") != "" {
			t.Error("the caller is told to try again")
		}
		readable(t, "the refusal", a.Body)
		if row.RefuseMessage != nil {
			b := row.RefuseMessage(r)
			if !json.Valid(b) {
				t.Errorf("message %q", b)
			}
			readable(t, "the message", b)
		}
		for _, f := range row.Streams {
			end := row.Watch(llm.WatchOptions{Framing: f}).End(r)
			if end == nil {
				if row.Class == llm.ClassModel {
					t.Errorf("a stream of %s cannot be ended", f)
				}
				continue
			}
			readable(t, "the end of "+string(f), end)
			s := framing.New(f, 1<<20)
			s.Write(framing.End(f, end, false))
			n := 0
			for _, ok := s.Next(); ok; _, ok = s.Next() {
				n++
			}
			rest := s.Rest()
			switch {
			case s.Err() != nil:
				t.Error(s.Err())
			case f == llm.FramingWebSocket:
				if !json.Valid(end) {
					t.Errorf("message %q", end)
				}
			case n == 0 || len(bytes.TrimSpace(rest)) > 0:
				t.Errorf("the end of %s is %d frames and a rest of %q", f, n, rest)
			}
			if f == llm.FramingJSONArray && !json.Valid(framing.End(f, end, false)) {
				t.Errorf("the array %q", framing.End(f, end, false))
			}
		}
	})
}

// No response makes a watcher panic or hang, whatever framing it is said to have.
func TestEveryRowWatches(t *testing.T) {
	rows(t, func(t *testing.T, api string, row llm.Row) {
		for _, f := range append([]llm.Framing{llm.FramingNone, llm.FramingEventStream}, row.Streams...) {
			for _, body := range []string{"", "{}", "[", "data: {}\n\n", "data: [DONE]\n\n", "{\"error\":{\"message\":\"no\"}}", strings.Repeat("[", 300), strings.Repeat(`{"a":`, 100), "\x00\x00\x00\x10\x00\x00\x00\x00", "<html>"} {
				for _, arguments := range []int{0, 10, -1} {
					w := row.Watch(llm.WatchOptions{ContentType: "application/json", Framing: f, Arguments: arguments})
					w.Write([]byte(body))
					first := w.Reply()
					if again := w.Reply(); !reflect.DeepEqual(first, again) {
						t.Errorf("%.20q asked twice: %+v and %+v", body, first, again)
					}
					w.End(llm.Refusal{})
				}
			}
		}
	})
}

// codecs is where the codecs are, seen from here.
const codecs = ".."

// directory is a directory of fixtures.
type directory struct {
	path string
	// requests is how many there are of each surface.
	requests map[llm.Surface]int
	// surface is the one that most of the requests are of.
	surface llm.Surface
}

// directories returns the directories below the codecs' testdata that have requests. The golden files say which surface they are of.
func directories(t testing.TB) []directory {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(codecs, "*", "testdata", "*", "requests"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	one, err := filepath.Glob(filepath.Join(codecs, "*", "testdata", "requests")) // of a codec that has one surface to show
	if err != nil {
		t.Fatal(err)
	}
	found = append(found, one...)
	var out []directory
	for _, dir := range found {
		d := directory{path: dir, requests: map[llm.Surface]int{}}
		names, err := filepath.Glob(filepath.Join(dir, "*.golden"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			var call struct {
				Surface llm.Surface `json:"surface"`
			}
			if err := json.Unmarshal(read(t, name), &call); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if d.requests[call.Surface]++; d.requests[call.Surface] > d.requests[d.surface] {
				d.surface = call.Surface
			}
		}
		if d.surface != "" {
			out = append(out, d)
		}
	}
	return out
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixtureRequests returns the requests of all fixtures by surface.
func fixtureRequests(t testing.TB) map[llm.Surface][]*llm.Request {
	t.Helper()
	out := map[llm.Surface][]*llm.Request{}
	for _, d := range directories(t) {
		for _, r := range golden.RequestFiles(t, d.path, llm.Request{}) {
			out[d.surface] = append(out[d.surface], r)
		}
	}
	return out
}

// wantsBody reports whether a row's requests have a body: without one there is something to find.
func wantsBody(row llm.Row) bool {
	path, vars := example(row.Path)
	return len(row.Decode(&llm.Request{Method: row.Method, Path: path, Vars: vars}, llm.DefaultLimits()).Findings) > 0
}

// Every surface whose requests have a body has fixtures, and every surface that asks a model has responses, of its own or of another surface whose responses are
// read by the same function.
func TestEverySurfaceHasFixtures(t *testing.T) {
	requests, responses := map[llm.Surface]int{}, map[llm.Surface]int{}
	for _, d := range directories(t) {
		for s, n := range d.requests {
			requests[s] += n
		}
		golden, err := filepath.Glob(filepath.Join(filepath.Dir(d.path), "responses", "*.golden"))
		if err != nil {
			t.Fatal(err)
		}
		responses[d.surface] += len(golden)
	}
	watched := map[uintptr]int{}
	watch := func(row llm.Row) uintptr { return reflect.ValueOf(row.Watch).Pointer() }
	for _, api := range surface.APIs() {
		for _, row := range surface.Rows(api) {
			watched[watch(row)] += responses[row.Surface]
		}
	}
	missing := map[string]bool{}
	rows(t, func(t *testing.T, _ string, row llm.Row) {
		if wantsBody(row) && requests[row.Surface] == 0 {
			missing[string(row.Surface)+" has no requests"] = true
		}
		if row.Class == llm.ClassModel && watched[watch(row)] == 0 {
			missing[string(row.Surface)+" has no responses"] = true
		}
	})
	for _, m := range slices.Sorted(maps.Keys(missing)) {
		t.Error(m)
	}
}

// Whole requests, each of which finds its row by its method and path: those of surfaces that another codec reads, or that have no body to speak of.
func TestWholeRequests(t *testing.T) {
	for _, api := range surface.APIs() {
		t.Run(api, func(t *testing.T) {
			golden.Requests(t, filepath.Join("testdata", api, "requests"), func(r *llm.Request, lim llm.Limits) *llm.Call {
				m := surface.Lookup(api, r.Method, r.Path)
				found := *r
				found.Vars = m.Vars
				return m.Decode(&found, lim)
			}, llm.Request{})
		})
	}
}
