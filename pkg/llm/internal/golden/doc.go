// Package golden compares what the codecs read with files, for their tests only.
//
//	golden.Requests(t, "testdata/chat_completions/requests", Decode, llm.Request{})
//	golden.Replies(t, "testdata/chat_completions/responses", Watch)
//
// Each file NAME.json, NAME.multipart or NAME.http is a request, and NAME.golden beside it the call in normal form. With -update the golden files are
// written instead; look at the difference before it goes in.
package golden
