package features

// SchemaID names this schema. It changes with any change of the features' number, order or meaning: a model of another schema is
// not applied.
const SchemaID = "sallyport.features/v2"

// Transforms say how a value becomes a feature.
const (
	log1p = "log1p" // ln(1+x): counts and sizes, which range over orders of magnitude
	bit   = "flag"  // 0 or 1
	none  = "none"  // as it is
)

// Feature documents one number of a Vector.
type Feature struct {
	// Name is stable within a schema: group, dot, feature.
	Name string
	// Unit of the value before its transform.
	Unit string
	// Transform is "log1p", "flag" or "none".
	Transform string
	// Doc says what it is and why it is looked at.
	Doc string
}

// Vector holds one call's features in the order of Schema. Its numbers are always finite.
type Vector [Size]float32

// The places of the features in a Vector.
const (
	modelChanged = iota
	toolsChanged
	lateSystem
	toolsOffered
	serverTools
	attachments
	unknownFields
	maxTokens

	deltaBytes
	messages
	toolShare
	unreadBytes

	textEntropy
	textUpper
	textDigit
	textSpace
	textPunct
	textNonASCII
	longestToken
	meanWord
	distinctWords
	longestEncoded

	instructionWords
	secondPerson
	modelNames
	roleMarkers
	imperatives
	capitals
	exclamations
	invisible
	tags
	overrides
	instructionPeak
	prosePeak

	toolCalls
	argsBytes
	argsEntropy
	sideEffects
	argsTainted

	gap
	rate

	secrets

	unseenBurst
	unseenPeak
	unseenRun
	unseenPairs
	toolPeak
	voiceBurst
	voicePeak

	newModel
	newTools
	newSystem
	newDestination
	newCredential
	rewritten

	toolSurprise
	pairSurprise
	newDestinations

	workloadRate
	costRate
	hourSurprise

	// Size is the number of features.
	Size
)

// Schema documents the features in the order of a Vector. "New" is what the conversation's earlier calls did not bring: the delta. An agent sends
// its whole conversation with every call, so that the size of a call says how long the conversation is and little else, and what has just been
// read is lost in what was read before.
var Schema = [Size]Feature{
	modelChanged:  {"envelope.model_changed", "", bit, "Another model than in the conversation's previous call: a hijacked agent or a stolen key asks for what it likes, an agent stays with its model. Tested on constructed calls only."},
	toolsChanged:  {"envelope.tools_changed", "", bit, "Other tool definitions than in the conversation's previous call: tool poisoning, or another program that goes on with the conversation. Tested on constructed calls only."},
	lateSystem:    {"envelope.late_system", "messages", log1p, "New system messages after the first message of another role: instructions at the highest rank slipped into a conversation."},
	toolsOffered:  {"envelope.tools", "tools", log1p, "Tools offered to the model: an agent has its set."},
	serverTools:   {"envelope.server_tools", "tools", log1p, "Tools among them that the provider carries out: they act where no gate sees it."},
	attachments:   {"envelope.attachments", "parts", log1p, "New images, audio and files, and URLs that the provider is asked to fetch: content that is not read here."},
	unknownFields: {"envelope.unknown_fields", "fields", log1p, "Members of the request that the codec does not know: an agent's client library is the same every day."},
	maxTokens:     {"envelope.max_tokens", "tokens", log1p, "The output limit asked for, 0 where absent: cost. Tested on constructed calls only."},

	deltaBytes:  {"size.delta_bytes", "bytes", log1p, "Bytes of the new messages: exfiltration in bulk, stuffed contexts."},
	messages:    {"size.messages", "messages", log1p, "Messages of the call: how far the conversation has come, and loops."},
	toolShare:   {"size.tool_share", "share", none, "Share of tool results in the new text: tells steps that read from steps that are told."},
	unreadBytes: {"size.unread_bytes", "bytes", log1p, "New text beyond the limit of what is read, so that hiding behind sheer size is itself seen."},

	textEntropy:    {"text.entropy", "bits per byte", none, "Entropy of the bytes of the new text: encoded and encrypted data."},
	textUpper:      {"text.upper", "share", none, "Share of upper-case ASCII letters in the new text."},
	textDigit:      {"text.digit", "share", none, "Share of ASCII digits in the new text."},
	textSpace:      {"text.space", "share", none, "Share of spaces and tabs in the new text: prose against data."},
	textPunct:      {"text.punct", "share", none, "Share of other printable ASCII in the new text: markup, code, data."},
	textNonASCII:   {"text.non_ascii", "share", none, "Share of bytes beyond ASCII in the new text: another language or alphabet, look-alike letters."},
	longestToken:   {"text.longest_token", "bytes", log1p, "Longest run without white space in the new text: URLs that carry data, blobs."},
	meanWord:       {"text.mean_word", "bytes", log1p, "Mean length of a word in the new text: language, code, encodings."},
	distinctWords:  {"text.distinct_words", "share", none, "Share of words in the new text that are there for the first time: repetition as in token floods, or word salad."},
	longestEncoded: {"text.longest_encoded", "bytes", log1p, "Longest run of the base64 alphabet in the new text: smuggled payloads."},

	instructionWords: {"data.instruction_words", "words", log1p, "Words of command (ignore, must, instead …) in new tool results: results describe, they do not command."},
	secondPerson:     {"data.second_person", "words", log1p, "You and its forms in new tool results: someone speaks to the reader."},
	modelNames:       {"data.model_names", "words", log1p, "Names of models and words for them in new tool results: someone knows who reads."},
	roleMarkers:      {"data.role_markers", "markers", log1p, "What looks like a turn of a conversation (system:, <|user|>, [INST]) in new tool results: a forged message."},
	imperatives:      {"data.imperatives", "sentences", log1p, "Sentences of new tool results that begin with a verb of command."},
	capitals:         {"data.capitals", "words", log1p, "Words of three and more capitals in new tool results: emphasis."},
	exclamations:     {"data.exclamations", "marks", log1p, "Exclamation marks in new tool results: emphasis."},
	invisible:        {"data.invisible", "characters", log1p, "Zero-width, bidirectional, tag and control characters in new tool results: text for the machine and not for the eye."},
	tags:             {"data.tags", "tags", log1p, "Opening and closing tags in new tool results: delimiters made to stand out."},
	overrides:        {"data.overrides", "phrases", log1p, "Words for setting aside (ignore, forget …) with a word for instructions or for what went before among the eight words after them, in new tool results."},
	instructionPeak:  {"data.instruction_peak", "words", log1p, "The most words of command, address or model names among any 32 words in a row of a new tool result: a short injection stands out however long the document around it."},
	prosePeak:        {"data.prose_peak", "words", log1p, "The most English function words among any 32 words in a row of a new tool result: running prose amid data."},

	toolCalls:   {"tool.calls", "calls", log1p, "Tool calls that the model made in the new messages."},
	argsBytes:   {"tool.args_bytes", "bytes", log1p, "Bytes of their arguments: exfiltration goes through arguments."},
	argsEntropy: {"tool.args_entropy", "bits per byte", none, "Entropy of the bytes of their arguments: encoded data in them."},
	sideEffects: {"tool.side_effects", "calls", log1p, "Calls among them whose tool's name has a verb that changes something (send, delete, pay …): what a hijack is for."},
	argsTainted: {"tool.args_tainted", "share", none, "Share of the words in their arguments that an earlier tool result said and the user did not: who steers."},

	gap:  {"time.gap", "seconds", log1p, "Time since the conversation's previous call, 0 for the first: machine pace, replays. Tested on constructed calls only."},
	rate: {"time.rate", "calls per minute", log1p, "The conversation's calls a minute, this one included, over at least a minute: loops and floods. Tested on constructed calls only."},

	secrets: {"content.secrets", "strings", log1p, "Strings in the new text that have the shape of a credential (provider keys, tokens, private keys)."},

	unseenBurst: {"novelty.unseen_burst", "share", none, "The largest share, in any 16 pairs of neighbouring words of a new tool result, of pairs that no tool result of the workload had before: an injection is other language than the workload's own, whatever the language. The peak, as a short one vanishes in the mean of a long document. 0 while nothing was learned, as the others of this group."},
	unseenPeak:  {"novelty.unseen_peak", "share", none, "The same in any 32 pairs: longer passages, and less chance of one new sentence."},
	unseenRun:   {"novelty.unseen_run", "pairs", log1p, "The longest run of such pairs."},
	unseenPairs: {"novelty.unseen", "pairs", log1p, "All such pairs in the new tool results."},
	toolPeak:    {"novelty.tool_peak", "share", none, "The largest share, in any 32 pairs, of pairs that this tool's results did not have before; a tool of which little is known is compared with all: a document where a tool returns records."},
	voiceBurst:  {"novelty.voice_burst", "pairs", log1p, "The most pairs among any 16 that no tool result had before, but users or system prompts did: data that speaks like those who give orders, learned from the workload and not from a list."},
	voicePeak:   {"novelty.voice_peak", "pairs", log1p, "The same among any 32 pairs of neighbouring words."},

	newModel:       {"envelope.new_model", "", bit, "A model that no call of the workload asked for before: a hijacked agent or a stolen key asks for what it likes. 0 while nothing was learned, as the others of this group. Tested on constructed calls only: no data has it."},
	newTools:       {"envelope.new_tools", "", bit, "A tool is offered whose definition is not known: tool poisoning, an agent that was given more than it had."},
	newSystem:      {"envelope.new_system", "", bit, "A system prompt that is not known, words with digits in them set aside: another program, or one whose orders were changed."},
	newDestination: {"envelope.new_destination", "", bit, "A host and port that the workload did not call before: another provider or region. Tested on constructed calls only."},
	newCredential:  {"envelope.new_credential", "", bit, "A credential of the caller's own that it did not use before: a stolen key, or one for another account, to which data goes. Tested on constructed calls only."},
	rewritten:      {"envelope.rewritten", "messages", log1p, "Messages of the conversation's previous call that this one lacks: history that was altered or taken back, and a conversation gone on with in two ways."},

	toolSurprise:    {"tool.surprise", "bits", none, "Minus the binary logarithm of how often the workload calls the tool, the least usual of those called: a hijack uses what the task does not."},
	pairSurprise:    {"tool.pair_surprise", "bits", none, "The same given the tool called before it: usual tools in an unusual order."},
	newDestinations: {"tool.new_destinations", "destinations", log1p, "Hosts of URLs, domains of e-mail addresses and numbers like those of bank accounts in the arguments of new tool calls that no arguments in the workload had before and no user named: where a hijack sends things."},

	workloadRate: {"time.workload_rate", "doublings", none, "How often the workload's calls per minute in this pod, over about a minute, have doubled over what they are in the busiest twentieth of its calls; 0 below that, as a quiet pod is no attack: floods over many conversations. Tested on constructed calls only, as recordings have no clock."},
	costRate:     {"cost.rate", "doublings", none, "The same of the bytes per minute of the workload's calls and four for each token of output that they ask for: what a theft of service costs. Tested on constructed calls only."},
	hourSurprise: {"time.hour_surprise", "bits", none, "Minus the binary logarithm of how often the workload calls at this hour of the week, UTC, the hours beside it and those of other days taken in; 0 until five days of the week are known. Tested on constructed calls only."},
}
