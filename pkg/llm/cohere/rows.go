package cohere

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// The surfaces.
const (
	ChatV2Surface          llm.Surface = "cohere.chat"
	ChatV1Surface          llm.Surface = "cohere.chat_v1"
	EmbedV2Surface         llm.Surface = "cohere.embed"
	EmbedV1Surface         llm.Surface = "cohere.embed_v1"
	RerankV2Surface        llm.Surface = "cohere.rerank"
	RerankV1Surface        llm.Surface = "cohere.rerank_v1"
	GenerateSurface        llm.Surface = "cohere.generate"
	ClassifySurface        llm.Surface = "cohere.classify"
	SummarizeSurface       llm.Surface = "cohere.summarize"
	TokenizeSurface        llm.Surface = "cohere.tokenize"
	DetokenizeSurface      llm.Surface = "cohere.detokenize"
	ModelsSurface          llm.Surface = "cohere.models"
	CheckKeySurface        llm.Surface = "cohere.check_api_key"
	DatasetsSurface        llm.Surface = "cohere.datasets"
	EmbedJobsSurface       llm.Surface = "cohere.embed_jobs"
	ConnectorsSurface      llm.Surface = "cohere.connectors"
	FinetuningSurface      llm.Surface = "cohere.finetuning"
	ChatCompletionsSurface llm.Surface = "cohere.chat_completions"
)

// modelsQuery are the parameters of the list of models.
var modelsQuery = []string{"default_only", "endpoint", "page_size", "page_token"}

// Rows are the surfaces of Cohere's API.
var Rows = append([]llm.Row{
	{
		Surface: ChatV2Surface, Class: llm.ClassModel, Operation: llm.OperationChat,
		Method: http.MethodPost, Path: "/v2/chat", Streams: []llm.Framing{llm.FramingSSE},
		Decode: ChatV2, Watch: Watch, Refuse: Refuse,
	},
	{
		Surface: ChatV1Surface, Class: llm.ClassModel, Operation: llm.OperationChat,
		Method: http.MethodPost, Path: "/v1/chat", Streams: []llm.Framing{llm.FramingNDJSON, llm.FramingSSE},
		Decode: ChatV1, Watch: WatchV1, Refuse: Refuse,
	},
	{
		Surface: GenerateSurface, Class: llm.ClassModel, Operation: llm.OperationTextCompletion,
		Method: http.MethodPost, Path: "/v1/generate", Streams: []llm.Framing{llm.FramingNDJSON, llm.FramingSSE},
		Decode: Generate, Watch: WatchV1, Refuse: Refuse,
	},
	post(EmbedV2Surface, llm.ClassModel, llm.OperationEmbeddings, "/v2/embed", EmbedV2),
	post(EmbedV1Surface, llm.ClassModel, llm.OperationEmbeddings, "/v1/embed", EmbedV1),
	post(RerankV2Surface, llm.ClassModel, llm.OperationRerank, "/v2/rerank", RerankV2),
	post(RerankV1Surface, llm.ClassModel, llm.OperationRerank, "/v1/rerank", RerankV1),
	post(ClassifySurface, llm.ClassModel, llm.OperationGenerate, "/v1/classify", Classify),
	post(SummarizeSurface, llm.ClassModel, llm.OperationGenerate, "/v1/summarize", Summarize),
	post(TokenizeSurface, llm.ClassAuxiliary, llm.OperationCountTokens, "/v1/tokenize", Tokenize),
	post(DetokenizeSurface, llm.ClassAuxiliary, llm.OperationCountTokens, "/v1/detokenize", Detokenize),
	without(http.MethodPost, CheckKeySurface, llm.ClassAuxiliary, llm.OperationRetrieve, "/v1/check-api-key", nil),
	without(http.MethodGet, ModelsSurface, llm.ClassAuxiliary, llm.OperationList, "/v1/models", modelsQuery),
	without(http.MethodGet, ModelsSurface, llm.ClassAuxiliary, llm.OperationRetrieve, "/v1/models/{model}", nil),

	post(DatasetsSurface, llm.ClassDeadDrop, llm.OperationStore, "/v1/datasets", uploadDataset, datasetQuery...),
	without(http.MethodGet, DatasetsSurface, llm.ClassDeadDrop, llm.OperationList, "/v1/datasets", []string{"after", "before", "datasetType", "limit", "offset", "validationStatus"}),
	without(http.MethodGet, DatasetsSurface, llm.ClassDeadDrop, llm.OperationRetrieve, "/v1/datasets/{id}", nil),
	without(http.MethodDelete, DatasetsSurface, llm.ClassDeadDrop, llm.OperationDelete, "/v1/datasets/{id}", nil),
	post(EmbedJobsSurface, llm.ClassDeadDrop, llm.OperationStore, "/v1/embed-jobs", stored(EmbedJobsSurface)),
	post(EmbedJobsSurface, llm.ClassDeadDrop, llm.OperationStore, "/v1/embed-jobs/{id}/cancel", stored(EmbedJobsSurface)),
	without(http.MethodGet, EmbedJobsSurface, llm.ClassDeadDrop, llm.OperationList, "/v1/embed-jobs", nil),
	without(http.MethodGet, EmbedJobsSurface, llm.ClassDeadDrop, llm.OperationRetrieve, "/v1/embed-jobs/{id}", nil),
	post(ConnectorsSurface, llm.ClassDeadDrop, llm.OperationStore, "/v1/connectors", stored(ConnectorsSurface)),
	without(http.MethodGet, ConnectorsSurface, llm.ClassDeadDrop, llm.OperationList, "/v1/connectors", []string{"limit", "offset"}),
	without(http.MethodGet, ConnectorsSurface, llm.ClassDeadDrop, llm.OperationRetrieve, "/v1/connectors/{id}", nil),
	without(http.MethodDelete, ConnectorsSurface, llm.ClassDeadDrop, llm.OperationDelete, "/v1/connectors/{id}", nil),
	post(FinetuningSurface, llm.ClassDeadDrop, llm.OperationStore, "/v1/finetuning/finetuned-models", stored(FinetuningSurface)),
	without(http.MethodGet, FinetuningSurface, llm.ClassDeadDrop, llm.OperationList, "/v1/finetuning/finetuned-models", []string{"order_by", "page_size", "page_token"}),
	without(http.MethodGet, FinetuningSurface, llm.ClassDeadDrop, llm.OperationRetrieve, "/v1/finetuning/finetuned-models/{id}", nil),
	without(http.MethodDelete, FinetuningSurface, llm.ClassDeadDrop, llm.OperationDelete, "/v1/finetuning/finetuned-models/{id}", nil),
}, compatible()...)

// Dialect answers where no row matches.
var Dialect = llm.Row{Watch: Watch, Refuse: Refuse}

func post(surface llm.Surface, class llm.Class, operation llm.Operation, path string, decode func(*llm.Request, llm.Limits) *llm.Call, query ...string) llm.Row {
	return llm.Row{Surface: surface, Class: class, Operation: operation, Method: http.MethodPost, Path: path, Query: query, Decode: decode, Watch: WatchV1, Refuse: Refuse}
}

// without is a row whose requests have no body.
func without(method string, surface llm.Surface, class llm.Class, operation llm.Operation, path string, query []string) llm.Row {
	return llm.Row{Surface: surface, Class: class, Operation: operation, Method: method, Path: path, Query: query, Decode: get(surface, class, operation, query), Watch: WatchV1, Refuse: Refuse}
}

// compatible are the surfaces that are OpenAI's below a path of their own.
func compatible() []llm.Row {
	var rows []llm.Row
	for _, row := range openai.Rows {
		if row.Path != "/v1/chat/completions" || row.Method != http.MethodPost {
			continue
		}
		decode := row.Decode
		row.Surface, row.Path = ChatCompletionsSurface, "/compatibility"+row.Path
		row.Decode = func(req *llm.Request, lim llm.Limits) *llm.Call {
			call := decode(req, lim)
			call.Provider, call.Surface = Provider, ChatCompletionsSurface
			return call
		}
		rows = append(rows, row)
	}
	return rows
}
