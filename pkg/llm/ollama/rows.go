package ollama

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// The surfaces.
const (
	ChatSurface       llm.Surface = "ollama.chat"
	GenerateSurface   llm.Surface = "ollama.generate"
	EmbedSurface      llm.Surface = "ollama.embed"
	EmbeddingsSurface llm.Surface = "ollama.embeddings"
	ShowSurface       llm.Surface = "ollama.show"
	TagsSurface       llm.Surface = "ollama.tags"
	RunningSurface    llm.Surface = "ollama.ps"
	VersionSurface    llm.Surface = "ollama.version"
	PullSurface       llm.Surface = "ollama.pull"
	PushSurface       llm.Surface = "ollama.push"
	CreateSurface     llm.Surface = "ollama.create"
	CopySurface       llm.Surface = "ollama.copy"
	DeleteSurface     llm.Surface = "ollama.delete"
	BlobsSurface      llm.Surface = "ollama.blobs"
	WebSearchSurface  llm.Surface = "ollama.web_search"
	WebFetchSurface   llm.Surface = "ollama.web_fetch"
)

// Rows are the surfaces of Ollama's API, and of OpenAI's and Anthropic's that the same server speaks.
var Rows = append([]llm.Row{
	row(ChatSurface, llm.ClassModel, llm.OperationChat, http.MethodPost, "/api/chat", Chat, llm.FramingNDJSON),
	row(GenerateSurface, llm.ClassModel, llm.OperationTextCompletion, http.MethodPost, "/api/generate", Generate, llm.FramingNDJSON),
	row(EmbedSurface, llm.ClassModel, llm.OperationEmbeddings, http.MethodPost, "/api/embed", Embed),
	row(EmbeddingsSurface, llm.ClassModel, llm.OperationEmbeddings, http.MethodPost, "/api/embeddings", Embeddings),

	row(ShowSurface, llm.ClassAuxiliary, llm.OperationRetrieve, http.MethodPost, "/api/show", Show),
	without(TagsSurface, llm.ClassAuxiliary, llm.OperationList, http.MethodGet, "/api/tags"),
	without(RunningSurface, llm.ClassAuxiliary, llm.OperationList, http.MethodGet, "/api/ps"),
	without(VersionSurface, llm.ClassAuxiliary, llm.OperationRetrieve, http.MethodGet, "/api/version"),
	without(VersionSurface, llm.ClassAuxiliary, llm.OperationRetrieve, http.MethodHead, "/"),
	without(VersionSurface, llm.ClassAuxiliary, llm.OperationRetrieve, http.MethodGet, "/"),

	row(PullSurface, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/api/pull", store(PullSurface, llm.OperationStore, true), llm.FramingNDJSON),
	row(PushSurface, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/api/push", store(PushSurface, llm.OperationStore, true), llm.FramingNDJSON),
	row(CreateSurface, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/api/create", store(CreateSurface, llm.OperationStore, true), llm.FramingNDJSON),
	row(CopySurface, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/api/copy", store(CopySurface, llm.OperationStore, false)),
	row(DeleteSurface, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, "/api/delete", store(DeleteSurface, llm.OperationDelete, false)),
	row(BlobsSurface, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/api/blobs/{digest}", blob),
	without(BlobsSurface, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodHead, "/api/blobs/{digest}"),

	row(WebSearchSurface, llm.ClassTool, llm.OperationExecuteTool, http.MethodPost, "/api/web_search", web(WebSearchSurface, searchFields, "query", llm.ServerToolWebSearch)),
	row(WebFetchSurface, llm.ClassTool, llm.OperationExecuteTool, http.MethodPost, "/api/web_fetch", web(WebFetchSurface, fetchFields, "url", llm.ServerToolWebFetch)),
}, compatible()...)

// Dialect answers where no row matches.
var Dialect = llm.Row{Watch: Watch, Refuse: Refuse}

func row(surface llm.Surface, class llm.Class, operation llm.Operation, method, path string, decode func(*llm.Request, llm.Limits) *llm.Call, streams ...llm.Framing) llm.Row {
	return llm.Row{Surface: surface, Class: class, Operation: operation, Method: method, Path: path, Streams: streams, Decode: decode, Watch: Watch, Refuse: Refuse}
}

// without is a row whose requests have no body.
func without(surface llm.Surface, class llm.Class, operation llm.Operation, method, path string) llm.Row {
	return row(surface, class, operation, method, path, get(surface, class, operation))
}

// compatible are the surfaces of other APIs that the same server has. Of Anthropic's it has the messages alone.
func compatible() []llm.Row {
	rows := append([]llm.Row(nil), openai.Rows...)
	for _, row := range anthropic.Rows {
		if row.Path == "/v1/messages" && row.Method == http.MethodPost {
			rows = append(rows, row)
		}
	}
	return rows
}
