package wire_test

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

const formType = "multipart/form-data; boundary=XX"

func part(headers, content string) string {
	return "--XX\r\n" + headers + "\r\n\r\n" + content + "\r\n"
}

func field(name, content string) string {
	return part(`Content-Disposition: form-data; name="`+name+`"`, content)
}

// A form is clean only when every reader takes it apart in the same way.
func TestMultipart(t *testing.T) {
	const end = "--XX--\r\n"
	for _, c := range []struct {
		name, contentType, body string
		parts                   string // as name/filename/type=content
		code                    llm.FindingCode
	}{
		{"fields and a file", formType, field("model", "whisper-1") + part("Content-Disposition: form-data; name=\"file\"; filename=\"a b.mp3\"\r\nContent-Type: audio/mpeg", "\x00\r\n\xff") + end, "model//=whisper-1 file/a b.mp3/audio/mpeg=\x00\r\n\xff", ""},
		{"an array", formType, field("a[]", "1") + field("a[]", "2") + end, "a[]//=1 a[]//=2", ""},
		{"an empty part, and no line at the end", `multipart/form-data; boundary="XX"`, field("a", "") + "--XX--", "a//=", ""},
		{"names without quotes", formType, part("content-disposition: form-data; name=a; filename=b.txt\r\ncontent-type: text/plain; charset=utf-8", "x") + end, "a/b.txt/text/plain=x", ""},
		{"no parts", formType, end, "", ""},
		{"a file name in another script", formType, part(`Content-Disposition: form-data; name="file"; filename="é.txt"`, "x") + end, "file/é.txt/=x", ""},

		{"no form", "application/json", "{}", "", llm.FindingContentType},
		{"another kind of multipart", "multipart/mixed; boundary=XX", field("a", "1") + end, "", llm.FindingContentType},
		{"no boundary", "multipart/form-data", field("a", "1") + end, "", llm.FindingMultipart},
		{"two boundaries", "multipart/form-data; boundary=XX; boundary=YY", field("a", "1") + end, "", llm.FindingContentType},
		{"a boundary in pieces", "multipart/form-data; boundary*0=X; boundary*1=X", field("a", "1") + end, "a//=1", llm.FindingMultipart},
		{"a boundary with an escape", `multipart/form-data; boundary="X\"X"`, field("a", "1") + end, "", llm.FindingMultipart},
		{"a charset beside the boundary", formType + "; charset=utf-16", field("a", "1") + end, "a//=1", llm.FindingMultipart},
		{"a long boundary", "multipart/form-data; boundary=" + strings.Repeat("X", 71), "", "", llm.FindingMultipart},
		{"a preamble", formType, "hello\r\n" + field("a", "1") + end, "a//=1", llm.FindingMultipart},
		{"an empty line first", formType, "\r\n" + field("a", "1") + end, "a//=1", llm.FindingMultipart},
		{"an epilogue", formType, field("a", "1") + end + "more", "a//=1", llm.FindingMultipart},
		{"a part after the end", formType, field("a", "1") + end + field("b", "2"), "a//=1", llm.FindingMultipart},
		{"no end", formType, field("a", "1"), "a//=1\r\n", llm.FindingMultipart},
		{"empty", formType, "", "", llm.FindingMultipart},
		{"a longer boundary within", formType, field("a", "1\r\n--XXX\r\n2") + end, "a//=1\r\n--XXX\r\n2", llm.FindingMultipart},
		{"the boundary in the middle of a line", formType, field("a", "1 --XX 2") + end, "a//=1 --XX 2", llm.FindingMultipart},
		{"the boundary after a bare line feed", formType, field("a", "1\n--XX\r\n2") + end, "a//=1\n--XX\r\n2", llm.FindingMultipart},
		{"white space after the boundary", formType, "--XX \r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n" + end, "", llm.FindingMultipart},
		{"bare line feeds", formType, strings.ReplaceAll(field("a", "1")+end, "\r\n", "\n"), "", llm.FindingMultipart},
		{"the same name twice", formType, field("a", "1") + field("a", "2") + end, "a//=1 a//=2", llm.FindingMultipart},
		{"the same name in other case", formType, field("a[]", "1") + field("A[]", "2") + end, "a[]//=1 A[]//=2", llm.FindingMultipart},
		{"no name", formType, part("Content-Disposition: form-data", "1") + end, "//=1", llm.FindingMultipart},
		{"an empty name", formType, field("", "1") + end, "//=1", llm.FindingMultipart},
		{"no disposition", formType, part("Content-Type: text/plain", "1") + end, "//text/plain=1", llm.FindingMultipart},
		{"no headers", formType, "--XX\r\n\r\n1\r\n" + end, "//=\r\n1", llm.FindingMultipart},
		{"nothing in a part", formType, "--XX\r\n" + end, "", llm.FindingMultipart},
		{"another disposition", formType, part(`Content-Disposition: attachment; name="a"`, "1") + end, "a//=1", llm.FindingMultipart},
		{"two dispositions", formType, part("Content-Disposition: form-data; name=\"a\"\r\nContent-Disposition: form-data; name=\"b\"", "1") + end, "b//=1", llm.FindingMultipart},
		{"two names", formType, part(`Content-Disposition: form-data; name="a"; name="b"`, "1") + end, "b//=1", llm.FindingMultipart},
		{"a backslash in a name", formType, part(`Content-Disposition: form-data; name="a\"; x="b"`, "1") + end, `a\//=1`, llm.FindingMultipart},
		{"more after a name", formType, part(`Content-Disposition: form-data; name="a"b"`, "1") + end, "a//=1", llm.FindingMultipart},
		{"a name that does not end", formType, part(`Content-Disposition: form-data; name="a`, "1") + end, "//=1", llm.FindingMultipart},
		{"a name that is escaped", formType, field("mod%65l", "1") + end, "mod%65l//=1", llm.FindingMultipart},
		{"a name with a space", formType, field("model ", "1") + end, "model //=1", llm.FindingMultipart},
		{"a second file name", formType, part(`Content-Disposition: form-data; name="a"; filename="x"; filename*=UTF-8''y`, "1") + end, "a/x/=1", llm.FindingMultipart},
		{"a transfer encoding", formType, part("Content-Disposition: form-data; name=\"a\"\r\nContent-Transfer-Encoding: base64", "MQ==") + end, "a//=MQ==", llm.FindingMultipart},
		{"a header over two lines", formType, part("Content-Disposition: form-data;\r\n name=\"a\"", "1") + end, "//=1", llm.FindingMultipart},
		{"parts within a part", formType, part("Content-Disposition: form-data; name=\"a\"\r\nContent-Type: multipart/mixed; boundary=Y", "1") + end, "a//multipart/mixed=1", llm.FindingMultipart},
		{"another character set", formType, part("Content-Disposition: form-data; name=\"a\"\r\nContent-Type: text/plain; charset=utf-7", "1") + end, "a//text/plain=1", llm.FindingMultipart},
		{"the character set of the others", formType, field("_charset_", "utf-7") + end, "_charset_//=utf-7", llm.FindingMultipart},
	} {
		t.Run(c.name, func(t *testing.T) {
			call := &llm.Call{}
			var got []string
			for p := range wire.Multipart(call, &llm.Request{ContentType: c.contentType, Body: []byte(c.body)}, llm.Limits{}) {
				got = append(got, p.Name+"/"+p.Filename+"/"+p.MediaType+"="+string(p.Body))
			}
			if s := strings.Join(got, " "); s != c.parts {
				t.Errorf("parts %q, want %q", s, c.parts)
			}
			if c.code == "" && len(call.Findings) > 0 || c.code != "" && !slices.ContainsFunc(call.Findings, func(f llm.Finding) bool { return f.Code == c.code }) {
				t.Errorf("findings %+v, want %q", call.Findings, c.code)
			}
			if call.BodyBytes != len(c.body) {
				t.Errorf("%d bytes", call.BodyBytes)
			}
		})
	}
	call := &llm.Call{}
	for range wire.Multipart(call, &llm.Request{ContentType: formType, Body: []byte(field("a", "1") + end)}, llm.Limits{MaxBytes: 10}) {
		t.Error("a body over the limit is read")
	}
	if len(call.Findings) != 1 || call.Findings[0].Code != llm.FindingOversize {
		t.Errorf("%+v", call.Findings)
	}
}

func TestFormPart(t *testing.T) {
	call := &llm.Call{}
	known := []string{"model", "file"}
	if (wire.FormPart{Name: "file"}).Known(call, known) != 1 || len(call.Findings)+len(call.UnknownFields) > 0 {
		t.Errorf("%+v", call)
	}
	if (wire.FormPart{Name: "Model"}).Known(call, known) != -1 || len(call.Findings) != 1 || call.Findings[0].Code != llm.FindingCaseFoldedKey || !slices.Equal(call.UnknownFields, []string{"&Model"}) {
		t.Errorf("%+v", call)
	}
	if s := (wire.FormPart{Body: []byte("a\xffb")}).Text(call); string(s) != "a\uFFFDb" || len(call.Findings) != 2 || call.Findings[1].Code != llm.FindingInvalidUTF8 {
		t.Errorf("%q %+v", s, call)
	}
}

// What Go's own reader of forms understands of a clean form is what this one does.
func FuzzMultipart(f *testing.F) {
	f.Add([]byte(field("model", "x") + part("Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\nContent-Type: audio/mpeg", "\x00") + "--XX--\r\n"))
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	_ = w.SetBoundary("XX")
	_ = w.WriteField("model", "gpt")
	p, _ := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="image[]"; filename="a.png"`}, "Content-Type": {"image/png"}})
	fmt.Fprint(p, "PNG")
	_ = w.Close()
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, body []byte) {
		call := &llm.Call{}
		parts := slices.Collect(wire.Multipart(call, &llm.Request{ContentType: formType, Body: body}, llm.Limits{}))
		if len(call.Findings) > 0 {
			return
		}
		r := multipart.NewReader(bytes.NewReader(body), "XX")
		for i := 0; ; i++ {
			p, err := r.NextRawPart()
			if err != nil {
				if i != len(parts) {
					t.Fatalf("%d parts, where %d were read: %v", i, len(parts), err)
				}
				return
			}
			var content bytes.Buffer
			if _, err := content.ReadFrom(p); err != nil {
				t.Fatal(err)
			}
			if i >= len(parts) || p.FormName() != parts[i].Name || !bytes.Equal(content.Bytes(), parts[i].Body) {
				t.Fatalf("part %d is %q, where %+v was read", i, p.FormName(), parts)
			}
		}
	})
}

func TestQuery(t *testing.T) {
	known := []string{"alt", "include[]", "limit"}
	for _, c := range []struct {
		query   string
		values  map[string]string
		unknown []string
		bad     bool
	}{
		{"", nil, nil, false},
		{"alt=sse", map[string]string{"alt": "sse"}, nil, false},
		{"alt=a%20b+c&limit=", map[string]string{"alt": "a b c", "limit": ""}, nil, false},
		{"include[]=a&include[]=b", map[string]string{"include[]": "a"}, nil, false},
		{"include%5B%5D=a&include%5B%5D=b", map[string]string{"include[]": "a"}, nil, false},
		{"x=1&alt=sse&a=2", map[string]string{"alt": "sse"}, []string{"?a", "?x"}, false},
		{"alt=a&alt=b", map[string]string{"alt": "a"}, nil, true},
		{"alt=a&Alt=b", map[string]string{"alt": "a"}, []string{"?Alt"}, true},
		{"ALT=a", map[string]string{}, []string{"?ALT"}, true},
		{"%61lt=a", map[string]string{"alt": "a"}, nil, true},
		{"alt=a;limit=2", map[string]string{"alt": "a;limit=2"}, nil, true},
		{"alt", map[string]string{"alt": ""}, nil, true},
		{"=a", map[string]string{}, nil, true},
		{"alt=a&", map[string]string{"alt": "a"}, nil, true},
		{"alt=%", map[string]string{"alt": "%"}, nil, true},
		{"alt=%zz", map[string]string{"alt": "%zz"}, nil, true},
		{"alt=%00", map[string]string{"alt": "\x00"}, nil, true},
		{"alt=%ff", map[string]string{"alt": "\uFFFD"}, nil, true},
		{"alt=\xc3\xa9", map[string]string{"alt": "é"}, nil, true},
		{"a+b=1", map[string]string{}, []string{"?a b"}, true},
		{strings.Repeat("a", 9000), nil, nil, true},
	} {
		call := &llm.Call{}
		values := wire.Query(call, &llm.Request{Query: c.query}, known)
		if fmt.Sprint(values) != fmt.Sprint(c.values) || !slices.Equal(call.UnknownFields, c.unknown) {
			t.Errorf("%.40q: %q, unknown %q", c.query, values, call.UnknownFields)
		}
		if bad := len(call.Findings) > 0; bad != c.bad || bad && call.Findings[0].Code != llm.FindingQuery {
			t.Errorf("%.40q: %+v", c.query, call.Findings)
		}
	}
	call := &llm.Call{}
	wire.Query(call, &llm.Request{Query: strings.Repeat("a[]=1&", 64) + "a[]=1"}, nil)
	if len(call.Findings) != 1 {
		t.Errorf("%+v", call.Findings)
	}
}

// What net/url understands of a clean query is what this reader does.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"alt=sse&key=1", "include[]=a&include%5B%5D=b", "alt=%e2%82%ac"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, query string) {
		call := &llm.Call{}
		got := wire.Query(call, &llm.Request{Query: query}, []string{"alt", "include[]"})
		if len(call.Findings) > 0 {
			return
		}
		want, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"alt", "include[]"} {
			if v, ok := got[name]; ok != want.Has(name) || v != want.Get(name) {
				t.Errorf("%s: %q, where net/url reads %q", name, v, want[name])
			}
		}
		if len(want) != len(got)+len(call.UnknownFields) {
			t.Errorf("%q and unknown %q, where net/url reads %q", got, call.UnknownFields, want)
		}
	})
}

func TestNoBody(t *testing.T) {
	call := &llm.Call{}
	wire.NoBody(call, &llm.Request{}, llm.Limits{})
	if len(call.Findings) > 0 {
		t.Errorf("%+v", call)
	}
	wire.NoBody(call, &llm.Request{Body: []byte(`{}`)}, llm.Limits{})
	if len(call.Findings) != 1 || call.Findings[0].Code != llm.FindingTrailingData || call.BodyBytes != 2 {
		t.Errorf("%+v", call)
	}
}
