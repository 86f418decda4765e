package sallyport.bundle.baseline_test

import data.sallyport.bundle.baseline

# A call that the baseline allows. Each test changes what it is about.
call := {
	"version": 1,
	"id": "0197",
	"time_ns": 1,
	"mode": "enforce",
	"kill_switch": false,
	"workload": {"namespace": "agents", "kind": "Deployment", "name": "triage", "pod": "triage-0", "service_account": "triage"},
	"destination": {
		"kind": "model", "provider": "openai", "scheme": "https", "host": "api.openai.com", "port": 443,
		"method": "POST", "path": "/v1/chat/completions", "address": "203.0.113.7",
	},
	"call": {
		"surface": "openai.chat_completions", "class": "model", "operation": "chat", "model": "gpt-4o", "stream": true,
		"rpc_method": "", "server_tool_classes": [], "remote_mcp_hosts": [], "url_hosts": [], "attachment_kinds": [],
		"sensitive": {"credential": -1, "credit_card": -1, "email": -1, "iban": -1, "phone": -1},
		"messages": 2, "roles": ["system", "user"], "tools": ["get_ticket", "send_mail"], "server_tools": [],
		"tool_calls": [], "max_tokens": 1024, "temperature": 0.2, "body_bytes": 2048, "urls": 0, "attachments": 0,
		"other_models": [], "unknown_fields": [], "findings": [], "canaries": [],
		"novel": {"ready": true, "model": false, "tools": false, "system": false, "destination": false, "credential": false},
	},
	"session": {"id": "s1", "calls": 3, "max_percentile": 0.4, "max_score": 0.4, "tainted": false},
	"anomaly": {
		"ready": true, "score": 0.45, "percentile": 0.5, "threshold": 0.6, "exceeds": false,
		"model_digest": "d", "top_features": [],
	},
	"phase": "request",
	"response": {
		"status": 0, "model": "", "finish_reason": "", "tool_calls": [],
		"usage": {"input": 0, "output": 0, "cached": 0, "reasoning": 0},
	},
}

# A call of a surface of another class, which need not name a model.
surface(class, name) := json.patch(call, [
	{"op": "replace", "path": "/call/class", "value": class},
	{"op": "replace", "path": "/call/surface", "value": name},
	{"op": "replace", "path": "/call/model", "value": ""},
])

with_field(path, value) := json.patch(call, [{"op": "replace", "path": path, "value": value}])

without(path) := json.patch(call, [{"op": "remove", "path": path}])

rules(document) := {reason.rule | some reason in baseline.deny with input as document}

test_allows_an_ordinary_call if {
	baseline.allow with input as call
	count(rules(call)) == 0
}

test_allows[name] if {
	some name, document in {
		"dated openai snapshot": with_field("/call/model", "gpt-4o-2024-08-06"),
		"dated anthropic snapshot": json.patch(call, [
			{"op": "replace", "path": "/destination/provider", "value": "anthropic"},
			{"op": "replace", "path": "/call/model", "value": "claude-sonnet-4-5-20250929"},
		]),
		"fallback on the list": with_field("/call/other_models", ["gpt-4o-mini"]),
		"list of models": surface("auxiliary", "openai.models"),
		"moderation without a model": surface("auxiliary", "openai.moderations"),
		"no limit on output": with_field("/call/max_tokens", -1),
		"limit on output reached": with_field("/call/max_tokens", 65536),
		"unknown top-level fields": with_field("/call/unknown_fields", ["store"]),
		"cold detector": with_field("/anomaly", object.union(call.anomaly, {
			"ready": false, "score": 0, "percentile": 0, "threshold": 0,
		})),
		"tainted session, reading tools": json.patch(call, [
			{"op": "replace", "path": "/session/tainted", "value": true},
			{"op": "replace", "path": "/call/tool_calls", "value": ["get_ticket", "listFiles", "SearchDocs"]},
		]),
		"tainted session, no tools": with_field("/session/tainted", true),
		"writing tools, untainted session": with_field("/call/tool_calls", ["send_mail"]),
	}
	baseline.allow with input as document
	count(rules(document)) == 0
}

test_denies[name] if {
	some name, tc in {
		"model of no list": {"rule": "MODEL-001", "input": with_field("/call/model", "gpt-3.5-turbo")},
		"no model": {"rule": "MODEL-001", "input": with_field("/call/model", "")},
		"model of another provider": {"rule": "MODEL-001", "input": with_field("/call/model", "claude-sonnet-4-5")},
		"provider of no list": {"rule": "MODEL-001", "input": with_field("/destination/provider", "other")},
		"model with something appended": {"rule": "MODEL-001", "input": with_field("/call/model", "gpt-4o-evil")},
		"fallback of no list": {"rule": "MODEL-002", "input": with_field("/call/other_models", ["gpt-4o-mini", "gpt-3.5-turbo"])},
		"score over the threshold": {"rule": "ANOM-001", "input": with_field("/anomaly/exceeds", true)},
		"tainted session, writing tool": {"rule": "ANOM-002", "input": json.patch(call, [
			{"op": "replace", "path": "/session/tainted", "value": true},
			{"op": "replace", "path": "/call/tool_calls", "value": ["get_ticket", "send_mail"]},
		])},
		"tainted session, tool without words": {"rule": "ANOM-002", "input": json.patch(call, [
			{"op": "replace", "path": "/session/tainted", "value": true},
			{"op": "replace", "path": "/call/tool_calls", "value": ["__"]},
		])},
		"server-side tool": {"rule": "TOOL-001", "input": with_field("/call/server_tool_classes", ["web_search"])},
		"dead drop": {"rule": "DROP-001", "input": surface("dead_drop", "openai.files")},
		"tool server": {"rule": "TOOL-002", "input": surface("tool", "mcp.message")},
		"moderation by a model of no list": {"rule": "MODEL-001", "input": json.patch(call, [
			{"op": "replace", "path": "/call/class", "value": "auxiliary"},
			{"op": "replace", "path": "/call/model", "value": "x"},
		])},
		"too many output tokens": {"rule": "COST-001", "input": with_field("/call/max_tokens", 65537)},
	}
	rules(tc.input) == {tc.rule}
	not baseline.allow with input as tc.input
}

# What the constants list is allowed.
test_listed_surface if {
	baseline.allow with input as surface("dead_drop", "openai.files") with baseline.surfaces as {"openai.files"}
	count(baseline.deny) == 0 with input as surface("tool", "mcp.message") with baseline.surfaces as {"mcp.message"}
}

test_listed_server_tool if {
	document := with_field("/call/server_tool_classes", ["web_search"])
	baseline.allow with input as document with baseline.server_tool_classes as {"web_search"}
	count(baseline.deny) == 0 with input as document with baseline.server_tool_classes as {"web_search"}
}

test_new_to_the_workload if {
	document := with_field("/call/novel/credential", true)
	baseline.allow with input as document
	rules(document) == set()
	rules(document) == {"NOVEL-001"} with baseline.refused_if_new as {"credential", "model"}
	not baseline.allow with input as document with baseline.refused_if_new as {"credential", "model"}
	baseline.allow with input as document with baseline.refused_if_new as {"destination"}
	rules(document) == set() with baseline.refused_if_new as {"destination"}
	not baseline.allow with input as without("/call/novel") with baseline.refused_if_new as {"destination"}
	rules(without("/call/novel")) == {"NOVEL-001"} with baseline.refused_if_new as {"destination"}
}

# A field that is missing, null or of another type must not open anything.
test_does_not_allow[name] if {
	some name, document in {
		"null exceeds": with_field("/anomaly/exceeds", null),
		"null ready": with_field("/anomaly/ready", null),
		"null taint": with_field("/session/tainted", null),
		"null max_tokens": with_field("/call/max_tokens", null),
		"max_tokens below -1": with_field("/call/max_tokens", -2),
		"null other_models": with_field("/call/other_models", null),
		"missing other_models": without("/call/other_models"),
		"null server_tool_classes": with_field("/call/server_tool_classes", null),
		"missing server_tool_classes": without("/call/server_tool_classes"),
		"null class": with_field("/call/class", null),
		"missing class": without("/call/class"),
		"class of a later version": with_field("/call/class", "drone"),
		"null model": with_field("/call/model", null),
		"null kind": with_field("/destination/kind", null),
		"tunnel": with_field("/destination/kind", "passthrough"),
		"empty": {},
	}
	not baseline.allow with input as document
}
