package gate_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/detector/detectortest"
	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/llm"
)

// mostMemory is what a sidecar's knowledge of its workload may take: conversations, baseline and model.
const mostMemory = 8 << 20

// Conversations, a baseline and a model that are as full as they get take less than what a sidecar has for them. A model has a baseline of its own, so that this is
// more than there is at any time but while one model takes another's place.
func TestMemory(t *testing.T) {
	encoded := encodedModel(t)

	before := heap()
	model, err := detector.Load(append([]byte(nil), encoded...))
	if err != nil {
		t.Fatal(err)
	}
	afterModel := heap()

	baseline := features.NewBaseline()
	var v features.Vector
	var e features.Evidence
	for i := range 6000 {
		call := &llm.Call{Model: fmt.Sprint("model-", i), Messages: []llm.Message{
			{Role: llm.RoleSystem, Parts: []llm.Part{{Kind: llm.PartText, Text: []byte(fmt.Sprint("you are ", letters(i)))}}},
			{Role: llm.RoleAssistant, Parts: []llm.Part{
				{Kind: llm.PartToolCall, ToolName: letters(i), Text: []byte(`{"u":"https://` + letters(i) + `.example/"}`)},
				{Kind: llm.PartToolCall, ToolName: letters(7 * i), Text: []byte(`{}`)},
			}},
			{Role: llm.RoleTool, Parts: []llm.Part{{Kind: llm.PartToolResult, ToolName: letters(i), Text: []byte(fmt.Sprint(letters(i), " ", letters(i+1), " ", letters(2*i)))}}},
		}}
		call.Tools = []llm.Tool{{Digest: llm.Digest{byte(i), byte(i >> 8)}}}
		features.Extract(&v, &e, call, nil, &features.Context{Salt: 1, Destination: fmt.Sprint(letters(i), ":443"), Credential: []byte(letters(i)), Now: start.Add(time.Duration(i) * time.Hour)})
		baseline.Learn(&e)
	}
	afterBaseline := heap()

	sessions := features.NewSessions(0, 0)
	for i := range 5000 {
		messages := []llm.Message{{Role: llm.RoleUser}}
		messages[0].Digest = llm.Digest{byte(i), byte(i >> 8), 1}
		for k := range 34 { // most conversations with most messages
			turn := sessions.Begin(&llm.Call{Model: "m", Messages: messages}, start)
			if k%2 == 0 || k == 33 {
				sessions.Settle(turn, features.Outcome{Released: true}, start)
				sessions.Answered(turn, fmt.Sprint("resp_", i, "_", k))
			}
			messages = append(messages, llm.Message{Role: llm.RoleAssistant, Digest: llm.Digest{byte(i), byte(i >> 8), 2, byte(k)}})
		}
	}
	afterSessions := heap()
	if n := sessions.Len(); n < 3500 {
		t.Errorf("%d conversations are held", n)
	}
	t.Logf("model %d KiB (%d KiB encoded), baseline %d KiB, %d conversations %d KiB",
		(afterModel-before)>>10, len(encoded)>>10, (afterBaseline-afterModel)>>10, sessions.Len(), (afterSessions-afterBaseline)>>10)
	if took := afterSessions - before; took > mostMemory {
		t.Errorf("%d bytes, more than %d", took, mostMemory)
	}
	runtime.KeepAlive(model)
	runtime.KeepAlive(baseline)
	runtime.KeepAlive(sessions)
}

// letters is a word for a number.
func letters(i int) string {
	b := []byte("xxxxxx")
	for k := range b {
		b[k] = 'a' + byte(i%23)
		i /= 23
	}
	return string(b)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools give up what they hold at the second
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// encodedModel is a model as it is handed out; nothing else of its training is left.
func encodedModel(t *testing.T) []byte {
	t.Helper()
	m, err := detector.Train(detectortest.Rows(1, 4000), detector.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
