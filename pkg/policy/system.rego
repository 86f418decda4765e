# METADATA
# title: Sallyport
# description: |
#   The entry point of every decision, and the rules that no bundle can lift. A release needs each of these positively: a well-formed
#   input of the version that this module was written for, no system denial, no bundle's denial, no obligation that is not known, and
#   either a tunnel that the profile names or one bundle that allows.
package sallyport

# METADATA
# title: Decision
# description: What the gate asks for. System denials come before any bundle is asked, denials of bundles before any allows.
# entrypoint: true
decision := {"action": "deny", "reasons": denials, "obligations": []} if {
	count(denials) > 0
} else := {"action": "deny", "reasons": bundle_denials, "obligations": []} if {
	count(bundle_denials) > 0
} else := {"action": "deny", "reasons": obligation_denials, "obligations": []} if {
	count(obligation_denials) > 0
} else := {"action": "allow", "reasons": [], "obligations": obligations} if {
	in_order
	permitted
} else := {"action": "deny", "reasons": [unselected], "obligations": []} if {
	not has_bundle
} else := {"action": "deny", "reasons": [unallowed], "obligations": []}

unselected := {"rule": "SYS-008", "message": "No policy bundle selects this namespace."}

unallowed := {"rule": "SYS-009", "message": "No policy bundle allows this call."}

# METADATA
# title: Findings
# description: A body that a strict reader objects to may mean one thing here and another at the provider.
# labels:
#   rule: SYS-001
denials contains {"rule": "SYS-001", "message": message} if {
	count(input.call.findings) > 0
	message := sprintf("The call cannot be judged safely: %s.", [concat(", ", input.call.findings)])
}

# METADATA
# title: Unknown surface
# description: A path on a model host that no codec reads is refused.
# labels:
#   rule: SYS-002
denials contains {"rule": "SYS-002", "message": "No codec reads this path of the model provider."} if {
	input.destination.kind == "model"
	not known_surface
}

# METADATA
# title: Unlisted destination
# description: A named host that is neither a model provider nor named by the profile.
# labels:
#   rule: SYS-003
denials contains {"rule": "SYS-003", "message": "The host is no model provider, and the profile does not name it."} if {
	input.destination.kind == "other"
}

# METADATA
# title: Unknown destination
# description: A connection without a name that can be read.
# labels:
#   rule: SYS-004
denials contains {"rule": "SYS-004", "message": "The connection's destination has no name that can be read."} if {
	not named_destination
}

# METADATA
# title: Kill switch
# description: The profile refuses every call.
# labels:
#   rule: SYS-005
denials contains {"rule": "SYS-005", "message": "The kill switch is on."} if {
	not input.kill_switch == false
}

# METADATA
# title: Input version
# description: The sidecar speaks another version of the input than this policy was written for.
# labels:
#   rule: SYS-006
denials contains {"rule": "SYS-006", "message": "The input is not of the version that the policy was written for."} if {
	not input.version == 1
}

# METADATA
# title: Malformed input
# description: A field that decisions rest on is missing or of another type.
# labels:
#   rule: SYS-007
denials contains {"rule": "SYS-007", "message": "The input of the decision is malformed."} if {
	not well_formed
}

# METADATA
# title: Canary
# description: |
#   A string that must never be in a call is in this one. The message does not say which, as the caller reads it; the decision record does. A sidecar that is
#   older than this rule sends no such field.
# labels:
#   rule: SYS-013
denials contains {"rule": "SYS-013", "message": "The call holds a string that must not leave."} if {
	canaries != []
}

# METADATA
# title: Denials of the bundles
# description: Any element of any bundle's deny refuses, whatever its shape.
bundle_denials contains reason_of(element) if {
	some name
	deny := data.sallyport.bundle[name].deny
	some element in elements_of(deny)
}

# METADATA
# title: Malformed deny
# description: What is not a set of reasons denies, since nobody can say what it holds.
elements_of(deny) := deny if {
	is_set(deny)
} else := {{"rule": "SYS-010", "message": "A policy bundle's deny is not a set of reasons."}}

# METADATA
# title: Reason
# description: A denial stands even where its reason is malformed.
reason_of(element) := {"rule": element.rule, "message": element.message} if {
	is_string(element.rule)
	is_string(element.message)
} else := {"rule": "SYS-011", "message": "A policy bundle denies this call without a well-formed reason."}

# METADATA
# title: Obligations
# description: |
#   What a release is bound to, joined over all bundles: how the response is handled (the strictest counts), and which
#   kinds of sensitive text are taken out of the request.
obligations contains element if {
	some name
	wanted := data.sallyport.bundle[name].obligations
	some element in obligations_of(wanted)
}

# METADATA
# title: Malformed obligations
# description: What is not a set of obligations is one that nobody knows.
obligations_of(wanted) := wanted if {
	is_set(wanted)
} else := {"malformed"}

# METADATA
# title: Unknown obligation
# description: A release that is bound to something that the gate cannot do is none.
# labels:
#   rule: SYS-012
obligation_denials contains {"rule": "SYS-012", "message": "A policy bundle asks for an obligation that is not known."} if {
	some element in obligations
	not element in known_obligations
}

known_obligations := {
	{"response": "observe"},
	{"response": "cut"},
	{"response": "hold-tool-calls"},
	{"response": "hold-all"},
	{"redact": "credential"},
	{"redact": "credit_card"},
	{"redact": "email"},
	{"redact": "iban"},
	{"redact": "phone"},
}

# METADATA
# title: Permitted
# description: A tunnel that the profile names, or a model call that at least one bundle allows.
permitted if input.destination.kind == "passthrough"

permitted if {
	input.destination.kind == "model"
	known_surface
	some name
	data.sallyport.bundle[name].allow == true
}

# METADATA
# title: In order
# description: The opposite of every system denial, said positively, so that nothing is released by a rule that did not fire.
in_order if {
	input.version == 1
	input.kill_switch == false
	input.call.findings == []
	canaries == []
	well_formed
}

canaries := object.get(input.call, "canaries", [])

has_bundle if {
	some name
	data.sallyport.manifest.sources[name]
}

known_surface if {
	is_string(input.call.surface)
	not input.call.surface in {"", "unknown"}
	input.call.class in {"model", "auxiliary", "dead_drop", "tool"}
	is_string(input.destination.method)
	input.destination.method != ""
}

named_destination if input.destination.kind in {"model", "passthrough", "other"}

well_formed if {
	input.mode in {"enforce", "observe"}
	is_string(input.workload.namespace)
	is_string(input.destination.host)
	is_string(input.destination.provider)
	is_string(input.call.model)
	is_boolean(input.call.stream)
	is_array(input.call.roles)
	is_array(input.call.tools)
	is_array(input.call.server_tools)
	is_array(input.call.tool_calls)
	is_array(input.call.findings)
	is_array(input.call.server_tool_classes)
	is_array(input.call.remote_mcp_hosts)
	is_array(input.call.url_hosts)
	is_array(input.call.attachment_kinds)
	is_string(input.call.class)
	is_string(input.call.rpc_method)
	is_object(input.call.sensitive)
	is_number(input.call.max_tokens)
	is_number(input.call.body_bytes)
	is_boolean(input.session.tainted)
	is_boolean(input.anomaly.ready)
	is_boolean(input.anomaly.exceeds)
	is_number(input.anomaly.threshold)
	unit(input.anomaly.score)
	unit(input.anomaly.percentile)
	consistent
	input.phase in {"request", "response"}
	is_array(input.response.tool_calls)
	is_number(input.response.status)
}

# The detector's verdict says of itself whether its score is over its threshold. A verdict that contradicts itself is none.
consistent if input.anomaly.exceeds == true

consistent if input.anomaly.ready == false

consistent if input.anomaly.score <= input.anomaly.threshold

unit(x) if {
	is_number(x)
	x >= 0
	x <= 1
}
