package llm

// Operation is what a call asks of a model: gen_ai.operation.name of the OpenTelemetry GenAI conventions.
type Operation string

// The operations known so far.
const (
	OperationChat    Operation = "chat"
	OperationUnknown Operation = "unknown"
)

// Surface names one API shape of one provider, such as "openai.chat_completions".
type Surface string

// The surfaces known so far. SurfaceUnknown is the class of every path on a provider's host that no row of
// the table matches; policy denies it by default.
const (
	SurfaceOpenAIChatCompletions Surface = "openai.chat_completions"
	SurfaceAnthropicMessages     Surface = "anthropic.messages"
	SurfaceUnknown               Surface = "unknown"
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
	Operation Operation // what is asked
	Model     string    // as the caller wrote it; "" when absent
	Stream    bool      // the caller asks for a streamed response

	// OtherModels are further models that the call names, in order: those to fall back to, and advisers offered as tools. A policy
	// that allows models must look at them, too.
	OtherModels []string

	// Messages in order, the system prompt first as a message of RoleSystem whatever place the wire format gives it.
	Messages []Message
	// Tools offered to the model, in order.
	Tools []Tool

	MaxTokens   *int64   // the output limit asked for; nil when absent
	Temperature *float64 // nil when absent

	// URLs that the provider is asked to fetch (images, files, remote servers).
	URLs []string
	// UnknownFields are top-level members that the codec does not know, by name, sorted.
	UnknownFields []string
	// Findings are what a strict reader objects to; empty for a clean body.
	Findings []Finding
	// BodyBytes is the length of the body as sent.
	BodyBytes int
}

// Message is one turn of the conversation.
type Message struct {
	Role  Role
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

// Tool is a tool offered to the model.
type Tool struct {
	Name string
	// Type is "function" for one that the caller defines, else the provider's name for one that it defines, such as "bash_20250124" (which the
	// caller runs nevertheless), "web_search_20250305" or, for a remote server, "mcp_server".
	Type string
	// ServerSide says that the provider, not the caller, carries the tool out.
	ServerSide bool
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
	// ToolCalls are the names of the tools that the model asked for, in order.
	ToolCalls []string
}

// Watcher reads a response on the side. Write never fails, never holds more than a bounded part of a line and never
// delays the caller; Reply may be asked at any time.
type Watcher interface {
	Write(p []byte)
	Reply() Reply
}

// Refusal is what a refused caller is told.
type Refusal struct {
	DecisionID string
	// Rule is the stable id of the rule that decided, e.g. "MODEL-001".
	Rule string
	// Message is a full sentence for the agent, without content of the call.
	Message string
}
