package gate

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/policy"
)

// Of a credential counts what stays the same from call to call.
func TestCredentialOf(t *testing.T) {
	jwt := func(claims string) string {
		return "Bearer eyJhbGciOiJub25lIn0." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".sig"
	}
	const aws = "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/eu-west-1/bedrock/aws4_request, SignedHeaders=host, Signature="
	for name, tc := range map[string]struct{ header, value, query, want string }{
		"nothing":          {"", "", "", ""},
		"bearer":           {"Authorization", "Bearer sk-1", "", "sk-1"},
		"anthropic":        {"X-Api-Key", "sk-ant-1", "", "sk-ant-1"},
		"azure":            {"Api-Key", "k", "", "k"},
		"google":           {"X-Goog-Api-Key", "AIza", "", "AIza"},
		"google, query":    {"", "", "alt=sse&key=AIza", "AIza"},
		"broken query":     {"", "", "key=%zz", ""},
		"aws":              {"Authorization", aws + "1", "", "aws AKIAEXAMPLE"},
		"aws, again":       {"Authorization", aws + "2", "", "aws AKIAEXAMPLE"},
		"aws, broken":      {"Authorization", "AWS4-HMAC-SHA256 Signature=1", "", ""},
		"google's hour":    {"Authorization", "Bearer ya29.abc", "", ""},
		"token":            {"Authorization", jwt(`{"iss":"i","sub":"s","exp":1}`), "", "jwt i\x00s\x00\x00"},
		"token, next hour": {"Authorization", jwt(`{"iss":"i","sub":"s","exp":2,"azp":"a"}`), "", "jwt i\x00s\x00a\x00"},
		"token of nobody":  {"Authorization", "Bearer eyJh.eyJ.x", "", "eyJh.eyJ.x"},
		"far too long":     {"Authorization", strings.Repeat("x", maxCredential+1), "", ""},
	} {
		r := &Request{Query: tc.query, Header: http.Header{}}
		if tc.header != "" {
			r.Header.Set(tc.header, tc.value)
		}
		if got := string(credentialOf(r)); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	// A key that is known does not hide another one, wherever that stands.
	ours := http.Header{"X-Api-Key": {"ours"}}
	for name, tc := range map[string]struct {
		edit func(*Request)
		want string
	}{
		"alone":              {func(*Request) {}, "ours"},
		"twice the same":     {func(r *Request) { r.Header.Set("Authorization", "Bearer ours") }, "ours"},
		"another header":     {func(r *Request) { r.Header.Set("Authorization", "Bearer theirs") }, "ours\x00theirs"},
		"another line":       {func(r *Request) { r.Header.Add("X-Api-Key", "theirs") }, "ours\x00theirs"},
		"API Management":     {func(r *Request) { r.Header.Set("Ocp-Apim-Subscription-Key", "theirs") }, "ours\x00theirs"},
		"the query":          {func(r *Request) { r.Query = "alt=sse&key=theirs" }, "ours\x00theirs"},
		"after what is none": {func(r *Request) { r.Query = "a=%zz&%6Bey=theirs" }, "ours\x00theirs"},
		"an access token":    {func(r *Request) { r.Query = "access_token=theirs" }, "ours\x00theirs"},
		"a signed URL":       {func(r *Request) { r.Query = "X-Amz-Credential=AKIATHEIRS%2F20260101%2Feu-west-1" }, "ours\x00aws AKIATHEIRS"},
		"a browser's":        {func(r *Request) { r.Header.Set("Sec-Websocket-Protocol", "realtime, openai-insecure-api-key.theirs") }, "ours\x00theirs"},
		"a cookie":           {func(r *Request) { r.Header.Set("Cookie", "__cf_bm=1") }, "ours"},
	} {
		r := &Request{Header: ours.Clone()}
		tc.edit(r)
		if got := string(credentialOf(r)); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
	if got := authority(&policy.Destination{Host: "a.example", Port: 443}); got != "a.example:443" {
		t.Error(got)
	}
	if got := authority(&policy.Destination{}); got != "" {
		t.Error(got)
	}
}
