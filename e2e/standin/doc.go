// Package standin is a stand-in for model providers, for tests, benchmarks and the demo.
//
// It speaks the APIs of OpenAI, Anthropic, Google (Gemini and Vertex AI), AWS Bedrock, Cohere and Ollama, and is an MCP server and an A2A agent; plain,
// streamed and over WebSocket, with tool calls, usage, credential checks, errors, content codings and delays, and keeps what it
// received, byte for byte, so that a test can compare it with what was sent. Its "model" is a deterministic script, or a
// Brain that the test gives. It is no part of what Sallyport ships, and knows no more of the APIs than the clients of the tests use.
//
//	s := standin.New(standin.Options{OpenAIKey: "sk-test", Think: func(t standin.Turn) standin.Reply {
//		return standin.Reply{Text: "Hello."}
//	}})
//	go http.ServeTLS(listener, s, "tls.crt", "tls.key")
//
// Each file is one API: it registers its paths, says how it answers an error, reads a request into a Turn and writes a Reply.
package standin
