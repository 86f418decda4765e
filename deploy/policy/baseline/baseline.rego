# METADATA
# title: Baseline
# description: |
#   The policy to begin with: which models, what they may cost, no tools that run at the provider, no anomalous calls. Copy it and edit
#   the constants. A call is allowed by a positive conjunction; the denials say why not.
package sallyport.bundle.baseline

# Models that may be called, by the name of the ModelProvider. A dated snapshot of an allowed model is allowed as well.
models := {
	"anthropic": {
		"claude-haiku-4-5",
		"claude-opus-4-1",
		"claude-sonnet-4-5",
	},
	"openai": {
		"gpt-4.1",
		"gpt-4.1-mini",
		"gpt-4o",
		"gpt-4o-mini",
		"gpt-5",
		"gpt-5-mini",
		"omni-moderation-latest",
		"text-embedding-3-large",
		"text-embedding-3-small",
	},
}

# Surfaces that may be called although they leave something at the provider for others to fetch (class dead_drop) or speak to a tool
# server or another agent (class tool), such as "openai.files" or "mcp.message". None to begin with.
surfaces := set()

# Classes of tools that the provider may run itself, such as "web_search". None to begin with.
server_tool_classes := set()

# Output tokens that a call may ask for. A call that asks for no limit (-1) gets the provider's own.
max_tokens := 65536

# What may not be new to a workload once its baseline is known: "model", "tools", "system", "destination", "credential". None to begin with; a workload whose
# set of tools or prompt changes with every release should leave those out.
refused_if_new := set()

# A tool whose name begins with one of these words reads and does nothing else.
reading := {"count", "describe", "find", "get", "list", "lookup", "read", "search", "show", "view"}

# METADATA
# title: Allow
# description: |
#   Every condition is a positive statement about a field, so that a field that is missing, null or of another type allows
#   nothing. Top-level fields of the body that the codec does not know are no ground for denial; the decision record shows them.
allow if {
	input.destination.kind == "model"
	surface_allowed
	model_allowed
	other_models_allowed
	server_tools_allowed
	is_number(input.call.max_tokens)
	input.call.max_tokens >= -1
	input.call.max_tokens <= max_tokens
	familiar
	unremarkable
	harmless
}

# METADATA
# title: Model not allowed
# description: The model is not on the list of its provider.
# labels:
#   rule: MODEL-001
deny contains {"rule": "MODEL-001", "message": message} if {
	input.destination.kind == "model"
	not model_allowed
	message := sprintf("The model %q of the provider %q is not on the list.", [input.call.model, input.destination.provider])
}

# METADATA
# title: Other model not allowed
# description: A model that the provider may turn to besides (a fallback, an advisor) is not on the list either.
# labels:
#   rule: MODEL-002
deny contains {"rule": "MODEL-002", "message": message} if {
	input.destination.kind == "model"
	some model in input.call.other_models
	not listed(model)
	message := sprintf("The model %q that the provider %q may use besides is not on the list.", [model, input.destination.provider])
}

# METADATA
# title: Anomaly over the threshold
# description: The detector scored the call over what the workload's false-positive budget allows. While it is still learning, it scores none.
# labels:
#   rule: ANOM-001
deny contains {"rule": "ANOM-001", "message": "The call is unlike this workload's calls."} if {
	input.destination.kind == "model"
	input.anomaly.exceeds
}

# METADATA
# title: New to the workload
# description: No call of the workload had this model, tool, system prompt, destination or credential before.
# labels:
#   rule: NOVEL-001
deny contains {"rule": "NOVEL-001", "message": message} if {
	input.destination.kind == "model"
	some what in refused_if_new
	not input.call.novel[what] == false
	message := sprintf("The call has something that is new to this workload: %s.", [what])
}

# METADATA
# title: Side effects in a tainted session
# description: A conversation in which a call was denied for its anomaly goes on with reading tools only.
# labels:
#   rule: ANOM-002
deny contains {"rule": "ANOM-002", "message": message} if {
	input.destination.kind == "model"
	input.session.tainted
	some tool in input.call.tool_calls
	not reads(tool)
	message := sprintf("An anomalous call was denied in this session, and the tool %q may have side effects.", [tool])
}

# METADATA
# title: Server-side tool
# description: A tool that the provider runs acts where nothing is watched.
# labels:
#   rule: TOOL-001
deny contains {"rule": "TOOL-001", "message": message} if {
	some class in input.call.server_tool_classes
	not class in server_tool_classes
	message := sprintf("The provider would run a tool of the class %q out of the gate's sight.", [class])
}

# METADATA
# title: Dead drop
# description: The surface leaves something at the provider that somebody else can fetch, or fetches it.
# labels:
#   rule: DROP-001
deny contains {"rule": "DROP-001", "message": message} if {
	input.call.class == "dead_drop"
	not input.call.surface in surfaces
	message := sprintf("The surface %q keeps things at the provider for others to fetch; it is not on the list.", [input.call.surface])
}

# METADATA
# title: Tool server
# description: The call goes to a tool server or another agent, not to a model.
# labels:
#   rule: TOOL-002
deny contains {"rule": "TOOL-002", "message": message} if {
	input.call.class == "tool"
	not input.call.surface in surfaces
	message := sprintf("The surface %q speaks to a tool server or another agent; it is not on the list.", [input.call.surface])
}

# METADATA
# title: Too many output tokens
# description: The call asks for more output than the policy pays for.
# labels:
#   rule: COST-001
deny contains {"rule": "COST-001", "message": message} if {
	input.call.max_tokens > max_tokens
	message := sprintf("The call asks for %v output tokens, more than %v.", [input.call.max_tokens, max_tokens])
}

surface_allowed if input.call.class in {"auxiliary", "model"}

surface_allowed if {
	input.call.class in {"dead_drop", "tool"}
	input.call.surface in surfaces
}

model_allowed if listed(input.call.model)

# A call that asks no model to write need not name one.
model_allowed if {
	input.call.class in {"auxiliary", "dead_drop", "tool"}
	input.call.model == ""
}

# The first of two rules with one name is the quick one: OPA finds it by an index.
other_models_allowed if input.call.other_models == []

other_models_allowed if {
	is_array(input.call.other_models)
	every model in input.call.other_models { listed(model) }
}

server_tools_allowed if input.call.server_tool_classes == []

server_tools_allowed if {
	is_array(input.call.server_tool_classes)
	every class in input.call.server_tool_classes { class in server_tool_classes }
}

listed(name) if name in models[input.destination.provider]

# A snapshot is the model's name and a date, as both providers write them: gpt-4o-2024-08-06, claude-sonnet-4-5-20250929.
listed(name) if {
	is_string(name)
	undated := regex.replace(name, `-(\d{4}-\d{2}-\d{2}|\d{8})$`, "")
	undated != name
	undated in models[input.destination.provider]
}

# That a verdict which does not exceed has a score below the threshold is a system rule (SYS-007). A rule that reads no score gives
# the same answer for all calls that are alike otherwise, and the gate need not ask again.
familiar if count(refused_if_new) == 0

familiar if {
	count(refused_if_new) > 0
	every what in refused_if_new { input.call.novel[what] == false }
}

unremarkable if {
	is_boolean(input.anomaly.ready)
	input.anomaly.exceeds == false
}

harmless if input.session.tainted == false

harmless if {
	input.session.tainted == true
	every tool in input.call.tool_calls { reads(tool) }
}

reads(tool) if {
	words := regex.find_n(`[A-Z]?[a-z]+|[A-Z]+|[0-9]+`, tool, 1)
	lower(words[0]) in reading
}
