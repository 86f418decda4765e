package gate

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
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

// credentialHeaders are where the APIs have their keys.
var credentialHeaders = []string{"X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Authorization"}

// credentialOf is what of the caller's own credential stays the same from call to call, nil where there is nothing of the kind: an API key as it is, of a
// signature the access key's id, and of a JSON Web Token whom it was issued to and by whom. Of other tokens that are handed out for an hour, as Google's are, nothing stays.
func credentialOf(r *Request) []byte {
	for _, name := range credentialHeaders {
		if v := r.Header.Get(name); v != "" && len(v) <= maxCredential {
			return lasting(v)
		}
	}
	if strings.Contains(r.Query, "key=") {
		if query, err := url.ParseQuery(r.Query); err == nil {
			if v := query.Get("key"); v != "" && len(v) <= maxCredential {
				return lasting(v)
			}
		}
	}
	return nil
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
