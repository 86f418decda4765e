package surface

import (
	"sallyport.dev/sallyport/pkg/llm/a2a"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
	"sallyport.dev/sallyport/pkg/llm/bedrock"
	"sallyport.dev/sallyport/pkg/llm/cohere"
	"sallyport.dev/sallyport/pkg/llm/google"
	"sallyport.dev/sallyport/pkg/llm/mcp"
	"sallyport.dev/sallyport/pkg/llm/ollama"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// The provider APIs that the table knows: the values of spec.api of a ModelProvider.
const (
	APIOpenAI      = "openai"       // and servers that speak its wire format: vLLM, Mistral, Groq, DeepSeek, OpenRouter
	APIAzureOpenAI = "azure-openai" // Azure OpenAI, by deployment and by its newer paths
	APIAnthropic   = "anthropic"
	APIGemini      = "gemini"    // the Gemini API
	APIVertexAI    = "vertex-ai" // Google's and Anthropic's models at Vertex AI
	APIBedrock     = "bedrock"   // the runtime of Amazon Bedrock
	APICohere      = "cohere"
	APIOllama      = "ollama" // its own API, and those of others that the same server speaks
	APIMCP         = "mcp"    // a tool server, over streamable HTTP
	APIA2A         = "a2a"    // another agent, over JSON-RPC
)

// table holds the surfaces that can be read, by API.
var table = map[string]api{
	APIOpenAI:      {openai.Provider, openai.Rows, openai.Dialect},
	APIAzureOpenAI: {openai.AzureProvider, openai.AzureRows, openai.AzureDialect},
	APIAnthropic:   {anthropic.Provider, anthropic.Rows, anthropic.Dialect},
	APIGemini:      {google.Provider, google.GeminiRows, google.Dialect},
	APIVertexAI:    {google.VertexProvider, google.VertexRows, google.Dialect},
	APIBedrock:     {bedrock.Provider, bedrock.Rows, bedrock.Dialect},
	APICohere:      {cohere.Provider, cohere.Rows, cohere.Dialect},
	APIOllama:      {ollama.Provider, ollama.Rows, ollama.Dialect},
	APIMCP:         {mcp.Provider, mcp.Rows, mcp.Dialect},
	APIA2A:         {a2a.Provider, a2a.Rows, a2a.Dialect},
}
