package gate

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sallyport.dev/sallyport/pkg/policy"
)

// authority is where a call goes: host:port.
func authority(d *policy.Destination) string {
	if d.Host == "" {
		return ""
	}
	return d.Host + ":" + strconv.Itoa(d.Port)
}

// maxCredential is the longest credential that is looked at.
const maxCredential = 16 << 10

// Where callers name themselves to the APIs. Cookies are left out: providers' front ends set them, and they are others every day.
var (
	credentialHeaders    = []string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Ocp-Apim-Subscription-Key", "Authorization"}
	credentialParameters = []string{"key", "api-key", "subscription-key", "authorization", "access_token", "oauth_token", "x-amz-credential"}
)

// keySubprotocol begins the WebSocket subprotocol in which a browser sends its key to OpenAI.
const keySubprotocol = "openai-insecure-api-key."

// credentialOf is what of the caller's own credential stays the same from call to call, nil where there is nothing of the kind: an API key as it is, of a
// signature the access key's id, and of a JSON Web Token whom it was issued to and by whom. Of other tokens that are handed out for an hour, as Google's are, nothing stays.
//
// Where there are several it is all of them, each once: which of them a provider heeds is its own affair, and a known key must not hide another one.
func credentialOf(r *Request) []byte {
	var all [][]byte
	add := func(v string) {
		if v == "" || len(v) > maxCredential {
			return
		}
		if c := lasting(v); c != nil && !slices.ContainsFunc(all, func(other []byte) bool { return bytes.Equal(c, other) }) {
			all = append(all, c)
		}
	}
	for _, name := range credentialHeaders {
		for _, v := range r.Header.Values(name) {
			add(v)
		}
	}
	for _, line := range r.Header.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if p = strings.TrimSpace(p); len(p) > len(keySubprotocol) && strings.EqualFold(p[:len(keySubprotocol)], keySubprotocol) {
				add(p[len(keySubprotocol):])
			}
		}
	}
	for pair := range strings.SplitSeq(r.Query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			continue // a finding
		}
		if name = strings.ToLower(name); !slices.Contains(credentialParameters, name) {
			continue
		}
		if value, err = url.QueryUnescape(value); err != nil {
			continue // as well
		}
		if name == "x-amz-credential" {
			value = "AWS4-QUERY Credential=" + value
		}
		add(value)
	}
	return bytes.Join(all, []byte{0})
}

func lasting(v string) []byte {
	if scheme, rest, ok := strings.Cut(v, " "); ok {
		if strings.HasPrefix(scheme, "AWS4-") {
			_, id, _ := strings.Cut(rest, "Credential=")
			id, _, _ = strings.Cut(id, "/")
			if id == "" {
				return nil
			}
			return []byte("aws " + id)
		}
		v = strings.TrimSpace(rest)
	}
	if strings.HasPrefix(v, "ya29.") {
		return nil
	}
	if head, rest, ok := strings.Cut(v, "."); ok && strings.HasPrefix(head, "eyJ") {
		payload, _, ok := strings.Cut(rest, ".")
		var claims struct {
			Issuer   string `json:"iss"`
			Subject  string `json:"sub"`
			Client   string `json:"azp"`
			ClientID string `json:"appid"`
		}
		if b, err := base64.RawURLEncoding.DecodeString(payload); ok && err == nil && json.Unmarshal(b, &claims) == nil && claims.Subject != "" {
			return []byte("jwt " + claims.Issuer + "\x00" + claims.Subject + "\x00" + claims.Client + "\x00" + claims.ClientID)
		}
	}
	return []byte(v)
}
