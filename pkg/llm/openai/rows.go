package openai

import (
	"cmp"
	"net/http"
	"slices"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
)

// Provider is the gen_ai.provider.name of the calls to OpenAI and to servers that speak its wire format.
const Provider = "openai"

// The surfaces.
const (
	ChatCompletions     llm.Surface = "openai.chat_completions"
	ChatStored          llm.Surface = "openai.chat_completions.stored"
	Completions         llm.Surface = "openai.completions"
	Responses           llm.Surface = "openai.responses"
	ResponsesWebSocket  llm.Surface = "openai.responses.websocket"
	ResponsesCompact    llm.Surface = "openai.responses.compact"
	ResponsesCount      llm.Surface = "openai.responses.input_tokens"
	ResponsesStored     llm.Surface = "openai.responses.stored"
	Conversations       llm.Surface = "openai.conversations"
	Realtime            llm.Surface = "openai.realtime"
	RealtimeTranslation llm.Surface = "openai.realtime.translations"
	RealtimeSessions    llm.Surface = "openai.realtime.sessions"
	Embeddings          llm.Surface = "openai.embeddings"
	Moderations         llm.Surface = "openai.moderations"
	Models              llm.Surface = "openai.models"
	ImageGenerations    llm.Surface = "openai.images.generations"
	ImageEdits          llm.Surface = "openai.images.edits"
	ImageVariations     llm.Surface = "openai.images.variations"
	AudioSpeech         llm.Surface = "openai.audio.speech"
	AudioTranscriptions llm.Surface = "openai.audio.transcriptions"
	AudioTranslations   llm.Surface = "openai.audio.translations"
	Videos              llm.Surface = "openai.videos"
	Files               llm.Surface = "openai.files"
	Uploads             llm.Surface = "openai.uploads"
	Batches             llm.Surface = "openai.batches"
	VectorStores        llm.Surface = "openai.vector_stores"
	FineTuning          llm.Surface = "openai.fine_tuning"
	Containers          llm.Surface = "openai.containers"
	Assistants          llm.Surface = "openai.assistants"
	Threads             llm.Surface = "openai.threads"
)

// entry is a row of the table but for what all rows have in common and for where the API begins.
type entry struct {
	surface      llm.Surface
	class        llm.Class
	operation    llm.Operation
	method, path string // below "/v1" and what other hosts have in its place
	query        []string
	streams      []llm.Framing
	read         reader
	watch        func(llm.WatchOptions) llm.Watcher
	// refuseMessage answers a refused message of a WebSocket.
	refuseMessage func(llm.Refusal) []byte
	// deployed says that Azure OpenAI has the surface below the path of a deployment, which names the model.
	deployed bool
	// bare says that some servers have the surface without a version before it: api.deepseek.com/chat/completions, as its documentation has it.
	bare bool
}

// Shorthands for the table.
const (
	get  = http.MethodGet
	post = http.MethodPost
	del  = http.MethodDelete

	aModel     = llm.ClassModel
	aux        = llm.ClassAuxiliary
	deadDrop   = llm.ClassDeadDrop
	opStore    = llm.OperationStore
	opRetrieve = llm.OperationRetrieve
	opDelete   = llm.OperationDelete
)

var (
	sse       = []llm.Framing{llm.FramingSSE}
	webSocket = []llm.Framing{llm.FramingWebSocket}
	paging    = []string{"after", "before", "limit", "order"}
)

// asked are the surfaces that ask a model, or help to.
var asked = []entry{
	{surface: ChatCompletions, class: aModel, operation: llm.OperationChat, method: post, path: "/chat/completions", streams: sse, read: readChat, watch: Watch, deployed: true, bare: true},
	{surface: Completions, class: aModel, operation: llm.OperationTextCompletion, method: post, path: "/completions", streams: sse, read: readCompletion, watch: Watch, deployed: true},
	{surface: Responses, class: aModel, operation: llm.OperationChat, method: post, path: "/responses", streams: sse, read: readResponses, watch: WatchResponses},
	{surface: ResponsesWebSocket, class: aModel, operation: llm.OperationChat, method: get, path: "/responses", streams: webSocket, read: readResponsesSocket, watch: WatchResponses,
		refuseMessage: RefuseResponsesMessage},
	{surface: ResponsesCompact, class: aModel, operation: llm.OperationChat, method: post, path: "/responses/compact", read: readCompact, watch: WatchResponses},
	{surface: ResponsesCount, class: aux, operation: llm.OperationCountTokens, method: post, path: "/responses/input_tokens", read: readCount, watch: WatchUsage},
	{surface: Realtime, class: aModel, operation: llm.OperationRealtime, method: get, path: "/realtime", query: []string{"call_id", "deployment", "intent", "model"}, streams: webSocket,
		read: readRealtime, watch: WatchRealtime, refuseMessage: RefuseRealtimeMessage},
	{surface: RealtimeTranslation, class: aModel, operation: llm.OperationRealtime, method: get, path: "/realtime/translations", query: []string{"model"}, streams: webSocket,
		read: readRealtime, watch: WatchTranslations, refuseMessage: RefuseRealtimeMessage},
	{surface: Embeddings, class: aModel, operation: llm.OperationEmbeddings, method: post, path: "/embeddings", read: readEmbeddings, watch: WatchUsage, deployed: true},
	{surface: Moderations, class: aux, operation: llm.OperationModeration, method: post, path: "/moderations", read: readModeration, watch: WatchUsage},
	{surface: Models, class: aux, operation: llm.OperationList, method: get, path: "/models", read: wire.NoBody, watch: WatchUsage},
	{surface: Models, class: aux, operation: opRetrieve, method: get, path: "/models/{model}", read: wire.NoBody, watch: WatchUsage},
	{surface: ImageGenerations, class: aModel, operation: llm.OperationImage, method: post, path: "/images/generations", streams: sse, read: readImage, watch: WatchUsage, deployed: true},
	{surface: ImageEdits, class: aModel, operation: llm.OperationImage, method: post, path: "/images/edits", streams: sse, read: asForm(imageEditForm), watch: WatchUsage, deployed: true},
	{surface: ImageVariations, class: aModel, operation: llm.OperationImage, method: post, path: "/images/variations", read: asForm(imageVariationForm), watch: WatchUsage},
	{surface: AudioSpeech, class: aModel, operation: llm.OperationSpeech, method: post, path: "/audio/speech", streams: sse, read: readSpeech, watch: WatchUsage, deployed: true},
	{surface: AudioTranscriptions, class: aModel, operation: llm.OperationTranscription, method: post, path: "/audio/transcriptions", streams: sse, read: asForm(transcriptionForm), watch: WatchUsage,
		deployed: true},
	{surface: AudioTranslations, class: aModel, operation: llm.OperationTranscription, method: post, path: "/audio/translations", read: asForm(translationForm), watch: WatchUsage, deployed: true},
}

// drops are the surfaces that leave something at the provider, fetch it, or let somebody else do so.
var drops = []entry{
	{surface: ChatStored, operation: llm.OperationList, method: get, path: "/chat/completions", query: []string{"after", "limit", "metadata", "model", "order"}, read: wire.NoBody},
	{surface: ChatStored, operation: opRetrieve, method: get, path: "/chat/completions/{completion_id}", read: wire.NoBody, watch: Watch},
	{surface: ChatStored, operation: opStore, method: post, path: "/chat/completions/{completion_id}", read: stores(chatUpdateFields), watch: Watch},
	{surface: ChatStored, operation: opDelete, method: del, path: "/chat/completions/{completion_id}", read: wire.NoBody},
	{surface: ChatStored, operation: llm.OperationList, method: get, path: "/chat/completions/{completion_id}/messages", query: paging, read: wire.NoBody},

	{surface: ResponsesStored, operation: opRetrieve, method: get, path: "/responses/{response_id}", query: []string{"include", "include[]", "include_obfuscation", "starting_after", "stream"},
		streams: sse, read: wire.NoBody, watch: WatchResponses},
	{surface: ResponsesStored, operation: opDelete, method: del, path: "/responses/{response_id}", read: wire.NoBody},
	{surface: ResponsesStored, operation: opStore, method: post, path: "/responses/{response_id}/cancel", read: storesOrNothing(nil), watch: WatchResponses},
	{surface: ResponsesStored, operation: llm.OperationList, method: get, path: "/responses/{response_id}/input_items", query: []string{"after", "before", "include", "include[]", "limit", "order"},
		read: wire.NoBody},

	{surface: Conversations, operation: opStore, method: post, path: "/conversations", read: readConversation},
	{surface: Conversations, operation: opRetrieve, method: get, path: "/conversations/{conversation_id}", read: wire.NoBody},
	{surface: Conversations, operation: opStore, method: post, path: "/conversations/{conversation_id}", read: readConversation},
	{surface: Conversations, operation: opDelete, method: del, path: "/conversations/{conversation_id}", read: wire.NoBody},
	{surface: Conversations, operation: llm.OperationList, method: get, path: "/conversations/{conversation_id}/items", query: []string{"after", "include", "include[]", "limit", "order"}, read: wire.NoBody},
	{surface: Conversations, operation: opStore, method: post, path: "/conversations/{conversation_id}/items", query: []string{"include", "include[]"}, read: readConversation},
	{surface: Conversations, operation: opRetrieve, method: get, path: "/conversations/{conversation_id}/items/{item_id}", query: []string{"include", "include[]"}, read: wire.NoBody},
	{surface: Conversations, operation: opDelete, method: del, path: "/conversations/{conversation_id}/items/{item_id}", read: wire.NoBody},

	// What these return is a secret with which anybody, anywhere, speaks to the model in the place of the pod.
	{surface: RealtimeSessions, operation: llm.OperationRealtime, method: post, path: "/realtime/client_secrets", read: readClientSecret},
	{surface: RealtimeSessions, operation: llm.OperationRealtime, method: post, path: "/realtime/translations/client_secrets", read: readClientSecret},
	{surface: RealtimeSessions, operation: llm.OperationRealtime, method: post, path: "/realtime/sessions", read: readSession},
	{surface: RealtimeSessions, operation: llm.OperationRealtime, method: post, path: "/realtime/transcription_sessions", read: readSession},

	{surface: Models, operation: opDelete, method: del, path: "/models/{model}", read: wire.NoBody},

	{surface: Files, operation: llm.OperationList, method: get, path: "/files", query: []string{"after", "limit", "order", "purpose"}, read: wire.NoBody},
	{surface: Files, operation: opStore, method: post, path: "/files", read: asForm(fileForm)},
	{surface: Files, operation: opRetrieve, method: get, path: "/files/{file_id}", read: wire.NoBody},
	{surface: Files, operation: opDelete, method: del, path: "/files/{file_id}", read: wire.NoBody},
	{surface: Files, operation: opRetrieve, method: get, path: "/files/{file_id}/content", read: wire.NoBody},

	{surface: Uploads, operation: opStore, method: post, path: "/uploads", read: stores(uploadFields)},
	{surface: Uploads, operation: opStore, method: post, path: "/uploads/{upload_id}/parts", read: asForm(uploadPartForm)},
	{surface: Uploads, operation: opStore, method: post, path: "/uploads/{upload_id}/complete", read: stores(completeFields)},
	{surface: Uploads, operation: opDelete, method: post, path: "/uploads/{upload_id}/cancel", read: storesOrNothing(nil)},

	{surface: Batches, operation: llm.OperationList, method: get, path: "/batches", query: []string{"after", "limit"}, read: wire.NoBody},
	{surface: Batches, operation: opStore, method: post, path: "/batches", read: stores(batchFields)},
	{surface: Batches, operation: opRetrieve, method: get, path: "/batches/{batch_id}", read: wire.NoBody},
	{surface: Batches, operation: opDelete, method: post, path: "/batches/{batch_id}/cancel", read: storesOrNothing(nil)},

	{surface: VectorStores, operation: llm.OperationList, method: get, path: "/vector_stores", query: paging, read: wire.NoBody},
	{surface: VectorStores, operation: opStore, method: post, path: "/vector_stores", read: stores(vectorStoreFields)},
	{surface: VectorStores, operation: opRetrieve, method: get, path: "/vector_stores/{vector_store_id}", read: wire.NoBody},
	{surface: VectorStores, operation: opStore, method: post, path: "/vector_stores/{vector_store_id}", read: stores(vectorStoreFields)},
	{surface: VectorStores, operation: opDelete, method: del, path: "/vector_stores/{vector_store_id}", read: wire.NoBody},
	{surface: VectorStores, operation: opRetrieve, method: post, path: "/vector_stores/{vector_store_id}/search", read: stores(vectorSearch)},
	{surface: VectorStores, operation: llm.OperationList, method: get, path: "/vector_stores/{vector_store_id}/files", query: append([]string{"filter"}, paging...), read: wire.NoBody},
	{surface: VectorStores, operation: opStore, method: post, path: "/vector_stores/{vector_store_id}/files", read: stores(vectorFileFields)},
	{surface: VectorStores, operation: opRetrieve, method: get, path: "/vector_stores/{vector_store_id}/files/{file_id}", read: wire.NoBody},
	{surface: VectorStores, operation: opStore, method: post, path: "/vector_stores/{vector_store_id}/files/{file_id}", read: stores(vectorFileFields)},
	{surface: VectorStores, operation: opDelete, method: del, path: "/vector_stores/{vector_store_id}/files/{file_id}", read: wire.NoBody},
	{surface: VectorStores, operation: opRetrieve, method: get, path: "/vector_stores/{vector_store_id}/files/{file_id}/content", read: wire.NoBody},
	{surface: VectorStores, operation: opStore, method: post, path: "/vector_stores/{vector_store_id}/file_batches", read: stores(vectorBatchFields)},
	{surface: VectorStores, operation: opRetrieve, method: get, path: "/vector_stores/{vector_store_id}/file_batches/{batch_id}", read: wire.NoBody},
	{surface: VectorStores, operation: opDelete, method: post, path: "/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel", read: storesOrNothing(nil)},
	{surface: VectorStores, operation: llm.OperationList, method: get, path: "/vector_stores/{vector_store_id}/file_batches/{batch_id}/files", query: append([]string{"filter"}, paging...),
		read: wire.NoBody},

	{surface: FineTuning, operation: llm.OperationList, method: get, path: "/fine_tuning/jobs", query: []string{"after", "limit", "metadata"}, read: wire.NoBody},
	{surface: FineTuning, operation: opStore, method: post, path: "/fine_tuning/jobs", read: stores(fineTuningFields)},
	{surface: FineTuning, operation: opRetrieve, method: get, path: "/fine_tuning/jobs/{job_id}", read: wire.NoBody},
	{surface: FineTuning, operation: opStore, method: post, path: "/fine_tuning/jobs/{job_id}/cancel", read: storesOrNothing(nil)},
	{surface: FineTuning, operation: opStore, method: post, path: "/fine_tuning/jobs/{job_id}/pause", read: storesOrNothing(nil)},
	{surface: FineTuning, operation: opStore, method: post, path: "/fine_tuning/jobs/{job_id}/resume", read: storesOrNothing(nil)},
	{surface: FineTuning, operation: llm.OperationList, method: get, path: "/fine_tuning/jobs/{job_id}/events", query: []string{"after", "limit"}, read: wire.NoBody},
	{surface: FineTuning, operation: llm.OperationList, method: get, path: "/fine_tuning/jobs/{job_id}/checkpoints", query: []string{"after", "limit"}, read: wire.NoBody},
	{surface: FineTuning, operation: llm.OperationList, method: get, path: "/fine_tuning/checkpoints/{checkpoint}/permissions", query: []string{"after", "limit", "order", "project_id"}, read: wire.NoBody},
	{surface: FineTuning, operation: opStore, method: post, path: "/fine_tuning/checkpoints/{checkpoint}/permissions", read: stores(permissionFields)},
	{surface: FineTuning, operation: opDelete, method: del, path: "/fine_tuning/checkpoints/{checkpoint}/permissions/{permission_id}", read: wire.NoBody},

	{surface: Containers, operation: llm.OperationList, method: get, path: "/containers", query: []string{"after", "limit", "name", "order"}, read: wire.NoBody},
	{surface: Containers, operation: opStore, method: post, path: "/containers", read: stores(containerFields)},
	{surface: Containers, operation: opRetrieve, method: get, path: "/containers/{container_id}", read: wire.NoBody},
	{surface: Containers, operation: opDelete, method: del, path: "/containers/{container_id}", read: wire.NoBody},
	{surface: Containers, operation: llm.OperationList, method: get, path: "/containers/{container_id}/files", query: paging, read: wire.NoBody},
	{surface: Containers, operation: opStore, method: post, path: "/containers/{container_id}/files", read: asForm(containerFileForm)},
	{surface: Containers, operation: opRetrieve, method: get, path: "/containers/{container_id}/files/{file_id}", read: wire.NoBody},
	{surface: Containers, operation: opDelete, method: del, path: "/containers/{container_id}/files/{file_id}", read: wire.NoBody},
	{surface: Containers, operation: opRetrieve, method: get, path: "/containers/{container_id}/files/{file_id}/content", read: wire.NoBody},

	{surface: Videos, operation: llm.OperationList, method: get, path: "/videos", query: []string{"after", "limit", "order"}, read: wire.NoBody},
	{surface: Videos, operation: opStore, method: post, path: "/videos", read: asForm(videoForm)},
	{surface: Videos, operation: opRetrieve, method: get, path: "/videos/{video_id}", read: wire.NoBody},
	{surface: Videos, operation: opDelete, method: del, path: "/videos/{video_id}", read: wire.NoBody},
	{surface: Videos, operation: opRetrieve, method: get, path: "/videos/{video_id}/content", query: []string{"variant"}, read: wire.NoBody},
	{surface: Videos, operation: opStore, method: post, path: "/videos/{video_id}/remix", read: stores(videoRemixFields)},

	{surface: Assistants, operation: llm.OperationList, method: get, path: "/assistants", query: paging, read: wire.NoBody},
	{surface: Assistants, operation: opStore, method: post, path: "/assistants", read: stores(assistantFields)},
	{surface: Assistants, operation: opRetrieve, method: get, path: "/assistants/{assistant_id}", read: wire.NoBody},
	{surface: Assistants, operation: opStore, method: post, path: "/assistants/{assistant_id}", read: stores(assistantFields)},
	{surface: Assistants, operation: opDelete, method: del, path: "/assistants/{assistant_id}", read: wire.NoBody},

	{surface: Threads, operation: opStore, method: post, path: "/threads", read: storesOrNothing(threadFields)},
	{surface: Threads, operation: opStore, method: post, path: "/threads/runs", streams: sse, read: stores(runFields)},
	{surface: Threads, operation: opRetrieve, method: get, path: "/threads/{thread_id}", read: wire.NoBody},
	{surface: Threads, operation: opStore, method: post, path: "/threads/{thread_id}", read: stores(threadFields)},
	{surface: Threads, operation: opDelete, method: del, path: "/threads/{thread_id}", read: wire.NoBody},
	{surface: Threads, operation: llm.OperationList, method: get, path: "/threads/{thread_id}/messages", query: append([]string{"run_id"}, paging...), read: wire.NoBody},
	{surface: Threads, operation: opStore, method: post, path: "/threads/{thread_id}/messages", read: stores(threadMessageFields)},
	{surface: Threads, operation: opRetrieve, method: get, path: "/threads/{thread_id}/messages/{message_id}", read: wire.NoBody},
	{surface: Threads, operation: opStore, method: post, path: "/threads/{thread_id}/messages/{message_id}", read: stores(threadMessageFields)},
	{surface: Threads, operation: opDelete, method: del, path: "/threads/{thread_id}/messages/{message_id}", read: wire.NoBody},
	{surface: Threads, operation: llm.OperationList, method: get, path: "/threads/{thread_id}/runs", query: paging, read: wire.NoBody},
	{surface: Threads, operation: opStore, method: post, path: "/threads/{thread_id}/runs", query: []string{"include[]"}, streams: sse, read: stores(runFields)},
	{surface: Threads, operation: opRetrieve, method: get, path: "/threads/{thread_id}/runs/{run_id}", read: wire.NoBody},
	{surface: Threads, operation: opStore, method: post, path: "/threads/{thread_id}/runs/{run_id}", read: stores(chatUpdateFields)},
	{surface: Threads, operation: opStore, method: post, path: "/threads/{thread_id}/runs/{run_id}/cancel", read: storesOrNothing(nil)},
	{surface: Threads, operation: opStore, method: post, path: "/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", streams: sse, read: stores(toolOutputFields)},
	{surface: Threads, operation: llm.OperationList, method: get, path: "/threads/{thread_id}/runs/{run_id}/steps", query: append([]string{"include[]"}, paging...), read: wire.NoBody},
	{surface: Threads, operation: opRetrieve, method: get, path: "/threads/{thread_id}/runs/{run_id}/steps/{step_id}", query: []string{"include[]"}, read: wire.NoBody},
}

// Rows are the surfaces of OpenAI's API, and of servers that speak it below a base path of their own.
var Rows = openAIRows()

func openAIRows() []llm.Row {
	rows := make([]llm.Row, 0, len(asked)+len(drops))
	for _, table := range [][]entry{asked, drops} {
		for _, e := range table {
			rows = append(rows, e.row(Provider, "/v1"))
			if e.bare {
				rows = append(rows, e.row(Provider, ""))
			}
		}
	}
	return rows
}

// Dialect answers where no row matches.
var Dialect = llm.Row{Watch: Watch, Refuse: Refuse}

// row returns the row of a provider whose API begins at prefix, and has further parameters in the query.
func (e entry) row(provider, prefix string, query ...string) llm.Row {
	if e.class == "" {
		e.class = deadDrop
	}
	if e.watch == nil {
		e.watch = WatchUsage
	}
	r := llm.Row{
		Surface: e.surface, Class: e.class, Operation: e.operation,
		Method: e.method, Path: prefix + e.path, Query: slices.Sorted(slices.Values(slices.Concat(e.query, query))), Streams: e.streams,
		Watch: e.watch, Refuse: Refuse, RefuseMessage: e.refuseMessage,
	}
	r.Decode = e.decode(provider, r.Query, prefix == deployments)
	return r
}

// decode returns the Decode of a row. The first variable of its path is the model where it is deployed.
func (e entry) decode(provider string, query []string, deployed bool) func(*llm.Request, llm.Limits) *llm.Call {
	return func(r *llm.Request, lim llm.Limits) *llm.Call {
		call := &llm.Call{Provider: provider, Surface: e.surface, Class: e.class, Operation: e.operation}
		values := wire.Query(call, r, query)
		call.Model = cmp.Or(values["model"], values["deployment"])
		if deployed && len(r.Vars) > 0 {
			call.Model = r.Vars[0]
		}
		call.Stream = values["stream"] == "true"
		e.read(call, r, lim)
		return call
	}
}

// decode reads a request to one of the surfaces that are asked.
func decode(surface llm.Surface, r *llm.Request, lim llm.Limits) *llm.Call {
	for _, e := range asked {
		if e.surface == surface {
			return e.decode(Provider, nil, false)(r, lim)
		}
	}
	return nil // there is none that is not in the table
}
