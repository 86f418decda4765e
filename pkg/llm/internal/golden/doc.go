// Package golden compares what the codecs read with files, for their tests only.
//
//	golden.Requests(t, "testdata/requests", Decode)
//
// Each file NAME.json is a request body, and NAME.golden beside it the call in normal form. With -update the golden files are
// written instead; look at the difference before it goes in.
package golden
