package standin

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// bedrock registers the runtime API of AWS Bedrock: Converse, and InvokeModel with Anthropic's models.
func (s *Server) bedrock() {
	d := dialect{s.signed, func(w http.ResponseWriter, status int, message string) {
		name := map[int]string{400: "ValidationException", 401: "AccessDeniedException", 403: "AccessDeniedException", 429: "ThrottlingException", 503: "ServiceUnavailableException"}[status]
		if status == http.StatusUnauthorized {
			status = http.StatusForbidden
		}
		if name == "" {
			name = "InternalServerException"
		}
		w.Header().Set("X-Amzn-Errortype", name)
		writeJSON(w, status, object{"message": message})
	}}
	stream := func(read func(*exchange) error) func(*exchange) error {
		return func(e *exchange) error {
			err := read(e)
			e.turn.Stream = true
			return err
		}
	}
	s.handle("POST /model/{model}/converse", d, surface{"bedrock.converse", readConverse, func(e *exchange) { e.json(converse(e)) }})
	s.handle("POST /model/{model}/converse-stream", d, surface{"bedrock.converse_stream", stream(readConverse), converseStream})
	s.handle("POST /model/{model}/invoke", d, surface{"bedrock.invoke_model", readInvoke, func(e *exchange) { e.json(message(e)) }})
	s.handle("POST /model/{model}/invoke-with-response-stream", d, surface{"bedrock.invoke_model_stream", stream(readInvoke), func(e *exchange) {
		e.w.Header().Set("Content-Type", eventStream)
		messageEvents(e, func(event object) {
			b, err := json.Marshal(event)
			if err != nil {
				panic(err) // only maps of plain values are given
			}
			e.frame("chunk", object{"bytes": base64.StdEncoding.EncodeToString(b)})
		})
	}})
}

func readInvoke(e *exchange) error {
	err := readMessages(e)
	e.turn.Model = e.r.PathValue("model")
	return err
}

func readConverse(e *exchange) error {
	var req struct {
		Messages []struct {
			Role    string `json:"role"`
			Content []struct {
				Text  string `json:"text"`
				Image struct {
					Format string `json:"format"`
					Source struct {
						Bytes []byte `json:"bytes"`
					} `json:"source"`
				} `json:"image"`
				ToolResult *struct {
					Content []struct {
						Text string          `json:"text"`
						JSON json.RawMessage `json:"json"`
					} `json:"content"`
				} `json:"toolResult"`
			} `json:"content"`
		} `json:"messages"`
		ToolConfig struct {
			Tools []struct {
				Spec struct {
					Name   string `json:"name"`
					Schema struct {
						JSON schema `json:"json"`
					} `json:"inputSchema"`
				} `json:"toolSpec"`
			} `json:"tools"`
		} `json:"toolConfig"`
	}
	if err := e.decode(&req); err != nil {
		return err
	}
	t := &e.turn
	t.Model = e.r.PathValue("model")
	for _, m := range req.Messages {
		for _, b := range m.Content {
			if len(b.Image.Source.Bytes) > 0 {
				t.Attachments = append(t.Attachments, Attachment{"image/" + b.Image.Format, b.Image.Source.Bytes})
			}
			if b.ToolResult != nil {
				text := ""
				for _, c := range b.ToolResult.Content {
					text += c.Text + string(c.JSON)
				}
				t.ToolResults = append(t.ToolResults, text)
			}
			if m.Role == "user" && t.Task == "" {
				t.Task = b.Text
			}
		}
	}
	for _, tl := range req.ToolConfig.Tools {
		t.Tools = append(t.Tools, Tool{tl.Spec.Name, tl.Spec.Schema.JSON.Required})
	}
	return nil
}

func (e *exchange) bedrockUsage() object {
	in, out := e.usage()
	return object{"inputTokens": in, "outputTokens": out, "totalTokens": in + out}
}

func converse(e *exchange) object {
	content, stop := object{"text": e.reply.Text}, "end_turn"
	if e.calls() {
		content, stop = object{"toolUse": object{"toolUseId": e.id("tooluse_"), "name": e.reply.Tool, "input": json.RawMessage(e.reply.Arguments)}}, "tool_use"
	}
	return object{"output": object{"message": object{"role": "assistant", "content": []any{content}}}, "stopReason": stop, "usage": e.bedrockUsage(), "metrics": object{"latencyMs": 40}}
}

func converseStream(e *exchange) {
	e.w.Header().Set("Content-Type", eventStream)
	e.frame("messageStart", object{"role": "assistant"})
	stop := "end_turn"
	if e.calls() {
		stop = "tool_use"
		e.frame("contentBlockStart", object{"contentBlockIndex": 0, "start": object{"toolUse": object{"toolUseId": e.id("tooluse_"), "name": e.reply.Tool}}})
		e.frame("contentBlockDelta", object{"contentBlockIndex": 0, "delta": object{"toolUse": object{"input": e.reply.Arguments}}})
	} else {
		for i, piece := range e.pieces() {
			if !e.pace.next(e.r, i) {
				return
			}
			e.frame("contentBlockDelta", object{"contentBlockIndex": 0, "delta": object{"text": piece}})
		}
	}
	e.frame("contentBlockStop", object{"contentBlockIndex": 0})
	e.frame("messageStop", object{"stopReason": stop})
	e.frame("metadata", object{"usage": e.bedrockUsage(), "metrics": object{"latencyMs": 40}})
}

// eventStream is the media type of AWS's framing.
const eventStream = "application/vnd.amazon.eventstream"

// frame sends one event of an AWS event stream.
func (e *exchange) frame(event string, v object) {
	payload, err := json.Marshal(v)
	if err != nil {
		panic(err) // only maps of plain values are given
	}
	var headers []byte
	for _, h := range [][2]string{{":event-type", event}, {":content-type", "application/json"}, {":message-type", "event"}} {
		headers = append(headers, byte(len(h[0])))
		headers = append(headers, h[0]...)
		headers = append(headers, 7) // the value is a string
		headers = binary.BigEndian.AppendUint16(headers, uint16(len(h[1])))
		headers = append(headers, h[1]...)
	}
	f := binary.BigEndian.AppendUint32(nil, uint32(16+len(headers)+len(payload)))
	f = binary.BigEndian.AppendUint32(f, uint32(len(headers)))
	f = binary.BigEndian.AppendUint32(f, crc32.ChecksumIEEE(f))
	f = append(append(f, headers...), payload...)
	f = binary.BigEndian.AppendUint32(f, crc32.ChecksumIEEE(f))
	_, _ = e.w.Write(f)
	_ = http.NewResponseController(e.w).Flush()
}

// signed checks AWS Signature Version 4, as docs.aws.amazon.com has it under "Create a signed AWS API request".
func (s *Server) signed(r *http.Request, body []byte) bool {
	if s.opts.AWSAccessKey == "" {
		return true
	}
	fields, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return false
	}
	says := map[string]string{}
	for _, f := range strings.Split(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		says[name] = value
	}
	key, scope, _ := strings.Cut(says["Credential"], "/")
	parts := strings.Split(scope, "/") // date, region, service, "aws4_request"
	if key != s.opts.AWSAccessKey || len(parts) != 4 {
		return false
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if h := r.Header.Get("X-Amz-Content-Sha256"); h != "" && h != hash {
		return false
	}
	var canonical strings.Builder
	// Every segment of the path is encoded once more than it is sent.
	segments := strings.Split(r.URL.EscapedPath(), "/")
	for i, seg := range segments {
		segments[i] = awsEscape(seg)
	}
	fmt.Fprintf(&canonical, "%s\n%s\n%s\n", r.Method, strings.Join(segments, "/"), canonicalQuery(r.URL.Query()))
	names := strings.Split(says["SignedHeaders"], ";")
	// Over HTTP/2 the host has another name.
	named := slices.Contains(names, "host") || slices.Contains(names, ":authority")
	if !slices.IsSorted(names) || !named || !slices.Contains(names, "x-amz-date") {
		return false
	}
	for _, n := range names {
		value := strings.Join(r.Header.Values(n), ",")
		switch n {
		case "host", ":authority":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&canonical, "%s:%s\n", n, strings.Join(strings.Fields(value), " "))
	}
	fmt.Fprintf(&canonical, "\n%s\n%s", says["SignedHeaders"], hash)
	sum = sha256.Sum256([]byte(canonical.String()))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hex.EncodeToString(sum[:])}, "\n")
	mac := []byte("AWS4" + s.opts.AWSSecretKey)
	for _, p := range append(parts, text) {
		m := hmac.New(sha256.New, mac)
		m.Write([]byte(p))
		mac = m.Sum(nil)
	}
	given, err := hex.DecodeString(says["Signature"])
	return err == nil && bytes.Equal(given, mac)
}

func awsEscape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func canonicalQuery(q url.Values) string {
	var pairs []string
	for name, values := range q {
		for _, v := range values {
			pairs = append(pairs, awsEscape(name)+"="+awsEscape(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}
