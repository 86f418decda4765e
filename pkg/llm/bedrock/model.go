package bedrock

import (
	"net/url"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
)

// Provider is the gen_ai.provider.name of the calls.
const Provider = "aws.bedrock"

// modelID returns the id or ARN of the model that the path names, its percent-encoding taken off. One that cannot be decoded stays as it is;
// ok is false then.
func modelID(req *llm.Request) (id string, ok bool) {
	if len(req.Vars) == 0 {
		return "", true
	}
	id, err := url.PathUnescape(req.Vars[0])
	if err != nil {
		return req.Vars[0], false
	}
	return id, true
}

// baseModel returns the name of the model itself: what an ARN ends in, without the geography of an inference profile, in
// "arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0" that is
// "anthropic.claude-sonnet-4-5-20250929-v1:0". The ids of custom and imported models and of application profiles say nothing of the model.
func baseModel(id string) string {
	if strings.HasPrefix(id, "arn:") {
		_, resource, ok := strings.Cut(id, "/")
		if !ok {
			return ""
		}
		kind := id[strings.LastIndexByte(id[:len(id)-len(resource)-1], ':')+1 : len(id)-len(resource)-1]
		if kind != "foundation-model" && kind != "inference-profile" {
			return ""
		}
		id = resource
	}
	if geography, rest, ok := strings.Cut(id, "."); ok && strings.Contains(rest, ".") {
		switch geography {
		case "us", "us-gov", "eu", "apac", "au", "ca", "jp", "global":
			return rest
		}
	}
	return id
}
