// Package websocket reads and writes the wire format of WebSocket (RFC 6455) with permessage-deflate (RFC 7692) for somebody who stands
// between two ends: it shows every frame as it is on the wire, so that a message can be read, judged and passed on with its own frames.
//
// Most readers come for Reader.Next:
//
//	r := websocket.NewReader(conn, websocket.Options{Masked: true, Deflate: true, MaxMessage: 16 << 20})
//	for {
//		f, err := r.Next()
//		payload, err := r.Payload(nil)
//		out = websocket.AppendFrame(out, f, &key, payload)
//	}
//
// It is strict: what two readers could take for two different messages is an error that says the close code to end the connection with.
//
// The package dials nothing, answers no ping and closes no connection; it is no WebSocket client or server.
package websocket
