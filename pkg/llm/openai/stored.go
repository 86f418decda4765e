package openai

import (
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/internal/wire"
	"sallyport.dev/sallyport/pkg/llm/strictjson"
)

// Requests that leave something at the provider, or say how, are read by one decoder that puts everything in sight: what they are made of
// changes nothing about what they are for somebody who guards the way out. Their class is denied unless a bundle allows it.

// The members of the requests that store something.
var (
	chatUpdateFields = wire.Fields{"metadata": anObject}
	uploadFields     = wire.Fields{"bytes": anInteger, "expires_after": anObject, "filename": aString, "mime_type": aString, "purpose": aString}
	completeFields   = wire.Fields{"part_ids": aList, "md5": aString}
	batchFields      = wire.Fields{"completion_window": aString, "endpoint": aString, "input_file_id": aString, "metadata": anObject, "output_expires_after": anObject}

	vectorStoreFields = wire.Fields{"chunking_strategy": anObject, "description": aString, "expires_after": anObject, "file_ids": aList, "metadata": anObject, "name": aString}
	vectorSearch      = wire.Fields{"filters": anObject, "max_num_results": anInteger, "query": aStringOrList, "ranking_options": anObject, "rewrite_query": aBool}
	vectorFileFields  = wire.Fields{"attributes": anObject, "chunking_strategy": anObject, "file_id": aString}
	vectorBatchFields = wire.Fields{"attributes": anObject, "chunking_strategy": anObject, "file_ids": aList, "files": aList}

	fineTuningFields = wire.Fields{"hyperparameters": anObject, "integrations": aList, "metadata": anObject, "method": anObject, "model": aString, "seed": anInteger, "suffix": aString,
		"training_file": aString, "validation_file": aString}
	permissionFields = wire.Fields{"project_ids": aList}

	containerFields  = wire.Fields{"expires_after": anObject, "file_ids": aList, "memory_limit": aString, "name": aString, "network_policy": anObject, "skills": aList}
	videoRemixFields = wire.Fields{"prompt": aString}

	assistantFields = wire.Fields{"description": aString, "instructions": aString, "metadata": anObject, "model": aString, "name": aString, "reasoning_effort": aString,
		"response_format": aStringOrObject, "temperature": aNumber, "tool_resources": anObject, "tools": aList, "top_p": aNumber}
	threadFields        = wire.Fields{"messages": aList, "metadata": anObject, "tool_resources": anObject}
	threadMessageFields = wire.Fields{"attachments": aList, "content": aStringOrList, "metadata": anObject, "role": aString}
	runFields           = wire.Fields{"additional_instructions": aString, "additional_messages": aList, "assistant_id": aString, "instructions": aString, "max_completion_tokens": anInteger,
		"max_prompt_tokens": anInteger, "metadata": anObject, "model": aString, "parallel_tool_calls": aBool, "reasoning_effort": aString, "response_format": aStringOrObject,
		"stream": aBool, "temperature": aNumber, "thread": anObject, "tool_choice": aStringOrObject, "tool_resources": anObject, "tools": aList, "top_p": aNumber,
		"truncation_strategy": anObject}
	toolOutputFields = wire.Fields{"stream": aBool, "tool_outputs": aList}
)

// stores returns a reader of a body with the known members.
func stores(known wire.Fields) reader {
	return func(call *llm.Call, r *llm.Request, lim llm.Limits) {
		readObject(call, r, lim, known, decoder.stored)
	}
}

// storesOrNothing returns a reader of a body with the known members, which may be absent.
func storesOrNothing(known wire.Fields) reader {
	return func(call *llm.Call, r *llm.Request, lim llm.Limits) {
		if len(r.Body) == 0 {
			wire.NoBody(call, r, lim)
			return
		}
		readObject(call, r, lim, known, decoder.stored)
	}
}

// stored reads a body, all of which becomes one message of the user.
func (d decoder) stored(root strictjson.Value) {
	d.begin(llm.RoleUser, root)
	for k, v := range root.Members() {
		switch name := string(k.Bare()); {
		case name == "model":
			d.call.Model = string(v.Text())
		case name == "stream":
			d.call.Stream = v.Bool()
		case name == "temperature":
			d.Temperature(v)
		case name == "max_completion_tokens":
			d.maxTokens(v)
		case name == "tools":
			for t := range v.Elements() {
				d.flatTool(t)
			}
		case v.Kind() == strictjson.String:
			d.text(llm.PartText, v)
		case v.Kind() == strictjson.Array || v.Kind() == strictjson.Object:
			if v.Len() > 0 {
				d.Unknown(v)
			}
		}
	}
}
