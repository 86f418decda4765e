package sdkcheck_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/conversations"
	"github.com/openai/openai-go/v3/realtime"
	"github.com/openai/openai-go/v3/responses"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

func openaiRow(t *testing.T, method, path string) llm.Row {
	t.Helper()
	for _, r := range openai.Rows {
		if r.Method == method && r.Path == path {
			return r
		}
	}
	t.Fatalf("no row %s %s", method, path)
	return llm.Row{}
}

// members returns what a struct of the SDK has for a tag: "json" or "query".
func members(t reflect.Type, tag string) (names []string, fields []reflect.StructField) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get(tag), ",")
		if name == "" || name == "-" || strings.Contains(options, "inline") {
			continue
		}
		names, fields = append(names, name), append(fields, f)
	}
	return names, fields
}

// variants returns the structs that a union of the SDK can be, by the type that each says it is.
func variants(union reflect.Type) map[string]reflect.Type {
	out := map[string]reflect.Type{}
	for i := range union.NumField() {
		f := union.Field(i)
		v := f.Type
		if v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if !strings.HasPrefix(f.Name, "Of") || v.Kind() != reflect.Struct {
			continue
		}
		if kind, ok := v.FieldByName("Type"); ok && kind.Tag.Get("default") != "" {
			out[kind.Tag.Get("default")] = v
		}
	}
	return out
}

// Every member of a body that the official SDK can send is known to the row that reads it.
func TestOpenAIMembers(t *testing.T) {
	for _, c := range []struct {
		method, path string
		params       reflect.Type
	}{
		{"POST", "/v1/chat/completions", reflect.TypeFor[sdk.ChatCompletionNewParams]()},
		{"POST", "/v1/chat/completions/{completion_id}", reflect.TypeFor[sdk.ChatCompletionUpdateParams]()},
		{"POST", "/v1/completions", reflect.TypeFor[sdk.CompletionNewParams]()},
		{"POST", "/v1/responses", reflect.TypeFor[responses.ResponseNewParams]()},
		{"POST", "/v1/responses/compact", reflect.TypeFor[responses.ResponseCompactParams]()},
		{"POST", "/v1/responses/input_tokens", reflect.TypeFor[responses.InputTokenCountParams]()},
		{"POST", "/v1/conversations", reflect.TypeFor[conversations.ConversationNewParams]()},
		{"POST", "/v1/conversations/{conversation_id}", reflect.TypeFor[conversations.ConversationUpdateParams]()},
		{"POST", "/v1/conversations/{conversation_id}/items", reflect.TypeFor[conversations.ItemNewParams]()},
		{"POST", "/v1/realtime/client_secrets", reflect.TypeFor[realtime.ClientSecretNewParams]()},
		{"POST", "/v1/realtime/translations/client_secrets", reflect.TypeFor[realtime.RealtimeTranslationClientSecretCreateRequestParam]()},
		{"POST", "/v1/embeddings", reflect.TypeFor[sdk.EmbeddingNewParams]()},
		{"POST", "/v1/moderations", reflect.TypeFor[sdk.ModerationNewParams]()},
		{"POST", "/v1/images/generations", reflect.TypeFor[sdk.ImageGenerateParams]()},
		{"POST", "/v1/audio/speech", reflect.TypeFor[sdk.AudioSpeechNewParams]()},
		{"POST", "/v1/videos/{video_id}/remix", reflect.TypeFor[sdk.VideoRemixParams]()},
		{"POST", "/v1/uploads", reflect.TypeFor[sdk.UploadNewParams]()},
		{"POST", "/v1/uploads/{upload_id}/complete", reflect.TypeFor[sdk.UploadCompleteParams]()},
		{"POST", "/v1/batches", reflect.TypeFor[sdk.BatchNewParams]()},
		{"POST", "/v1/vector_stores", reflect.TypeFor[sdk.VectorStoreNewParams]()},
		{"POST", "/v1/vector_stores/{vector_store_id}", reflect.TypeFor[sdk.VectorStoreUpdateParams]()},
		{"POST", "/v1/vector_stores/{vector_store_id}/search", reflect.TypeFor[sdk.VectorStoreSearchParams]()},
		{"POST", "/v1/vector_stores/{vector_store_id}/files", reflect.TypeFor[sdk.VectorStoreFileNewParams]()},
		{"POST", "/v1/vector_stores/{vector_store_id}/files/{file_id}", reflect.TypeFor[sdk.VectorStoreFileUpdateParams]()},
		{"POST", "/v1/vector_stores/{vector_store_id}/file_batches", reflect.TypeFor[sdk.VectorStoreFileBatchNewParams]()},
		{"POST", "/v1/fine_tuning/jobs", reflect.TypeFor[sdk.FineTuningJobNewParams]()},
		{"POST", "/v1/fine_tuning/checkpoints/{checkpoint}/permissions", reflect.TypeFor[sdk.FineTuningCheckpointPermissionNewParams]()},
		{"POST", "/v1/containers", reflect.TypeFor[sdk.ContainerNewParams]()},
		{"POST", "/v1/assistants", reflect.TypeFor[sdk.BetaAssistantNewParams]()},
		{"POST", "/v1/assistants/{assistant_id}", reflect.TypeFor[sdk.BetaAssistantUpdateParams]()},
		{"POST", "/v1/threads", reflect.TypeFor[sdk.BetaThreadNewParams]()},
		{"POST", "/v1/threads/runs", reflect.TypeFor[sdk.BetaThreadNewAndRunParams]()},
		{"POST", "/v1/threads/{thread_id}", reflect.TypeFor[sdk.BetaThreadUpdateParams]()},
		{"POST", "/v1/threads/{thread_id}/messages", reflect.TypeFor[sdk.BetaThreadMessageNewParams]()},
		{"POST", "/v1/threads/{thread_id}/messages/{message_id}", reflect.TypeFor[sdk.BetaThreadMessageUpdateParams]()},
		{"POST", "/v1/threads/{thread_id}/runs", reflect.TypeFor[sdk.BetaThreadRunNewParams]()},
		{"POST", "/v1/threads/{thread_id}/runs/{run_id}", reflect.TypeFor[sdk.BetaThreadRunUpdateParams]()},
		{"POST", "/v1/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", reflect.TypeFor[sdk.BetaThreadRunSubmitToolOutputsParams]()},
	} {
		row := openaiRow(t, c.method, c.path)
		names, _ := members(c.params, "json")
		if len(names) == 0 {
			t.Errorf("%s has no members", c.params)
		}
		for _, name := range names {
			call := row.Decode(&llm.Request{Method: c.method, Path: c.path, ContentType: "application/json", Body: []byte(`{"` + name + `":null}`)}, llm.DefaultLimits())
			if len(call.UnknownFields) > 0 {
				t.Errorf("%s: %s is unknown", c.path, name)
			}
		}
	}
}

// Every part of a form that the official SDK can send is known to the row that reads it.
func TestOpenAIFormParts(t *testing.T) {
	for _, c := range []struct {
		path   string
		params reflect.Type
	}{
		{"/v1/images/edits", reflect.TypeFor[sdk.ImageEditParams]()},
		{"/v1/images/variations", reflect.TypeFor[sdk.ImageNewVariationParams]()},
		{"/v1/audio/transcriptions", reflect.TypeFor[sdk.AudioTranscriptionNewParams]()},
		{"/v1/audio/translations", reflect.TypeFor[sdk.AudioTranslationNewParams]()},
		{"/v1/files", reflect.TypeFor[sdk.FileNewParams]()},
		{"/v1/uploads/{upload_id}/parts", reflect.TypeFor[sdk.UploadPartNewParams]()},
		{"/v1/containers/{container_id}/files", reflect.TypeFor[sdk.ContainerFileNewParams]()},
	} {
		row := openaiRow(t, "POST", c.path)
		names, fields := members(c.params, "json")
		for i, name := range names {
			var forms []string
			switch kind := fields[i].Type; {
			case kind.Kind() == reflect.Slice:
				forms = []string{name + "[]"}
			case kind.Kind() == reflect.Struct && !strings.HasPrefix(kind.Name(), "Opt[") && !strings.HasSuffix(kind.Name(), "Union"):
				inner, _ := members(kind, "json")
				for _, n := range inner {
					forms = append(forms, name+"["+n+"]")
				}
			default:
				forms = []string{name}
			}
			for _, name := range forms {
				body := "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\nx\r\n--b--\r\n"
				call := row.Decode(&llm.Request{Method: "POST", Path: c.path, ContentType: "multipart/form-data; boundary=b", Body: []byte(body)}, llm.DefaultLimits())
				if len(call.UnknownFields) > 0 {
					t.Errorf("%s: %s is unknown", c.path, name)
				}
			}
		}
	}
}

// Every parameter of a query that the official SDK can send is known to the row that reads it. It writes lists with "[]" after the name.
func TestOpenAIQueries(t *testing.T) {
	for _, c := range []struct {
		path   string
		params reflect.Type
	}{
		{"/v1/chat/completions", reflect.TypeFor[sdk.ChatCompletionListParams]()},
		{"/v1/chat/completions/{completion_id}/messages", reflect.TypeFor[sdk.ChatCompletionMessageListParams]()},
		{"/v1/responses/{response_id}", reflect.TypeFor[responses.ResponseGetParams]()},
		{"/v1/responses/{response_id}/input_items", reflect.TypeFor[responses.InputItemListParams]()},
		{"/v1/conversations/{conversation_id}/items", reflect.TypeFor[conversations.ItemListParams]()},
		{"/v1/conversations/{conversation_id}/items/{item_id}", reflect.TypeFor[conversations.ItemGetParams]()},
		{"/v1/files", reflect.TypeFor[sdk.FileListParams]()},
		{"/v1/batches", reflect.TypeFor[sdk.BatchListParams]()},
		{"/v1/vector_stores", reflect.TypeFor[sdk.VectorStoreListParams]()},
		{"/v1/vector_stores/{vector_store_id}/files", reflect.TypeFor[sdk.VectorStoreFileListParams]()},
		{"/v1/vector_stores/{vector_store_id}/file_batches/{batch_id}/files", reflect.TypeFor[sdk.VectorStoreFileBatchListFilesParams]()},
		{"/v1/fine_tuning/jobs", reflect.TypeFor[sdk.FineTuningJobListParams]()},
		{"/v1/fine_tuning/jobs/{job_id}/events", reflect.TypeFor[sdk.FineTuningJobListEventsParams]()},
		{"/v1/fine_tuning/jobs/{job_id}/checkpoints", reflect.TypeFor[sdk.FineTuningJobCheckpointListParams]()},
		{"/v1/fine_tuning/checkpoints/{checkpoint}/permissions", reflect.TypeFor[sdk.FineTuningCheckpointPermissionListParams]()},
		{"/v1/containers", reflect.TypeFor[sdk.ContainerListParams]()},
		{"/v1/containers/{container_id}/files", reflect.TypeFor[sdk.ContainerFileListParams]()},
		{"/v1/videos", reflect.TypeFor[sdk.VideoListParams]()},
		{"/v1/videos/{video_id}/content", reflect.TypeFor[sdk.VideoDownloadContentParams]()},
		{"/v1/assistants", reflect.TypeFor[sdk.BetaAssistantListParams]()},
		{"/v1/threads/{thread_id}/messages", reflect.TypeFor[sdk.BetaThreadMessageListParams]()},
		{"/v1/threads/{thread_id}/runs", reflect.TypeFor[sdk.BetaThreadRunListParams]()},
		{"/v1/threads/{thread_id}/runs/{run_id}/steps", reflect.TypeFor[sdk.BetaThreadRunStepListParams]()},
		{"/v1/threads/{thread_id}/runs/{run_id}/steps/{step_id}", reflect.TypeFor[sdk.BetaThreadRunStepGetParams]()},
	} {
		row := openaiRow(t, "GET", c.path)
		names, fields := members(c.params, "query")
		for i, name := range names {
			if fields[i].Type.Kind() == reflect.Slice {
				name += "[]"
			}
			if !slices.Contains(row.Query, name) {
				t.Errorf("%s: %s is unknown", c.path, name)
			}
		}
	}
}

// clean decodes a body and reports whether all of it is known: that nothing is put in sight as unknown, and nothing has a finding for it.
func clean(row llm.Row, method string, body string) (*llm.Call, bool) {
	call := row.Decode(&llm.Request{Method: method, Path: row.Path, ContentType: "application/json", Body: []byte(body)}, llm.DefaultLimits())
	for _, f := range call.Findings {
		if f.Code == llm.FindingUnknownPart {
			return call, false
		}
	}
	for _, m := range call.Messages {
		for _, p := range m.Parts {
			if p.Kind == llm.PartUnknown {
				return call, false
			}
		}
	}
	return call, len(call.UnknownFields) == 0
}

// Every item, every part of an item's content and every tool that the official SDK can send to the responses is known, and so is every
// member of the items and parts.
func TestOpenAIResponseItems(t *testing.T) {
	row := openaiRow(t, "POST", "/v1/responses")
	items := variants(reflect.TypeFor[responses.ResponseInputItemUnionParam]())
	if len(items) < 25 {
		t.Fatalf("%d items", len(items))
	}
	for kind, item := range items {
		names, _ := members(item, "json")
		for _, name := range names {
			if name == "type" {
				continue
			}
			if _, ok := clean(row, "POST", `{"model":"m","input":[{"type":"`+kind+`","role":"user","`+name+`":null}]}`); !ok && name != "role" {
				// A role belongs to messages only; it is here so that those need not be told apart.
				if call, ok := clean(row, "POST", `{"model":"m","input":[{"type":"`+kind+`","`+name+`":null}]}`); !ok {
					t.Errorf("%s: %s is unknown: %+v", kind, name, call)
				}
			}
		}
	}
	for _, union := range []reflect.Type{reflect.TypeFor[responses.ResponseInputContentUnionParam](), reflect.TypeFor[responses.ResponseOutputMessageContentUnionParam](),
		reflect.TypeFor[responses.ResponseFunctionCallOutputItemUnionParam]()} {
		for kind, part := range variants(union) {
			names, _ := members(part, "json")
			for _, name := range names {
				if name == "type" {
					continue
				}
				if call, ok := clean(row, "POST", `{"model":"m","input":[{"role":"user","content":[{"type":"`+kind+`","`+name+`":null}]}]}`); !ok {
					t.Errorf("%s: %s is unknown: %+v", kind, name, call)
				}
			}
		}
	}
	callers := map[string]bool{"function": true, "custom": true, "local_shell": true, "apply_patch": true, "namespace": true}
	for kind := range variants(reflect.TypeFor[responses.ToolUnionParam]()) {
		call, ok := clean(row, "POST", `{"model":"m","input":"x","tools":[{"type":"`+kind+`","name":"f","tools":[{"type":"function","name":"f"}]}]}`)
		if !ok || len(call.Tools) != 1 || call.Tools[0].ServerSide == callers[kind] || call.Tools[0].Class == llm.ServerToolOther && kind != "tool_search" {
			t.Errorf("the tool %s: %+v", kind, call.Tools)
		}
	}
}

// Every message that the official SDK can send over a WebSocket is known, and every member of it and of the session and response within.
func TestOpenAIMessages(t *testing.T) {
	for _, c := range []struct {
		path  string
		union reflect.Type
		least int
	}{
		{"/v1/responses", reflect.TypeFor[responses.ResponsesClientEventUnionParam](), 2},
		{"/v1/realtime", reflect.TypeFor[realtime.RealtimeClientEventUnionParam](), 11},
		{"/v1/realtime/translations", reflect.TypeFor[realtime.RealtimeTranslationClientEventUnionParam](), 3},
	} {
		row := openaiRow(t, "GET", c.path)
		events := variants(c.union)
		if len(events) < c.least {
			t.Errorf("%s: only %d messages", c.path, len(events))
		}
		for kind, event := range events {
			names, _ := members(event, "json")
			for _, name := range names {
				if name == "type" {
					continue
				}
				call := row.Decode(&llm.Request{Method: llm.MethodMessage, Path: c.path, ContentType: "application/json", Body: []byte(`{"type":"` + kind + `","` + name + `":null}`)}, llm.DefaultLimits())
				if len(call.UnknownFields) > 0 || call.RPCMethod != kind {
					t.Errorf("%s: %s is unknown: %+v", kind, name, call)
				}
			}
		}
	}
	row := openaiRow(t, "GET", "/v1/realtime")
	for _, c := range []struct {
		event, member string
		object        reflect.Type
	}{
		{"session.update", "session", reflect.TypeFor[realtime.RealtimeSessionCreateRequestParam]()},
		{"session.update", "session", reflect.TypeFor[realtime.RealtimeTranscriptionSessionCreateRequestParam]()},
		{"response.create", "response", reflect.TypeFor[realtime.RealtimeResponseCreateParams]()},
	} {
		names, _ := members(c.object, "json")
		for _, name := range names {
			if call, ok := clean(row, llm.MethodMessage, `{"type":"`+c.event+`","`+c.member+`":{"`+name+`":null}}`); !ok {
				t.Errorf("%s: %s is unknown: %+v", c.event, name, call)
			}
		}
	}
	for kind, item := range variants(reflect.TypeFor[realtime.ConversationItemUnionParam]()) {
		names, _ := members(item, "json")
		for _, name := range names {
			if name == "type" {
				continue
			}
			if call, ok := clean(row, llm.MethodMessage, `{"type":"conversation.item.create","item":{"type":"`+kind+`","`+name+`":null}}`); !ok {
				t.Errorf("%s: %s is unknown: %+v", kind, name, call)
			}
		}
	}
}

// What is refused is refused in JSON, on every row.
func TestOpenAIRefusalIsJSON(t *testing.T) {
	for _, row := range openai.Rows {
		if a := row.Refuse(llm.Refusal{Rule: "X-1"}); !json.Valid(a.Body) {
			t.Errorf("%s: %s", row.Path, a.Body)
		}
		if row.RefuseMessage != nil && !json.Valid(row.RefuseMessage(llm.Refusal{Rule: "X-1"})) {
			t.Errorf("%s: the refused message is no JSON", row.Path)
		}
	}
}
