package clients

import (
	"encoding/base64"
	"slices"

	"sallyport.dev/sallyport/e2e/standin"
)

// The scenarios.
const (
	plain    = "plain"    // a call and its answer, in gzip where the client accepts that
	streamed = "streamed" // the rest of the answer comes only after the client has seen its beginning
	tools    = "tools"    // the model calls a tool and sums up its result
	image    = "image"    // a picture goes along
	refusal  = "refusal"  // the gate refuses the call
	upstream = "error"    // the provider answers that the request is wrong
	busy     = "busy"     // the provider answers the first attempt with 429 and Retry-After, and the next one as it should
	broken   = "broken"   // the provider answers each attempt with 500
	abort    = "abort"    // the client leaves in the middle of a stream
)

var (
	conversation = []string{plain, streamed, tools, image, refusal, upstream, abort}
	unstreamed   = []string{plain, tools, image, refusal, upstream}
	failing      = []string{busy, broken}
	onlyStreamed = []string{streamed, refusal, abort}
	once         = []string{plain, refusal, upstream}
	never        = []string{refusal} // a surface that the policy does not allow
)

// offered is a surface that a client drives.
type offered struct {
	api       string // as a ModelProvider has it
	surface   string
	model     string
	scenarios []string
}

// client is a client of the matrix.
type client struct {
	name string
	// runtime says which program drives it.
	runtime runtime
	// from is the package or module that it is, for its version.
	from     string
	surfaces []offered
	// baseURL has the variables by which the client finds the gate on the explicit way instead of by HTTPS_PROXY.
	baseURL []string
	// captureOnly says why the client does not run on the explicit way.
	captureOnly string
}

type runtime string

const (
	inGo     runtime = "go"
	inNode   runtime = "node"
	inPython runtime = "python"
	inCurl   runtime = "curl"
)

// Models that the policy allows, and the one that it does not.
const (
	gpt       = "gpt-4o-mini"
	sonnet    = "claude-sonnet-4-5"
	flash     = "gemini-2.5-flash"
	bedrocked = "anthropic.claude-sonnet-4-5-20250929-v1:0"
	embedding = "text-embedding-3-small"
	command   = "command-a-03-2025"
	gptOSS    = "gpt-oss:20b"
	forbidden = "model-of-nobody"
)

// retried are scenarios of a surface that stands for its API in those that show how a client tries again.
func retried(scenarios []string) []string { return slices.Concat(scenarios, failing) }

func openAIChat() offered {
	return offered{"openai", "openai.chat_completions", gpt, retried(conversation)}
}
func openAIResponses() offered {
	return offered{"openai", "openai.responses", gpt, conversation}
}
func openAIEmbeddings() offered { return offered{"openai", "openai.embeddings", embedding, once} }
func messages() offered {
	return offered{"anthropic", "anthropic.messages", sonnet, retried(conversation)}
}
func countTokens() offered { return offered{"anthropic", "anthropic.count_tokens", sonnet, once} }
func batches() offered     { return offered{"anthropic", "anthropic.batches", sonnet, never} }

// azure are the surfaces of Azure OpenAI, whose deployments have the names of models here.
func azure() []offered {
	return []offered{{"azure-openai", "openai.chat_completions", gpt, retried(conversation)}, {"azure-openai", "openai.embeddings", embedding, once}}
}

func openAIOther() []offered {
	return []offered{
		openAIChat(), openAIResponses(), openAIEmbeddings(),
		{"openai", "openai.completions", gpt, once},
		{"openai", "openai.moderations", "omni-moderation-latest", once},
		{"openai", "openai.images.generations", "gpt-image-1", once},
		{"openai", "openai.audio.speech", "gpt-4o-mini-tts", once},
		{"openai", "openai.audio.transcriptions", "whisper-1", once},
		{"openai", "openai.files", "", never},
	}
}

func gemini() []offered {
	return []offered{
		{"gemini", "gemini.generate_content", flash, retried(unstreamed)},
		{"gemini", "gemini.stream_generate_content", flash, onlyStreamed},
		{"gemini", "gemini.count_tokens", flash, once},
		{"gemini", "gemini.embed_content", "gemini-embedding-001", once},
	}
}

func vertex() []offered {
	return []offered{
		{"vertex-ai", "vertex_ai.generate_content", flash, retried(unstreamed)},
		{"vertex-ai", "vertex_ai.stream_generate_content", flash, onlyStreamed},
		{"vertex-ai", "vertex_ai.count_tokens", flash, once},
	}
}

func bedrock() []offered {
	return []offered{
		{"bedrock", "bedrock.converse", bedrocked, retried(unstreamed)},
		{"bedrock", "bedrock.converse_stream", bedrocked, onlyStreamed},
		{"bedrock", "bedrock.invoke_model", bedrocked, once},
		{"bedrock", "bedrock.invoke_model_stream", bedrocked, onlyStreamed},
	}
}

// clients are the clients of the matrix.
var clients = []client{
	{name: "openai-go", runtime: inGo, from: "github.com/openai/openai-go/v3", surfaces: openAIOther()},
	{name: "azure-openai-go", runtime: inGo, from: "github.com/openai/openai-go/v3", surfaces: azure()},
	{name: "go-openai", runtime: inGo, from: "github.com/sashabaranov/go-openai", surfaces: []offered{openAIChat(), openAIEmbeddings()}},
	{name: "anthropic-sdk-go", runtime: inGo, from: "github.com/anthropics/anthropic-sdk-go", surfaces: []offered{messages(), countTokens(), batches()}},
	{name: "google-genai-go", runtime: inGo, from: "google.golang.org/genai", surfaces: gemini()},
	{name: "google-genai-go-vertex", runtime: inGo, from: "google.golang.org/genai", surfaces: vertex()},
	{name: "aws-sdk-go-bedrockruntime", runtime: inGo, from: "github.com/aws/aws-sdk-go-v2/service/bedrockruntime", surfaces: bedrock()},

	// No streams: a base URL is HTTP/1.1, and there net/http's writer may close the connection when the answer begins before it has looked for the end of
	// the request's body, which this SDK takes away at that moment. It is so with any server that answers fast.
	{name: "aws-sdk-go-base-url", runtime: inGo, from: "github.com/aws/aws-sdk-go-v2/service/bedrockruntime", surfaces: []offered{{"bedrock", "bedrock.converse", bedrocked, retried(unstreamed)}, {"bedrock", "bedrock.invoke_model", bedrocked, once}}, baseURL: []string{"AWS_ENDPOINT_URL_BEDROCK_RUNTIME=http://127.0.0.1:15002/bedrock"}},

	{name: "openai-node", runtime: inNode, from: "openai", surfaces: openAIOther()},
	{name: "openai-node-websocket", runtime: inNode, from: "openai", surfaces: []offered{{"openai", "openai.realtime", "gpt-realtime", []string{plain, refusal}}, {"openai", "openai.responses.websocket", "gpt-4o", []string{plain, refusal}}},
		captureOnly: "the library under its WebSockets knows of no proxy, and it asks for wss:// whatever its base URL is"},
	{name: "azure-openai-node", runtime: inNode, from: "openai", surfaces: azure()},
	{name: "openai-node-base-url", runtime: inNode, from: "openai", surfaces: []offered{openAIChat()}, baseURL: []string{"OPENAI_BASE_URL=http://127.0.0.1:15002/openai/v1"}},
	{name: "anthropic-sdk-node", runtime: inNode, from: "@anthropic-ai/sdk", surfaces: []offered{messages(), countTokens(), batches(), {"anthropic", "anthropic.files", "", never}}},
	{name: "anthropic-sdk-node-base-url", runtime: inNode, from: "@anthropic-ai/sdk", surfaces: []offered{messages()}, baseURL: []string{"ANTHROPIC_BASE_URL=http://127.0.0.1:15002/anthropic"}},
	{name: "google-genai-node", runtime: inNode, from: "@google/genai", surfaces: gemini()},
	{name: "google-genai-node-vertex", runtime: inNode, from: "@google/genai", surfaces: vertex()},
	{name: "google-genai-node-live", runtime: inNode, from: "@google/genai", surfaces: []offered{{"gemini", "gemini.live", "gemini-live-2.5-flash-preview", []string{plain, refusal}}},
		captureOnly: "the library under its WebSockets knows of no proxy"},
	{name: "aws-sdk-js-bedrockruntime", runtime: inNode, from: "@aws-sdk/client-bedrock-runtime", surfaces: bedrock(),
		baseURL: []string{"AWS_ENDPOINT_URL_BEDROCK_RUNTIME=http://127.0.0.1:15002/bedrock"}},
	{name: "vercel-ai", runtime: inNode, from: "ai", surfaces: []offered{openAIChat(), openAIResponses(), openAIEmbeddings(), messages(),
		{"gemini", "gemini.generate_content", flash, unstreamed}, {"gemini", "gemini.stream_generate_content", flash, onlyStreamed}}},
	{name: "langchain-openai", runtime: inNode, from: "@langchain/openai", surfaces: []offered{openAIChat(), openAIResponses(), openAIEmbeddings()}},
	{name: "langchain-anthropic", runtime: inNode, from: "@langchain/anthropic", surfaces: []offered{messages()}},
	{name: "cohere-node", runtime: inNode, from: "cohere-ai", surfaces: []offered{{"cohere", "cohere.chat", command, retried(conversation)}, {"cohere", "cohere.embed", "embed-v4.0", once}, {"cohere", "cohere.rerank", "rerank-v3.5", once}}},
	{name: "ollama-node", runtime: inNode, from: "ollama", surfaces: []offered{{"ollama", "ollama.chat", gptOSS, retried(conversation)}, {"ollama", "ollama.generate", gptOSS, once}, {"ollama", "ollama.embed", "embeddinggemma", once}}},
	{name: "mcp-sdk-node", runtime: inNode, from: "@modelcontextprotocol/sdk", surfaces: []offered{{"mcp", "mcp.message", "lookup", []string{plain, refusal}}}},
	{name: "a2a-sdk-node", runtime: inNode, from: "@a2a-js/sdk", surfaces: []offered{{"a2a", "a2a.rpc", "", []string{plain, streamed, refusal, upstream, busy, broken, abort}}}},

	{name: "python-requests", runtime: inPython, from: "python3-requests", surfaces: []offered{openAIChat(), messages()}},
	{name: "python-httpx", runtime: inPython, from: "python3-httpx", surfaces: []offered{openAIChat(), messages()}},
	{name: "python-aiohttp", runtime: inPython, from: "python3-aiohttp", surfaces: []offered{openAIChat(), messages()}},
	{name: "python-urllib", runtime: inPython, from: "python3-minimal", surfaces: []offered{openAIChat(), messages()}},

	{name: "curl-h1", runtime: inCurl, from: "curl", surfaces: []offered{openAIChat(), messages()}},
	{name: "curl-h2", runtime: inCurl, from: "curl", surfaces: []offered{openAIChat(), messages()}},
	{name: "curl-gzip", runtime: inCurl, from: "curl", surfaces: []offered{openAIChat(), messages()}},
	{name: "curl-zstd", runtime: inCurl, from: "curl", surfaces: []offered{openAIChat(), messages()}},
}

// job is what a driver is asked for, and what its answer repeats.
type job struct {
	Client   string `json:"client"`
	Surface  string `json:"surface"`
	Scenario string `json:"scenario"`
	Model    string `json:"model"`
	Prompt   string `json:"prompt"`
	Image    string `json:"image,omitempty"` // PNG in base64

	api string
}

// jobs are all that a client is asked for, in order.
func (c client) jobs() []job {
	var out []job
	for _, o := range c.surfaces {
		for _, s := range o.scenarios {
			j := job{Client: c.name, Surface: o.surface, Scenario: s, Model: o.model, Prompt: "What does the return policy say?", api: o.api}
			if s == refusal && !slices.Equal(o.scenarios, never) {
				j.Model = forbidden
			}
			if s == image {
				j.Image = base64.StdEncoding.EncodeToString(standin.Picture)
			}
			out = append(out, j)
		}
	}
	return out
}
