package websocket

import (
	"crypto/sha1" //nolint:gosec // RFC 6455 says so; nothing is protected by it
	"encoding/base64"
	"errors"
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// IsUpgrade says whether a request asks to become a WebSocket.
func IsUpgrade(h http.Header) bool {
	return httpguts.HeaderValuesContainsToken(h.Values("Connection"), "upgrade") && httpguts.HeaderValuesContainsToken(h.Values("Upgrade"), "websocket")
}

// CheckRequest says what is wrong with a client's handshake.
func CheckRequest(r *http.Request) error {
	h := r.Header
	key, err := base64.StdEncoding.DecodeString(one(h, "Sec-Websocket-Key"))
	switch {
	case r.Method != http.MethodGet:
		return errors.New("the method of a handshake is GET")
	case !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1:
		return errors.New("a handshake is made in HTTP/1.1")
	case r.ContentLength != 0:
		return errors.New("a handshake has no body")
	case one(h, "Upgrade") == "" || !strings.EqualFold(one(h, "Upgrade"), "websocket"):
		return errors.New("a handshake asks for WebSocket and for nothing else")
	case one(h, "Sec-Websocket-Version") != "13":
		return errors.New("the version of WebSocket is 13")
	case err != nil || len(key) != 16:
		return errors.New("the handshake's key is malformed")
	}
	return nil
}

// CheckResponse says what is wrong with a server's answer to a handshake with a key and sub-protocols.
func CheckResponse(res *http.Response, key string, protocols []string) error {
	accepted := one(res.Header, "Sec-Websocket-Protocol")
	offered := accepted == "" && len(res.Header.Values("Sec-Websocket-Protocol")) == 0
	for _, p := range protocols {
		offered = offered || p == accepted
	}
	switch {
	case res.StatusCode != http.StatusSwitchingProtocols:
		return errors.New("websocket: the server did not switch protocols")
	case !IsUpgrade(res.Header):
		return errors.New("websocket: the server switched to another protocol")
	case one(res.Header, "Sec-Websocket-Accept") != Accept(key):
		return errors.New("websocket: the server answered another handshake")
	case !offered:
		return errors.New("websocket: the server chose a sub-protocol that was not offered")
	}
	return nil
}

// Accept is the Sec-WebSocket-Accept that answers a key.
func Accept(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // see above
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Protocols returns the sub-protocols that a client offers, in their order.
func Protocols(h http.Header) []string {
	var out []string
	for p := range strings.SplitSeq(strings.Join(h.Values("Sec-Websocket-Protocol"), ","), ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// one returns the value of a header that is there once, and "" otherwise.
func one(h http.Header, name string) string {
	if v := h.Values(name); len(v) == 1 {
		return strings.TrimSpace(v[0])
	}
	return ""
}
