// Package strictjson reads JSON that comes from somebody who may want two readers to understand it differently.
//
// A policy that judges a request and a provider that carries it out must read the same thing. Lenient readers do not agree on
// duplicate keys, on keys that differ in case or that are spelled with escapes, on bytes that are no UTF-8 or
// on numbers out of range. This reader accepts exactly the grammar of RFC 8259 and names each of those things as a Problem,
// in one pass over the bytes and without copying them:
//
//	var doc strictjson.Document
//	if !doc.Parse(body, strictjson.Options{}) || len(doc.Problems()) > 0 {
//		return errors.New("not a body that every reader reads alike")
//	}
//	model := doc.Root().Get("model").Text()
//
// The package does not map JSON to Go types, does not write JSON and is not for streams: it wants the whole body.
package strictjson
