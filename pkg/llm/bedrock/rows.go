package bedrock

import (
	"net/http"

	"sallyport.dev/sallyport/pkg/llm"
)

// The surfaces.
const (
	ConverseSurface        llm.Surface = "bedrock.converse"
	ConverseStreamSurface  llm.Surface = "bedrock.converse_stream"
	InvokeSurface          llm.Surface = "bedrock.invoke_model"
	InvokeStreamSurface    llm.Surface = "bedrock.invoke_model_stream"
	CountTokensSurface     llm.Surface = "bedrock.count_tokens"
	AsyncInvokeSurface     llm.Surface = "bedrock.async_invoke"
	AsyncListSurface       llm.Surface = "bedrock.async_list"
	AsyncGetSurface        llm.Surface = "bedrock.async_get"
	GuardrailSurface       llm.Surface = "bedrock.apply_guardrail"
	GuardrailChecksSurface llm.Surface = "bedrock.guardrail_checks"
	ChatCompletionsSurface llm.Surface = "bedrock.chat_completions"
)

// Rows are the surfaces of Bedrock's runtime. InvokeModelWithBidirectionalStream, whose request is a stream of frames, is not among them.
var Rows = []llm.Row{
	post(ConverseSurface, llm.ClassModel, llm.OperationChat, "/model/{model}/converse", Converse, WatchConverse),
	post(ConverseStreamSurface, llm.ClassModel, llm.OperationChat, "/model/{model}/converse-stream", ConverseStream, WatchConverse, llm.FramingEventStream),
	post(InvokeSurface, llm.ClassModel, llm.OperationChat, "/model/{model}/invoke", Invoke, WatchInvoke),
	post(InvokeStreamSurface, llm.ClassModel, llm.OperationChat, "/model/{model}/invoke-with-response-stream", InvokeStream, WatchInvoke, llm.FramingEventStream),
	post(CountTokensSurface, llm.ClassAuxiliary, llm.OperationCountTokens, "/model/{model}/count-tokens", CountTokens, WatchConverse),
	post(AsyncInvokeSurface, llm.ClassDeadDrop, llm.OperationStore, "/async-invoke", StartAsync, WatchConverse),
	{
		Surface: AsyncListSurface, Class: llm.ClassDeadDrop, Operation: llm.OperationList,
		Method: http.MethodGet, Path: "/async-invoke", Query: asyncQuery,
		Decode: ListAsync, Watch: WatchConverse, Refuse: Refuse,
	},
	{
		Surface: AsyncGetSurface, Class: llm.ClassDeadDrop, Operation: llm.OperationRetrieve,
		Method: http.MethodGet, Path: "/async-invoke/{invocation}",
		Decode: GetAsync, Watch: WatchConverse, Refuse: Refuse,
	},
	post(GuardrailSurface, llm.ClassAuxiliary, llm.OperationModeration, "/guardrail/{guardrail}/version/{version}/apply", ApplyGuardrail, WatchConverse),
	post(GuardrailChecksSurface, llm.ClassAuxiliary, llm.OperationModeration, "/guardrail-checks/invoke", GuardrailChecks, WatchConverse),
	{
		Surface: ChatCompletionsSurface, Class: llm.ClassModel, Operation: llm.OperationChat,
		Method: http.MethodPost, Path: "/openai/v1/chat/completions", Query: completion.Query, Streams: completion.Streams,
		Decode: chatCompletions, Watch: completion.Watch, Refuse: completion.Refuse,
	},
}

// post is the row of an operation of the runtime that is called by POST.
func post(surface llm.Surface, class llm.Class, operation llm.Operation, path string, decode func(*llm.Request, llm.Limits) *llm.Call, watch func(llm.WatchOptions) llm.Watcher, streams ...llm.Framing) llm.Row {
	return llm.Row{Surface: surface, Class: class, Operation: operation, Method: http.MethodPost, Path: path, Streams: streams, Decode: decode, Watch: watch, Refuse: Refuse}
}

// Dialect answers where no row matches.
var Dialect = llm.Row{Watch: WatchConverse, Refuse: Refuse}

// chatCompletions reads a request to Bedrock's endpoint that is compatible with OpenAI's.
func chatCompletions(req *llm.Request, lim llm.Limits) *llm.Call {
	call := completion.Decode(req, lim)
	call.Provider, call.Surface = Provider, ChatCompletionsSurface
	return call
}
