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
	{
		Surface: ConverseSurface, Class: llm.ClassModel, Operation: llm.OperationChat,
		Method: http.MethodPost, Path: "/model/{model}/converse",
		Decode: Converse, Watch: WatchConverse, Refuse: Refuse,
	},
	{
		Surface: ConverseStreamSurface, Class: llm.ClassModel, Operation: llm.OperationChat,
		Method: http.MethodPost, Path: "/model/{model}/converse-stream", Streams: []llm.Framing{llm.FramingEventStream},
		Decode: ConverseStream, Watch: WatchConverse, Refuse: Refuse,
	},
	{
		Surface: InvokeSurface, Class: llm.ClassModel, Operation: llm.OperationChat,
		Method: http.MethodPost, Path: "/model/{model}/invoke",
		Decode: Invoke, Watch: WatchInvoke, Refuse: Refuse,
	},
	{
		Surface: InvokeStreamSurface, Class: llm.ClassModel, Operation: llm.OperationChat,
		Method: http.MethodPost, Path: "/model/{model}/invoke-with-response-stream", Streams: []llm.Framing{llm.FramingEventStream},
		Decode: InvokeStream, Watch: WatchInvoke, Refuse: Refuse,
	},
	{
		Surface: CountTokensSurface, Class: llm.ClassAuxiliary, Operation: llm.OperationCountTokens,
		Method: http.MethodPost, Path: "/model/{model}/count-tokens",
		Decode: CountTokens, Watch: WatchConverse, Refuse: Refuse,
	},
	{
		Surface: AsyncInvokeSurface, Class: llm.ClassDeadDrop, Operation: llm.OperationStore,
		Method: http.MethodPost, Path: "/async-invoke",
		Decode: StartAsync, Watch: WatchConverse, Refuse: Refuse,
	},
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
	{
		Surface: GuardrailSurface, Class: llm.ClassAuxiliary, Operation: llm.OperationModeration,
		Method: http.MethodPost, Path: "/guardrail/{guardrail}/version/{version}/apply",
		Decode: ApplyGuardrail, Watch: WatchConverse, Refuse: Refuse,
	},
	{
		Surface: GuardrailChecksSurface, Class: llm.ClassAuxiliary, Operation: llm.OperationModeration,
		Method: http.MethodPost, Path: "/guardrail-checks/invoke",
		Decode: GuardrailChecks, Watch: WatchConverse, Refuse: Refuse,
	},
	{
		Surface: ChatCompletionsSurface, Class: llm.ClassModel, Operation: llm.OperationChat,
		Method: http.MethodPost, Path: "/openai/v1/chat/completions", Query: completion.Query, Streams: completion.Streams,
		Decode: chatCompletions, Watch: completion.Watch, Refuse: completion.Refuse,
	},
}

// Dialect answers where no row matches.
var Dialect = llm.Row{Watch: WatchConverse, Refuse: Refuse}

// chatCompletions reads a request to Bedrock's endpoint that is compatible with OpenAI's.
func chatCompletions(req *llm.Request, lim llm.Limits) *llm.Call {
	call := completion.Decode(req, lim)
	call.Provider, call.Surface = Provider, ChatCompletionsSurface
	return call
}
