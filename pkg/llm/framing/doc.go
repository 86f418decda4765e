// Package framing takes a streamed response apart into its frames without changing a byte: events of server-sent events, lines of NDJSON,
// elements of a JSON array, messages of AWS's event stream. It is for those who hold frames back and let go of them later.
//
//	s := framing.New(llm.FramingSSE, 1<<20)
//	s.Write(p)
//	for frame, ok := s.Next(); ok; frame, ok = s.Next() {
//		w.Write(frame)
//	}
//
// All frames and the rest one after another are what was written. What is in a frame is read by the Watcher of a row, not here.
package framing
