// Package canary finds strings that must never appear in a call, in whatever coding they are in: canary tokens, put where only a thief looks.
//
//	set, err := canary.New([]canary.Token{{Name: "vault", Value: "ck_live_9f2d…"}})
//	names := set.Find(body)
//
// Set.Find is what most readers come for. A token is found as it is and in any case of its letters; with white space and characters that do not show put between its
// characters; with JSON escapes, percent-encoding and HTML entities, two layers of them; in base64 of both alphabets, wherever in the encoded text it is,
// and in hexadecimal; and with two of all these one over the other, as base64 of base64 or of escaped text.
//
// It takes one pass over the text for each layer that is there, in pieces of bounded size, whatever the number of tokens. What was not looked for: other
// alphabets with letters that look alike, compression, encryption, characters left out, exchanged or put between that show.
package canary
