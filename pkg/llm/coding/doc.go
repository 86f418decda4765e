// Package coding takes the content codings of HTTP (gzip, deflate, br, zstd, one upon another) off a body that is to be judged, and puts them
// back on one that was edited.
//
//	plain, findings := coding.Decode(header.Get("Content-Encoding"), body, coding.Limits{MaxBytes: 32 << 20})
//
// Decode is strict in the sense of package strictjson: what one reader may take apart in another way than this one is a finding, such as a
// second gzip member, or bytes after the end. It is bounded in what it writes, and in how much more that is than what it read. NewReader is for
// responses that are read on the side, where nothing hangs on those things.
//
// The decoders of br and zstd add 0.45 MB to a program. Their encoders would add another 0.95 MB, so Encode writes these two without compressing: every reader takes
// such a body, and it is only ever written when a policy has asked for an edit.
package coding
