package proxy

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// callerHeaders are the headers by which callers name themselves to providers. They are taken off where a credential is added: nobody sends
// its own key along to a provider that also knows ours.
var callerHeaders = []string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Ocp-Apim-Subscription-Key", "Cookie"}

// callerParameters are the query parameters that do the same, by API, in lower case. One that ends in "-" stands for all that begin with it.
var callerParameters = map[string][]string{
	"azure-openai": {"api-key", "subscription-key", "authorization"},
	apiBedrock:     {"x-amz-"},
	"gemini":       {"key", "access_token", "oauth_token"},
	"vertex-ai":    {"key", "access_token", "oauth_token"},
}

// apiBedrock is the API whose calls are signed, and whose names hold slashes.
const apiBedrock = "bedrock"

// keySubprotocol begins the WebSocket subprotocol in which a browser sends its key to OpenAI.
const keySubprotocol = "openai-insecure-api-key."

// credential puts the provider's credential in the place of the caller's own. It is safe for concurrent use.
type credential struct {
	api string
	add adder // nil where the secret is missing
}

// adder adds a credential to a request whose body is given.
type adder interface {
	add(r *http.Request, body []byte, now time.Time) error
}

// newCredential reads a secret as the API wants it:
//
//	openai, cohere, ollama, mcp, a2a   Authorization: Bearer
//	azure-openai                       Api-Key
//	anthropic                          X-Api-Key
//	gemini                             X-Goog-Api-Key
//	vertex-ai                          Authorization: Bearer, or tokens made with the service account's key where the secret is one (JSON)
//	bedrock                            a signature by AWS Signature Version 4 where the secret is JSON (see awsKey), else Authorization: Bearer
//
// hosts are where it may be used.
func newCredential(api string, secret []byte, hosts []string) (*credential, error) {
	c := &credential{api: api}
	text := strings.TrimSpace(string(secret))
	object := strings.HasPrefix(text, "{")
	var err error
	switch api {
	case "openai", "cohere", "ollama", "mcp", "a2a":
		c.add, err = newHeader("Authorization", "Bearer ", text)
	case "azure-openai":
		c.add, err = newHeader("Api-Key", "", text)
	case "anthropic":
		c.add, err = newHeader("X-Api-Key", "", text)
	case "gemini":
		c.add, err = newHeader("X-Goog-Api-Key", "", text)
	case "vertex-ai":
		if object {
			c.add, err = newServiceAccount([]byte(text))
		} else {
			c.add, err = newHeader("Authorization", "Bearer ", text)
		}
	case apiBedrock:
		if object {
			c.add, err = newSigner([]byte(text), hosts)
		} else {
			c.add, err = newHeader("Authorization", "Bearer ", text)
		}
	default:
		return nil, fmt.Errorf("API %q: not known how a credential is sent", api)
	}
	if err != nil {
		return nil, err
	}
	if text == "" {
		c.add = nil
	}
	return c, nil
}

// apply changes a request that is about to be sent with this body. It fails where there is no key. A provider without a credential
// gets the caller's own.
func (c *credential) apply(r *http.Request, body []byte, now time.Time) error {
	if c == nil {
		return nil
	}
	if c.add == nil {
		return errNoCredential
	}
	dropCallers(r.Header, c.api)
	r.URL.RawQuery = withoutParameters(r.URL.RawQuery, callerParameters[c.api])
	withoutKeyProtocol(r.Header)
	return c.add.add(r, body, now)
}

// dropCallers takes off the headers by which callers name themselves to an API.
func dropCallers(h http.Header, api string) {
	for _, name := range callerHeaders {
		h.Del(name)
	}
	if api != apiBedrock {
		return
	}
	for name := range h {
		// The user agent is no part of the signature, and the SDK's own.
		if name != "X-Amz-User-Agent" && strings.HasPrefix(strings.ToLower(name), "x-amz-") {
			delete(h, name)
		}
	}
}

// withoutParameters takes parameters out of a query and leaves the rest as it is.
func withoutParameters(query string, names []string) string {
	if query == "" || len(names) == 0 {
		return query
	}
	is := func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err == nil {
			name = plain
		}
		name = strings.ToLower(name)
		return slices.ContainsFunc(names, func(n string) bool { return name == n || strings.HasSuffix(n, "-") && strings.HasPrefix(name, n) })
	}
	return strings.Join(slices.DeleteFunc(strings.Split(query, "&"), is), "&")
}

// withoutKeyProtocol takes keys out of the subprotocols that are offered, and leaves the others in their order.
func withoutKeyProtocol(h http.Header) {
	const name = "Sec-Websocket-Protocol"
	lines := h.Values(name)
	if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(strings.ToLower(l), keySubprotocol) }) {
		return
	}
	var kept []string
	for _, l := range lines {
		for p := range strings.SplitSeq(l, ",") {
			if p = strings.TrimSpace(p); p != "" && !strings.HasPrefix(strings.ToLower(p), keySubprotocol) {
				kept = append(kept, p)
			}
		}
	}
	h.Del(name)
	if len(kept) > 0 {
		h.Set(name, strings.Join(kept, ", "))
	}
}

// unusable is a credential that is none. What is wrong with it is for the log, not for callers.
type unusable struct{ err error }

func (u unusable) add(*http.Request, []byte, time.Time) error {
	return fmt.Errorf("%w: %w", errBadCredential, u.err)
}

// broken says what is wrong with a credential.
func (c *credential) broken() (unusable, bool) {
	if c == nil {
		return unusable{}, false
	}
	u, ok := c.add.(unusable)
	return u, ok
}

// header is an API key in a header.
type header struct{ name, value string }

func newHeader(name, scheme, key string) (*header, error) {
	if strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, errors.New("the credential has a character that no header may have")
	}
	return &header{name, scheme + key}, nil
}

func (h *header) add(r *http.Request, _ []byte, _ time.Time) error {
	r.Header.Set(h.name, h.value)
	return nil
}

// awsKey is the secret of a provider whose calls are signed.
type awsKey struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`
	// SessionToken is of temporary credentials; empty for those of a user.
	SessionToken string `json:"sessionToken"`
	// Region is where the hosts are; empty where their names say it.
	Region string `json:"region"`
}

// signer signs requests by AWS Signature Version 4:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
//
// It signs the host, the type of the body, its own headers, and the body by its hash: what decides what the call is. It leaves out what the way may
// change. The service is "bedrock" whatever the host.
type signer struct {
	key     awsKey
	regions map[string]string // by host
}

func newSigner(secret []byte, hosts []string) (*signer, error) {
	s := &signer{regions: map[string]string{}}
	dec := json.NewDecoder(bytes.NewReader(secret))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s.key); err != nil || dec.More() {
		return nil, errors.New(`the credential is not {"accessKeyId": …, "secretAccessKey": …} with "sessionToken" and "region" where they are needed`)
	}
	for _, v := range []string{s.key.AccessKeyID, s.key.SecretAccessKey, s.key.SessionToken, s.key.Region} {
		if strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return nil, errors.New("the credential has a character that no header may have")
		}
	}
	if s.key.AccessKeyID == "" || s.key.SecretAccessKey == "" {
		return nil, errors.New("the credential lacks accessKeyId or secretAccessKey")
	}
	for _, h := range hosts {
		region := s.key.Region
		if region == "" {
			region = regionOf(h)
		}
		if region == "" {
			return nil, fmt.Errorf("the credential lacks a region, and host %q does not say it", h)
		}
		s.regions[h] = region
	}
	return s, nil
}

// regionOf reads the region in a name such as bedrock-runtime.eu-west-1.amazonaws.com or
// vpce-1.bedrock-runtime.eu-west-1.vpce.amazonaws.com; "" where there is none.
func regionOf(host string) string {
	labels := strings.Split(host, ".")
	if n := len(labels); n < 4 || labels[n-2] != "amazonaws" && labels[n-3] != "amazonaws" {
		return ""
	}
	i := slices.IndexFunc(labels, func(l string) bool { return strings.HasPrefix(l, "bedrock") })
	if i < 0 || i+1 == len(labels) || strings.Count(labels[i+1], "-") < 2 {
		return ""
	}
	return labels[i+1]
}

const (
	signingAlgorithm = "AWS4-HMAC-SHA256"
	signingService   = "bedrock"
)

func (s *signer) add(r *http.Request, body []byte, now time.Time) error {
	region := s.regions[r.URL.Hostname()]
	if region == "" {
		return fmt.Errorf("%w: no region is known for host %q", errBadCredential, r.URL.Hostname())
	}
	stamp := now.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Amz-Date", stamp)
	if s.key.SessionToken != "" {
		r.Header.Set("X-Amz-Security-Token", s.key.SessionToken)
	}
	// The list is sorted, as it must be.
	var names, lines []string
	for _, name := range []string{"content-type", "host", "x-amz-date", "x-amz-security-token"} {
		values := r.Header.Values(name)
		if name == "host" {
			values = []string{r.Host}
		}
		if len(values) == 0 {
			continue
		}
		trimmed := make([]string, len(values))
		for i, v := range values {
			trimmed[i] = strings.Join(strings.Fields(v), " ")
		}
		names = append(names, name)
		lines = append(lines, name+":"+strings.Join(trimmed, ",")+"\n")
	}
	query, err := canonicalQuery(r.URL.RawQuery)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	signed := strings.Join(names, ";")
	request := strings.Join([]string{r.Method, awsEscape(r.URL.EscapedPath(), true), query, strings.Join(lines, ""), signed, hexHash(body)}, "\n")
	scope := stamp[:8] + "/" + region + "/" + signingService + "/aws4_request"
	toSign := strings.Join([]string{signingAlgorithm, stamp, scope, hexHash([]byte(request))}, "\n")
	key := []byte("AWS4" + s.key.SecretAccessKey)
	for _, part := range []string{stamp[:8], region, signingService, "aws4_request"} {
		key = mac(key, part)
	}
	r.Header.Set("Authorization", signingAlgorithm+" Credential="+s.key.AccessKeyID+"/"+scope+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(mac(key, toSign)))
	return nil
}

func hexHash(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

// awsEscape escapes all but unreserved characters. A path is escaped as it is sent, escapes included, so that "%2F" becomes "%252F": so wants it
// every service but S3.
func awsEscape(s string, path bool) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0, path && c == '/':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// canonicalQuery is the query with its parameters escaped in one way and sorted.
func canonicalQuery(query string) (string, error) {
	if query == "" {
		return "", nil
	}
	var pairs [][2]string
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		n, nerr := url.QueryUnescape(name)
		v, verr := url.QueryUnescape(value)
		if nerr != nil || verr != nil {
			return "", errors.New("the query has a broken escape")
		}
		pairs = append(pairs, [2]string{awsEscape(n, false), awsEscape(v, false)})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p[0] + "=" + p[1])
	}
	return b.String(), nil
}

// Tokens made with a service account's key.
const (
	tokenLife  = time.Hour        // the longest that Google takes
	tokenRenew = 10 * time.Minute // before its end, for clocks that go otherwise and calls on their way
	tokenScope = "https://www.googleapis.com/auth/cloud-platform"
)

// serviceAccount makes bearer tokens for Google's APIs with a service account's key: JWTs that the account signs itself, which these APIs take
// in place of an access token, so that no token service need be reached. See https://google.aip.dev/auth/4111.
type serviceAccount struct {
	email, keyID string
	key          *rsa.PrivateKey

	mu    sync.Mutex
	token string
	until time.Time
}

func newServiceAccount(secret []byte) (*serviceAccount, error) {
	var file struct {
		Type       string `json:"type"`
		Email      string `json:"client_email"`
		KeyID      string `json:"private_key_id"`
		PrivateKey string `json:"private_key"`
	}
	if err := json.Unmarshal(secret, &file); err != nil || file.Type != "service_account" || file.Email == "" {
		return nil, errors.New("the credential is no key file of a service account")
	}
	block, _ := pem.Decode([]byte(file.PrivateKey))
	if block == nil {
		return nil, errors.New("the service account's private_key is no PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the service account's private_key is not PKCS #8")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("the service account's private_key is not an RSA key")
	}
	return &serviceAccount{email: file.Email, keyID: file.KeyID, key: key}, nil
}

func (s *serviceAccount) add(r *http.Request, _ []byte, now time.Time) error {
	token, err := s.current(now)
	if err != nil {
		return fmt.Errorf("make a token: %w", err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return nil
}

// current returns a token that is good for a while.
func (s *serviceAccount) current(now time.Time) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != "" && now.Before(s.until.Add(-tokenRenew)) && !now.Before(s.until.Add(-tokenLife-tokenRenew)) {
		return s.token, nil
	}
	head, err := json.Marshal(map[string]string{"alg": "RS256", "typ": "JWT", "kid": s.keyID})
	if err != nil {
		return "", err
	}
	claims, err := json.Marshal(map[string]any{
		"iss": s.email, "sub": s.email, "scope": tokenScope, "iat": now.Unix(), "exp": now.Add(tokenLife).Unix(),
	})
	if err != nil {
		return "", err
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(claims)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	s.token, s.until = text+"."+base64.RawURLEncoding.EncodeToString(signature), now.Add(tokenLife)
	return s.token, nil
}
