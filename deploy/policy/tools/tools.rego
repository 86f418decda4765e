# METADATA
# title: Tools
# description: |
#   A component beside the baseline: what a model may ask an agent's tools to do. It holds each tool call of a response until it is complete,
#   and denies it by its name or by what its arguments say. It allows nothing itself. Copy it and edit the constants.
package sallyport.bundle.tools

# Tools that no model may call, by their names in lower case, as glob patterns ("*" is any run of characters).
denied_tools := {"*delete_account*", "*drop_table*", "*transfer_funds*"}

# Tools that run commands, by their names in lower case, as glob patterns. Their arguments are looked at for denied_commands.
command_tools := {"*bash*", "*exec*", "*powershell*", "*run_command*", "*shell*", "*terminal*"}

# What no command may have in it, as regular expressions (RE2). A guard against accidents and against the plainest attacks: whoever writes
# commands can say the same in another way, so list the tools that are not wanted in denied_tools rather than commands here.
denied_commands := {
	"credentials": `(?i)(\.ssh/|\.aws/credentials|\.netrc|id_rsa|/var/run/secrets/|\bprintenv\b)`,
	"download and run": `(?i)\b(curl|wget)\b[^|;&]*\|\s*(sudo\s+)?(ba|da|z)?sh\b`,
	"removal": `(?i)\brm\s+(-[a-z]*\s+)*-[a-z]*(rf|fr)[a-z]*\s+(/|~)`,
	"reverse shell": `(?i)(/dev/tcp/|\bnc\b.*\s-e\b|\bncat\b.*\s-e\b)`,
	"metadata service": `169\.254\.169\.254|metadata\.google\.internal|fd00:ec2::254`,
}

# METADATA
# title: Tool calls are held
# description: The text of a response flows; each tool call waits until it is complete and judged.
obligations contains {"response": "hold-tool-calls"} if {
	input.destination.kind == "model"
	input.call.class == "model"
}

# METADATA
# title: Denied tool
# description: The model asks for a tool that is on the list.
# labels:
#   rule: CALL-001
deny contains {"rule": "CALL-001", "message": message} if {
	some call in input.response.tool_calls
	some pattern in denied_tools
	glob.match(pattern, [], lower(call.name))
	message := sprintf("The model asked for the tool %q, which no model may call.", [call.name])
}

# METADATA
# title: Denied command
# description: The model asks a tool that runs commands for one that is on the list.
# labels:
#   rule: CALL-002
deny contains {"rule": "CALL-002", "message": message} if {
	some call in input.response.tool_calls
	runs_commands(call.name)
	some name, expression in denied_commands
	some text in texts(call.arguments)
	regex.match(expression, text)
	message := sprintf("The model asked the tool %q to run a command that is denied (%s).", [call.name, name])
}

# METADATA
# title: Unreadable command
# description: The arguments of a tool that runs commands are longer than is kept, or no JSON that all readers read alike.
# labels:
#   rule: CALL-003
deny contains {"rule": "CALL-003", "message": message} if {
	some call in input.response.tool_calls
	runs_commands(call.name)
	not call.truncated == false
	message := sprintf("What the model asked the tool %q to do cannot be read.", [call.name])
}

# METADATA
# title: Side effects in a tainted session
# description: In a conversation in which a call was denied for its anomaly, the model may ask for reading tools only.
# labels:
#   rule: CALL-004
deny contains {"rule": "CALL-004", "message": message} if {
	input.session.tainted
	some call in input.response.tool_calls
	not reads(call.name)
	message := sprintf("An anomalous call was denied in this session, and the model asked for the tool %q, which may have side effects.", [call.name])
}

runs_commands(name) if {
	some pattern in command_tools
	glob.match(pattern, [], lower(name))
}

# Every string in the arguments, and lists of strings joined as a shell would read them: ["rm", "-rf", "/"].
texts(arguments) := strings | joined if {
	strings := {value | walk(arguments, [_, value]); is_string(value)}
	joined := {concat(" ", value) | walk(arguments, [_, value]); is_array(value); every word in value { is_string(word) }}
}

reads(name) if {
	words := regex.find_n(`[A-Z]?[a-z]+|[A-Z]+|[0-9]+`, name, 1)
	lower(words[0]) in {"count", "describe", "find", "get", "list", "lookup", "read", "search", "show", "view"}
}
