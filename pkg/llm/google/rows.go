package google

import (
	"net/http"
	"slices"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/anthropic"
)

// The gen_ai.provider.name of the calls.
const (
	Provider       = "gcp.gemini"
	VertexProvider = "gcp.vertex_ai"
)

// The surfaces of the Gemini API.
const (
	GenerateContent       llm.Surface = "gemini.generate_content"
	StreamGenerateContent llm.Surface = "gemini.stream_generate_content"
	CountTokens           llm.Surface = "gemini.count_tokens"
	EmbedContent          llm.Surface = "gemini.embed_content"
	Predict               llm.Surface = "gemini.predict"
	PredictLongRunning    llm.Surface = "gemini.predict_long_running"
	Live                  llm.Surface = "gemini.live"
	Models                llm.Surface = "gemini.models"
	Files                 llm.Surface = "gemini.files"
	CachedContents        llm.Surface = "gemini.cached_contents"
	TunedModels           llm.Surface = "gemini.tuned_models"
	Batches               llm.Surface = "gemini.batches"
	FileSearchStores      llm.Surface = "gemini.file_search_stores"
	Operations            llm.Surface = "gemini.operations"
)

// The surfaces of Vertex AI.
const (
	VertexGenerateContent       llm.Surface = "vertex_ai.generate_content"
	VertexStreamGenerateContent llm.Surface = "vertex_ai.stream_generate_content"
	VertexCountTokens           llm.Surface = "vertex_ai.count_tokens"
	VertexEmbedContent          llm.Surface = "vertex_ai.embed_content"
	VertexPredict               llm.Surface = "vertex_ai.predict"
	VertexPredictLongRunning    llm.Surface = "vertex_ai.predict_long_running"
	VertexLive                  llm.Surface = "vertex_ai.live"
	VertexModels                llm.Surface = "vertex_ai.models"
	VertexCachedContents        llm.Surface = "vertex_ai.cached_contents"
	VertexTuningJobs            llm.Surface = "vertex_ai.tuning_jobs"
	VertexBatches               llm.Surface = "vertex_ai.batch_prediction_jobs"
	VertexOperations            llm.Surface = "vertex_ai.operations"
	// VertexMessages is rawPredict and streamRawPredict of Anthropic's models.
	VertexMessages            llm.Surface = "vertex_ai.anthropic_messages"
	VertexMessagesCountTokens llm.Surface = "vertex_ai.anthropic_count_tokens"
)

// Dialect answers where no row matches, of both APIs.
var Dialect = llm.Row{Watch: Watch, Refuse: Refuse, RefuseMessage: RefuseMessage}

// key is the caller's credential, where it is in the query.
var (
	plainQuery = []string{"$alt", "alt", "key"}
	pageQuery  = []string{"$alt", "alt", "filter", "key", "pageSize", "pageToken", "queryBase"}
	// uploadQuery is that of the requests that have a file's bytes, which the answer to the first one gives.
	uploadQuery = []string{"$alt", "alt", "key", "uploadType", "upload_id", "upload_protocol"}
	patchQuery  = []string{"$alt", "alt", "key", "updateMask", "update_mask"}
	deleteQuery = []string{"$alt", "alt", "force", "key"}
	tokenQuery  = []string{"$alt", "access_token", "alt", "key"}

	streamed  = []llm.Framing{llm.FramingSSE, llm.FramingJSONArray}
	webSocket = []llm.Framing{llm.FramingWebSocket}
)

// reader reads a request into a call that has what the row says.
type reader func(call *llm.Call, r *llm.Request, lim llm.Limits)

// entry is a row before the variants of its path.
type entry struct {
	surface   llm.Surface
	class     llm.Class
	operation llm.Operation
	method    string
	// path is what follows the version, or the whole path.
	path    string
	query   []string
	streams []llm.Framing
	read    reader
}

// row returns the row of an entry. The last variable of its path is the model where modelled; the name of its collection is put before it unless
// that is the one of the published models.
func (e entry) row(provider, path, collection string, modelled bool) llm.Row {
	row := llm.Row{
		Surface: e.surface, Class: e.class, Operation: e.operation, Method: e.method, Path: path, Query: e.query, Streams: e.streams,
		Watch: Watch, Refuse: Refuse,
		Decode: func(r *llm.Request, lim llm.Limits) *llm.Call {
			call := &llm.Call{Provider: provider, Surface: e.surface, Class: e.class, Operation: e.operation}
			call.Stream = slices.Equal(e.streams, streamed)
			if modelled && len(r.Vars) > 0 {
				call.Model = collection + r.Vars[len(r.Vars)-1]
			}
			e.read(call, r, lim)
			envelope(call, r, e.query)
			return call
		},
	}
	if slices.Contains(e.streams, llm.FramingWebSocket) {
		row.RefuseMessage, row.RefusalCloses = RefuseMessage, true
	}
	return row
}

// verbs are the custom methods of a model; their surfaces are those of the Gemini API, and vertexSurface has the others.
var verbs = []entry{
	{GenerateContent, llm.ClassModel, llm.OperationGenerate, http.MethodPost, ":generateContent", plainQuery, nil, generate},
	{StreamGenerateContent, llm.ClassModel, llm.OperationGenerate, http.MethodPost, ":streamGenerateContent", plainQuery, streamed, generate},
	{CountTokens, llm.ClassAuxiliary, llm.OperationCountTokens, http.MethodPost, ":countTokens", plainQuery, nil, count},
	{EmbedContent, llm.ClassModel, llm.OperationEmbeddings, http.MethodPost, ":embedContent", plainQuery, nil, embed},
	{EmbedContent, llm.ClassModel, llm.OperationEmbeddings, http.MethodPost, ":batchEmbedContents", plainQuery, nil, embedBatch},
	{Predict, llm.ClassModel, llm.OperationGenerate, http.MethodPost, ":predict", plainQuery, nil, predict},
	{PredictLongRunning, llm.ClassModel, llm.OperationGenerate, http.MethodPost, ":predictLongRunning", plainQuery, nil, predict},
}

var vertexSurface = map[llm.Surface]llm.Surface{
	GenerateContent: VertexGenerateContent, StreamGenerateContent: VertexStreamGenerateContent, CountTokens: VertexCountTokens, EmbedContent: VertexEmbedContent,
	Predict: VertexPredict, PredictLongRunning: VertexPredictLongRunning,
}

// geminiOthers are the surfaces of the Gemini API beside the custom methods of its models. A path with a literal comes before one with a variable in its place.
var geminiOthers = []entry{
	{Batches, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/models/{model}:batchGenerateContent", plainQuery, nil, batch},
	{Batches, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/models/{model}:asyncBatchEmbedContent", plainQuery, nil, batch},
	{Batches, llm.ClassDeadDrop, llm.OperationDelete, http.MethodPost, "/batches/{id}:cancel", plainQuery, nil, stored()},
	{Batches, llm.ClassDeadDrop, llm.OperationDelete, http.MethodPost, "/batches/{id}:delete", plainQuery, nil, stored()},
	{Batches, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, "/batches", pageQuery, nil, bodiless},
	{Batches, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/batches/{id}", plainQuery, nil, bodiless},
	{Batches, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, "/batches/{id}", plainQuery, nil, bodiless},

	{Models, llm.ClassAuxiliary, llm.OperationList, http.MethodGet, "/models", pageQuery, nil, bodiless},
	{Models, llm.ClassAuxiliary, llm.OperationRetrieve, http.MethodGet, "/models/{model}", plainQuery, nil, bodiless},
	{Operations, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/models/{model}/operations/{id}", plainQuery, nil, bodiless},
	{Operations, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/operations/{id}", plainQuery, nil, bodiless},

	{Files, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/files", plainQuery, nil, describeFile},
	{Files, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/files:register", plainQuery, nil, stored("uris")},
	{Files, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/files/{id}:download", plainQuery, nil, bodiless},
	{Files, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, "/files", pageQuery, nil, bodiless},
	{Files, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/files/{id}", plainQuery, nil, bodiless},
	{Files, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, "/files/{id}", plainQuery, nil, bodiless},

	{CachedContents, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/cachedContents", plainQuery, nil, cache},
	{CachedContents, llm.ClassDeadDrop, llm.OperationStore, http.MethodPatch, "/cachedContents/{id}", patchQuery, nil, cache},
	{CachedContents, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, "/cachedContents", pageQuery, nil, bodiless},
	{CachedContents, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/cachedContents/{id}", plainQuery, nil, bodiless},
	{CachedContents, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, "/cachedContents/{id}", plainQuery, nil, bodiless},

	{TunedModels, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/tunedModels", []string{"$alt", "alt", "key", "tunedModelId"}, nil, tune},
	{TunedModels, llm.ClassDeadDrop, llm.OperationStore, http.MethodPatch, "/tunedModels/{id}", patchQuery, nil, tune},
	{TunedModels, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, "/tunedModels", pageQuery, nil, bodiless},
	{TunedModels, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/tunedModels/{id}", plainQuery, nil, bodiless},
	{TunedModels, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/tunedModels/{id}/operations/{operation}", plainQuery, nil, bodiless},
	{TunedModels, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, "/tunedModels/{id}", plainQuery, nil, bodiless},

	{FileSearchStores, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/fileSearchStores", plainQuery, nil, stored("displayName", "embeddingModel")},
	{FileSearchStores, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/fileSearchStores/{id}:importFile", plainQuery, nil, stored("chunkingConfig", "customMetadata", "fileName")},
	{FileSearchStores, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, "/fileSearchStores", pageQuery, nil, bodiless},
	{FileSearchStores, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/fileSearchStores/{id}", plainQuery, nil, bodiless},
	{FileSearchStores, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, "/fileSearchStores/{id}", deleteQuery, nil, bodiless},
	{FileSearchStores, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, "/fileSearchStores/{id}/documents", pageQuery, nil, bodiless},
	{FileSearchStores, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/fileSearchStores/{id}/documents/{document}", plainQuery, nil, bodiless},
	{FileSearchStores, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, "/fileSearchStores/{id}/documents/{document}", deleteQuery, nil, bodiless},
	{FileSearchStores, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/fileSearchStores/{id}/operations/{operation}", plainQuery, nil, bodiless},
	{FileSearchStores, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/fileSearchStores/{id}/upload/operations/{operation}", plainQuery, nil, bodiless},
}

// geminiUploads are surfaces whose paths begin with "/upload" and the version.
var geminiUploads = []entry{
	{Files, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/files", uploadQuery, nil, upload},
	{FileSearchStores, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/fileSearchStores/{id}:uploadToFileSearchStore", uploadQuery, nil, upload},
}

var tune = stored("baseModel", "description", "displayName", "name", "readerProjectNumbers", "temperature", "topK", "topP", "tunedModelSource", "tuningTask")

var geminiVersions = []string{"v1beta", "v1", "v1alpha"}

// liveBases are where sessions over WebSocket are. The second is how Google's library for JavaScript writes the first.
var liveBases = []string{"/ws/", "//ws/"}

// GeminiRows are the surfaces of the Gemini API, generativelanguage.googleapis.com.
var GeminiRows = func() []llm.Row {
	var rows []llm.Row
	for _, version := range geminiVersions {
		base := "/" + version
		for _, v := range verbs {
			rows = append(rows, v.row(Provider, base+"/models/{model}"+v.path, "", true), v.row(Provider, base+"/tunedModels/{model}"+v.path, "tunedModels/", true))
		}
		for _, e := range geminiOthers {
			modelled := e.surface == Batches && e.operation == llm.OperationStore || e.surface == Models && e.operation == llm.OperationRetrieve
			rows = append(rows, e.row(Provider, base+e.path, "", modelled))
		}
		for _, e := range geminiUploads {
			rows = append(rows, e.row(Provider, "/upload"+base+e.path, "", false))
		}
		for _, method := range []string{"BidiGenerateContent", "BidiGenerateContentConstrained"} {
			e := entry{Live, llm.ClassModel, llm.OperationRealtime, http.MethodGet, "", tokenQuery, webSocket, live}
			for _, base := range liveBases {
				rows = append(rows, e.row(Provider, base+"google.ai.generativelanguage."+version+".GenerativeService."+method, "", false))
			}
		}
		rows = append(rows, compatible(Provider, base+"/openai")...)
	}
	return rows
}()

// vertexVerbs are the custom methods that models have on Vertex AI only.
var vertexVerbs = []entry{
	{VertexCountTokens, llm.ClassAuxiliary, llm.OperationCountTokens, http.MethodPost, ":computeTokens", plainQuery, nil, count},
	{VertexOperations, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodPost, ":fetchPredictOperation", plainQuery, nil, stored("operationName")},
}

var (
	batchJob = stored("dedicatedEndpoint", "displayName", "encryptionSpec", "generateExplanation", "inputConfig", "instanceConfig", "labels", "manualBatchTuningParameters", "model",
		"modelParameters", "modelVersionId", "name", "outputConfig", "serviceAccount")
	tuningJob = stored("baseModel", "customBaseModel", "description", "distillationSpec", "encryptionSpec", "labels", "name", "outputUri", "preTunedModel",
		"preferenceOptimizationSpec", "reinforcementTuningSpec", "serviceAccount", "supervisedTuningSpec", "tunedModelDisplayName", "veoTuningSpec")
)

// vertexOthers are the surfaces of Vertex AI below a project and location.
var vertexOthers = []entry{
	{VertexCachedContents, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/cachedContents", plainQuery, nil, cache},
	{VertexCachedContents, llm.ClassDeadDrop, llm.OperationStore, http.MethodPatch, "/cachedContents/{id}", patchQuery, nil, cache},
	{VertexCachedContents, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, "/cachedContents", pageQuery, nil, bodiless},
	{VertexCachedContents, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/cachedContents/{id}", plainQuery, nil, bodiless},
	{VertexCachedContents, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, "/cachedContents/{id}", plainQuery, nil, bodiless},
	{VertexBatches, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/batchPredictionJobs", plainQuery, nil, batchJob},
	{VertexBatches, llm.ClassDeadDrop, llm.OperationDelete, http.MethodPost, "/batchPredictionJobs/{id}:cancel", plainQuery, nil, stored()},
	{VertexBatches, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, "/batchPredictionJobs", pageQuery, nil, bodiless},
	{VertexBatches, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/batchPredictionJobs/{id}", plainQuery, nil, bodiless},
	{VertexBatches, llm.ClassDeadDrop, llm.OperationDelete, http.MethodDelete, "/batchPredictionJobs/{id}", plainQuery, nil, bodiless},
	{VertexTuningJobs, llm.ClassDeadDrop, llm.OperationStore, http.MethodPost, "/tuningJobs", plainQuery, nil, tuningJob},
	{VertexTuningJobs, llm.ClassDeadDrop, llm.OperationDelete, http.MethodPost, "/tuningJobs/{id}:cancel", plainQuery, nil, stored()},
	{VertexTuningJobs, llm.ClassDeadDrop, llm.OperationList, http.MethodGet, "/tuningJobs", pageQuery, nil, bodiless},
	{VertexTuningJobs, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/tuningJobs/{id}", plainQuery, nil, bodiless},
	{VertexModels, llm.ClassAuxiliary, llm.OperationList, http.MethodGet, "/models", pageQuery, nil, bodiless},
	{VertexModels, llm.ClassAuxiliary, llm.OperationRetrieve, http.MethodGet, "/models/{id}", plainQuery, nil, bodiless},
	{VertexOperations, llm.ClassDeadDrop, llm.OperationRetrieve, http.MethodGet, "/operations/{id}", plainQuery, nil, bodiless},
}

// VertexRows are the surfaces of Vertex AI, aiplatform.googleapis.com and its regions.
var VertexRows = func() []llm.Row {
	var rows []llm.Row
	for _, version := range []string{"v1", "v1beta1"} {
		base := "/" + version
		project := base + "/projects/{project}/locations/{location}"
		rows = append(rows,
			hosted(project, "count-tokens:rawPredict", VertexMessagesCountTokens, llm.ClassAuxiliary, llm.OperationCountTokens, nil),
			hosted(project, "{model}:rawPredict", VertexMessages, llm.ClassModel, llm.OperationChat, nil),
			hosted(project, "{model}:streamRawPredict", VertexMessages, llm.ClassModel, llm.OperationChat, []llm.Framing{llm.FramingSSE}))
		all := slices.Clone(vertexVerbs)
		for _, v := range verbs {
			v.surface = vertexSurface[v.surface]
			all = append(all, v)
		}
		for _, v := range all {
			rows = append(rows,
				v.row(VertexProvider, project+"/publishers/google/models/{model}"+v.path, "", true),
				v.row(VertexProvider, project+"/endpoints/{endpoint}"+v.path, "endpoints/", true),
				v.row(VertexProvider, base+"/publishers/google/models/{model}"+v.path, "", true)) // the express mode, by key
		}
		for _, e := range vertexOthers {
			rows = append(rows, e.row(VertexProvider, project+e.path, "", false))
		}
		rows = append(rows, compatible(VertexProvider, project+"/endpoints/openapi")...)
		published := entry{VertexModels, llm.ClassAuxiliary, llm.OperationList, http.MethodGet, "", pageQuery, nil, bodiless}
		one := entry{VertexModels, llm.ClassAuxiliary, llm.OperationRetrieve, http.MethodGet, "", plainQuery, nil, bodiless}
		rows = append(rows,
			published.row(VertexProvider, base+"/publishers/google/models", "", false),
			one.row(VertexProvider, base+"/publishers/google/models/{model}", "", true))
		session := entry{VertexLive, llm.ClassModel, llm.OperationRealtime, http.MethodGet, "", tokenQuery, webSocket, live}
		for _, base := range liveBases {
			rows = append(rows, session.row(VertexProvider, base+"google.cloud.aiplatform."+version+".LlmBidiService/BidiGenerateContent", "", false))
		}
	}
	return rows
}()

// hosted returns the row of a model of Anthropic's, whose bodies and answers are Anthropic's.
func hosted(project, model string, s llm.Surface, c llm.Class, op llm.Operation, streams []llm.Framing) llm.Row {
	return llm.Row{
		Surface: s, Class: c, Operation: op, Method: http.MethodPost, Path: project + "/publishers/anthropic/models/" + model, Query: plainQuery, Streams: streams,
		Watch: anthropic.Watch, Refuse: anthropic.Refuse,
		Decode: func(r *llm.Request, lim llm.Limits) *llm.Call {
			call := &llm.Call{Provider: VertexProvider, Surface: s, Class: c, Operation: op, Stream: streams != nil}
			if op == llm.OperationChat && len(r.Vars) > 0 {
				call.Model = r.Vars[len(r.Vars)-1]
			}
			anthropic.DecodeHosted(call, r, lim)
			envelope(call, r, plainQuery)
			return call
		},
	}
}
