package llm

// Operation is what a call asks for: gen_ai.operation.name of the OpenTelemetry GenAI conventions where they have a name for it.
type Operation string

// The operations.
const (
	OperationChat           Operation = "chat"
	OperationTextCompletion Operation = "text_completion"
	OperationEmbeddings     Operation = "embeddings"
	OperationGenerate       Operation = "generate_content"
	OperationExecuteTool    Operation = "execute_tool"
	OperationInvokeAgent    Operation = "invoke_agent"
	OperationImage          Operation = "image_generation"
	OperationSpeech         Operation = "speech"
	OperationTranscription  Operation = "transcription"
	OperationRealtime       Operation = "realtime"
	OperationModeration     Operation = "moderation"
	OperationRerank         Operation = "rerank"
	OperationCountTokens    Operation = "count_tokens"
	OperationList           Operation = "list"     // reads what the provider has: models, tools
	OperationRetrieve       Operation = "retrieve" // reads one thing that was stored before
	OperationStore          Operation = "store"    // leaves something at the provider
	OperationDelete         Operation = "delete"
	OperationUnknown        Operation = "unknown"
)

// Class is what kind of thing a surface is to somebody who guards it.
type Class string

// The classes. Policy denies all but ClassModel and ClassAuxiliary unless a bundle allows them by name, and ClassUnknown always.
const (
	// ClassModel asks a model: text, images or sound in, text, images or sound out.
	ClassModel Class = "model"
	// ClassAuxiliary neither asks a model to write nor leaves anything behind: counting tokens, listing models, moderation.
	ClassAuxiliary Class = "auxiliary"
	// ClassDeadDrop leaves something at the provider that somebody else can fetch later, or fetches it: files, batches, fine-tuning, vector
	// stores, stored conversations.
	ClassDeadDrop Class = "dead_drop"
	// ClassTool speaks to a tool server or another agent: MCP, A2A.
	ClassTool Class = "tool"
	// ClassUnknown is every path that no row of the table matches.
	ClassUnknown Class = "unknown"
)

// Surface names one API shape of one provider, such as "openai.chat_completions". Each codec names its own.
type Surface string

// SurfaceUnknown is the surface of every path on a provider's host that no row of the table matches.
const SurfaceUnknown Surface = "unknown"

// ServerTool is the class of a tool that the provider carries out.
type ServerTool string

// The classes of server-side tools.
const (
	ServerToolWebSearch       ServerTool = "web_search"
	ServerToolWebFetch        ServerTool = "web_fetch"
	ServerToolCodeExecution   ServerTool = "code_execution"
	ServerToolComputerUse     ServerTool = "computer_use"
	ServerToolRemoteMCP       ServerTool = "remote_mcp"
	ServerToolFileSearch      ServerTool = "file_search"
	ServerToolImageGeneration ServerTool = "image_generation"
	ServerToolOther           ServerTool = "other"
)

// Role is who speaks in a message.
type Role string

// The roles of the normal form. A provider's "developer" is RoleSystem; an unknown role is kept as it is and
// reported as FindingUnknownRole.
const (
	RoleSystem    Role = "system"
	RoleUser      Role = "user"
	RoleAssistant Role = "assistant"
	RoleTool      Role = "tool"
)

// PartKind is what a part of a message is.
type PartKind string

// The kinds of parts.
const (
	PartText       PartKind = "text"
	PartImage      PartKind = "image"
	PartAudio      PartKind = "audio"
	PartFile       PartKind = "file"
	PartToolCall   PartKind = "tool_call"
	PartToolResult PartKind = "tool_result"
	PartReasoning  PartKind = "reasoning"
	PartUnknown    PartKind = "unknown"
)

// Digest identifies a message or a tool by content: the first 16 bytes of a SHA-256 of its members as sent. White space between them
// does not count, nor does what agents change from call to call without saying anything new: cache markers, and whether a text
// is written as a string or as a list of one block.
type Digest [16]byte

// Call is a request to a model in normal form.
type Call struct {
	Provider  string    // gen_ai.provider.name: "openai", "anthropic"
	Surface   Surface   // the row of the table that matched
	Class     Class     // of the surface; the body may make it stricter, as a response that is to be stored does
	Operation Operation // what is asked
	Model     string    // as the caller wrote it; "" when absent
	Stream    bool      // the caller asks for a streamed response

	// OtherModels are further models that the call names, in order: those to fall back to, and advisers offered as tools. A policy
	// that allows models must look at them, too.
	OtherModels []string

	// History is the id of what the provider holds of the conversation, and the call goes on with: an earlier response, or a conversation that is kept there. It is "" where the call brings
	// its whole conversation.
	History string
	// Messages in order, the system prompt first as a message of RoleSystem whatever place the wire format gives it.
	Messages []Message
	// Tools offered to the model, in order.
	Tools []Tool

	MaxTokens   *int64   // the output limit asked for; nil when absent
	Temperature *float64 // nil when absent

	// RPCMethod is the JSON-RPC method of MCP and A2A, such as "tools/call", or the type of a WebSocket client event, such as "response.create".
	RPCMethod string

	// URLs that the provider is asked to fetch (images, files, remote servers).
	URLs []string
	// UnknownFields are top-level members that the codec does not know, by name, sorted. Query parameters that the row does not know are
	// among them with a "?" before the name, parts of a form with a "&".
	UnknownFields []string
	// Findings are what a strict reader objects to; empty for a clean body.
	Findings []Finding
	// BodyBytes is the length of the body, its content coding taken off.
	BodyBytes int
}

// Message is one turn of the conversation.
type Message struct {
	Role Role
	// Aside says that the message is no turn but a member of the request that stands beside the conversation, such as a schema of the output or metadata. Asides come first. One
	// call of a conversation can have others than the next.
	Aside bool
	Parts []Part
	// Digest is of the message's content as sent, so that two calls of a conversation can be compared.
	Digest Digest
	// Bytes is the length of the message as sent.
	Bytes int
}

// Part is a piece of a message.
type Part struct {
	Kind PartKind
	// Text is the text of PartText, PartReasoning and PartToolResult, and the arguments, JSON as sent, of PartToolCall. It
	// is UTF-8, unescaped, and may alias the body: it is valid as long as the body is and must not be changed.
	Text []byte
	// ToolName is set for PartToolCall, and for PartToolResult where the wire format or an earlier call says it.
	ToolName string
	// ToolCallID ties a result to its call.
	ToolCallID string
	// Bytes is the size of an attachment's inline data as sent; 0 for a URL.
	Bytes int
	// MediaType of an attachment where it is said.
	MediaType string
}

// Quoted is the part as one of a document that is given to the model to read: text in it is data, as the results of tools are, whoever's message it is in.
func (p Part) Quoted() Part {
	if p.Kind == PartText {
		p.Kind = PartToolResult
	}
	return p
}

// Tool is a tool offered to the model.
type Tool struct {
	Name string
	// Type is "function" for one that the caller defines, else the provider's name for one that it defines, such as "bash_20250124" (which the
	// caller runs nevertheless), "web_search_20250305" or, for a remote server, "mcp_server".
	Type string
	// ServerSide says that the provider, not the caller, carries the tool out.
	ServerSide bool
	// Class of a server-side tool; "" for one that the caller carries out.
	Class ServerTool
	// URL of a remote server that the provider is to connect to, as sent.
	URL string
	// Digest is of the tool's definition as sent.
	Digest Digest
}

// Finding is something that a strict reader objects to. Policy denies each by default.
type Finding struct {
	Code FindingCode `json:"code"`
	// Path is a JSON pointer to the place, where there is one.
	Path string `json:"path,omitempty"`
	// Detail is a short sentence without content of the call.
	Detail string `json:"detail,omitempty"`
}

// FindingCode is the stable name of a kind of finding.
type FindingCode string

// The findings.
const (
	FindingUnparseable     FindingCode = "unparseable"       // not JSON at all
	FindingDuplicateKey    FindingCode = "duplicate_key"     // a member name twice in one object
	FindingCaseFoldedKey   FindingCode = "case_folded_key"   // a known member's name in other case
	FindingEscapedKey      FindingCode = "escaped_key"       // an escape in a member name
	FindingInvalidUTF8     FindingCode = "invalid_utf8"      // bytes that are no UTF-8, or a lone surrogate
	FindingBOM             FindingCode = "byte_order_mark"   // a byte order mark before the text
	FindingDepth           FindingCode = "depth"             // nested deeper than the limit
	FindingOversize        FindingCode = "oversize"          // larger than the limit
	FindingTrailingData    FindingCode = "trailing_data"     // anything but white space after the value
	FindingNumberRange     FindingCode = "number_range"      // a number no float64 holds, or an integer field that is none
	FindingWrongType       FindingCode = "wrong_type"        // a known member of another JSON type
	FindingContentType     FindingCode = "content_type"      // a content type that is not the surface's
	FindingContentEncoding FindingCode = "content_encoding"  // a content coding that is not decoded
	FindingMissingField    FindingCode = "missing_field"     // a required member is absent
	FindingUnknownRole     FindingCode = "unknown_role"      // a role that the normal form has no name for
	FindingUnknownPart     FindingCode = "unknown_part"      // a part of a message of an unknown kind
	FindingContentRatio    FindingCode = "content_ratio"     // a content coding that expands beyond the limit
	FindingMultipart       FindingCode = "multipart"         // a form that two readers could read in two ways
	FindingQuery           FindingCode = "query"             // a query that two readers could read in two ways
	FindingTooMany         FindingCode = "too_many_findings" // more were found than are kept
)

// Usage is what a response says it cost, in tokens.
type Usage struct {
	InputTokens     int64 `json:"input_tokens"`
	OutputTokens    int64 `json:"output_tokens"`
	CachedTokens    int64 `json:"cached_tokens"`
	ReasoningTokens int64 `json:"reasoning_tokens"`
}

// Reply is what was read of a response beside its stream.
type Reply struct {
	// Model is the model that answered, as the response says it.
	Model string
	// FinishReason as the provider names it; "" when the response did not end well.
	FinishReason string
	Usage        Usage
	// ToolCalls that the model asked for, in order.
	ToolCalls []ToolCall
}

// ToolCall is a tool call in a response.
type ToolCall struct {
	ID   string
	Name string
	// Arguments are the arguments, JSON as the model wrote it, as far as they were asked to be kept.
	Arguments []byte
	// Truncated says that the arguments are longer than was to be kept, or could not be read.
	Truncated bool
	// Done says that the call is complete: nothing that follows changes it.
	Done bool
	// ServerSide says that the provider carries it out itself.
	ServerSide bool
}

// Refusal is what a refused caller is told.
type Refusal struct {
	DecisionID string
	// Rule is the stable id of the rule that decided, e.g. "MODEL-001".
	Rule string
	// Message is a full sentence for the agent, without content of the call.
	Message string
}
