// Package standin is a stand-in for model providers, for tests, benchmarks and the demo.
//
// It speaks OpenAI chat completions and Anthropic messages, plain and streamed, with tool calls, usage, credential checks and
// delays that a request can set, and keeps what it received so that a test can compare it with what was sent. Its
// "model" is a deterministic script: see brain.go. It is no part of what Sallyport ships.
package standin
