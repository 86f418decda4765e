package google

import (
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// The members of a tool, each of which is a tool of its own in the normal form.
const (
	toolFunctions = iota
	toolComputerUse
	toolMCPServers
	toolRetrieval
	toolOthers
)

// toolNames are the members of a tool; serverTools the classes of those from toolOthers on, which the provider carries out.
var (
	toolNames = known("functionDeclarations", "computerUse", "mcpServers", "retrieval",
		"codeExecution", "enterpriseWebSearch", "exaAiSearch", "fileSearch", "googleMaps", "googleSearch", "googleSearchRetrieval", "parallelAiSearch", "urlContext")
	serverTools = []llm.ServerTool{
		llm.ServerToolCodeExecution, llm.ServerToolWebSearch, llm.ServerToolWebSearch, llm.ServerToolFileSearch, llm.ServerToolOther, llm.ServerToolWebSearch,
		llm.ServerToolWebSearch, llm.ServerToolWebSearch, llm.ServerToolWebFetch,
	}
)

// tool reads one of tools. A member that is unknown is taken for a tool that the provider carries out.
func (d decoder) tool(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	for k, m := range v.Members() {
		if m.Kind() == strictjson.Null {
			continue
		}
		name := string(appendCamel(nil, k.Text()))
		t := llm.Tool{Name: name, Type: name, Digest: d.Digest(m)}
		switch i := d.member(k, toolNames); i {
		case toolFunctions:
			for f := range each(m) {
				d.function(f)
			}
			continue
		case toolMCPServers:
			for s := range each(m) {
				d.server(s)
			}
			continue
		case toolComputerUse: // the caller carries it out
		case toolRetrieval:
			d.retrieval(m, &t)
		case -1:
			t.ServerSide, t.Class = true, llm.ServerToolOther
		default:
			t.ServerSide, t.Class = true, serverTools[i-toolOthers]
		}
		d.call.Tools = append(d.call.Tools, t)
	}
}

var functionNames = known("name", "description", "parameters", "parametersJsonSchema", "response", "responseJsonSchema", "behavior")

func (d decoder) function(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	t := llm.Tool{Type: "function", Digest: d.Digest(v)}
	for k, m := range v.Members() {
		if d.name(k, functionNames) == "name" {
			t.Name = d.Str(m)
		}
	}
	if t.Name == "" {
		d.Missing(v, "name")
	}
	d.call.Tools = append(d.call.Tools, t)
}

var (
	serverNames    = known("name", "streamableHttpTransport")
	transportNames = known("url", "headers", "timeout", "sseReadTimeout", "terminateOnClose")
)

// server reads one of mcpServers, which the provider connects to.
func (d decoder) server(v strictjson.Value) {
	if !d.Want(v, wire.Object) {
		return
	}
	t := llm.Tool{Type: "mcp_server", ServerSide: true, Class: llm.ServerToolRemoteMCP, Digest: d.Digest(v)}
	for k, m := range v.Members() {
		switch d.name(k, serverNames) {
		case "name":
			t.Name = d.Str(m)
		case "streamableHttpTransport":
			if !d.Want(m, wire.Object|wire.Null) {
				continue
			}
			for k, m := range m.Members() {
				if d.name(k, transportNames) == "url" {
					t.URL = d.Str(m)
					d.URL(m)
				}
			}
		}
	}
	d.call.Tools = append(d.call.Tools, t)
}

var (
	retrievalNames = known("externalApi", "vertexAiSearch", "vertexRagStore", "disableAttribution")
	externalNames  = known("endpoint", "apiSpec", "apiAuth", "authConfig", "elasticSearchParams", "simpleSearchParams")
)

// retrieval reads a search in stored data, or at an endpoint that the provider is to ask.
func (d decoder) retrieval(v strictjson.Value, t *llm.Tool) {
	t.ServerSide, t.Class = true, llm.ServerToolFileSearch
	if !d.Want(v, wire.Object) {
		return
	}
	for k, m := range v.Members() {
		if d.name(k, retrievalNames) != "externalApi" || !d.Want(m, wire.Object|wire.Null) {
			continue
		}
		t.Class = llm.ServerToolOther
		for k, m := range m.Members() {
			if d.name(k, externalNames) == "endpoint" {
				t.URL = d.Str(m)
				if strings.Contains(t.URL, "://") {
					d.URL(m)
				} else if t.URL != "" {
					d.call.URLs = append(d.call.URLs, "https://"+t.URL)
				}
			}
		}
	}
}
