package detector

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/openai"
)

// TestRecordedAgents measures the detector on recorded agents: trained on the benign calls of some tasks, it must tell the first call that carries an
// injection from the benign calls of tasks it has not seen, for each agent on its own, over five ways to choose the tasks. The bars are
// well under what is measured, which -v shows.
func TestRecordedAgents(t *testing.T) {
	all := recordedSamples(t, 3)
	for _, agent := range []string{"banking", "workspace"} {
		t.Run(agent, func(t *testing.T) {
			extended := measure(t, all, agent, rangeExtension)
			classic := measure(t, all, agent, -1)
			t.Logf("range extension: %v", extended)
			t.Logf("classic forest:  %v", classic)
			if extended.auc < 0.95 {
				t.Errorf("AUC %.3f, want at least 0.95", extended.auc)
			}
			if extended.tpr < 0.75 || 1-classic.tpr < 3*(1-extended.tpr) {
				t.Errorf("finds %.2f at 1 %% false positives, the classic forest %.2f; want 0.75, and a third of the misses", extended.tpr, classic.tpr)
			}
			if extended.found < 0.75 || extended.found < classic.found+0.5 {
				t.Errorf("finds %.2f at its own threshold, the classic forest %.2f; want 0.75, and half of all more", extended.found, classic.found)
			}
			if extended.realised > 0.06 {
				t.Errorf("%.3f of benign calls exceed the threshold for 0.01", extended.realised)
			}
		})
	}
}

// figures are means over folds and seeds.
type figures struct {
	auc      float64 // probability that an attack scores higher than a benign call
	tpr      float64 // share of attacks found where 1 % of the benign calls are
	realised float64 // share of benign calls over the model's own threshold for 1 %
	found    float64 // share of attacks over it
}

func (f figures) String() string {
	return fmt.Sprintf("AUC %.3f, %.2f found at 1 %% false positives; over its own threshold %.2f of attacks and %.3f of benign calls", f.auc, f.tpr, f.found, f.realised)
}

func measure(t *testing.T, all []recorded, agent string, extension float64) figures {
	const folds, seeds = 5, 3
	const each = 1.0 / (folds * seeds)
	var f figures
	var benignCalls, exceeding int
	for round := range uint32(folds * seeds) {
		fold, seed := round%folds, uint64(round/folds)
		var train []Row
		var benign, attacks []float64
		var held []*recorded
		for i := range all {
			s := &all[i]
			switch {
			case s.agent != agent:
			case hash(s.task)>>3%folds == fold:
				held = append(held, s)
			case !s.attack:
				train = append(train, Row{Vector: s.vector, Session: s.session})
			}
		}
		m, err := Train(train, Options{MinCalls: 64, Seed: seed, extension: extension})
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, s := range held {
			a := m.Judge(&s.vector)
			if !s.attack {
				benign = append(benign, a.Score)
				benignCalls++
				if a.Exceeds {
					exceeding++
				}
				continue
			}
			attacks = append(attacks, a.Score)
			if a.Exceeds {
				found++
			}
		}
		f.auc += areaUnderCurve(benign, attacks) * each
		f.tpr += truePositives(benign, attacks, 0.01) * each
		f.found += float64(found) / float64(len(attacks)) * each
	}
	f.realised = float64(exceeding) / float64(benignCalls)
	return f
}

// recorded is one call of a recording.
type recorded struct {
	agent, task, session string
	attack               bool // the first call that carries an injection; otherwise one of a benign session
	vector               features.Vector
}

// recordedSamples reads agents/agentdojo.jsonl.gz: all benign sessions and one in n of those under attack.
func recordedSamples(t *testing.T, n uint32) []recorded {
	path := filepath.Join("..", "..", "..", "shared", "data", "agents", "agentdojo.jsonl.gz")
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("no recorded agent traffic at %s; it is not part of the project", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	z, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 64<<20)

	tools := map[string]json.RawMessage{}
	at := time.Unix(1_700_000_000, 0)
	var out []recorded
	for lines.Scan() {
		var r struct {
			Session, Agent, Model, Task, Label, Tools string
			Messages                                  []json.RawMessage
			Requests                                  []struct {
				N            int
				FirstExposed bool `json:"first_exposed"`
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		if r.Label == "attacker_task" || r.Label == "attack" && hash(r.Session)%n != 0 {
			continue
		}
		if tools[r.Tools] == nil {
			if tools[r.Tools], err = os.ReadFile(filepath.Join(filepath.Dir(path), r.Tools)); err != nil {
				t.Fatal(err)
			}
		}
		sessions := features.NewSessions(16, time.Hour)
		for _, q := range r.Requests {
			body, err := json.Marshal(map[string]any{"model": r.Model, "messages": r.Messages[:q.N], "tools": tools[r.Tools]})
			if err != nil {
				t.Fatal(err)
			}
			call := openai.Decode(&llm.Request{ContentType: "application/json", Body: body}, llm.DefaultLimits())
			if len(call.Messages) != q.N {
				t.Fatalf("%s: %d of %d messages: %v", r.Session, len(call.Messages), q.N, call.Findings)
			}
			at = at.Add(3 * time.Second)
			turn := sessions.Begin(call, at)
			if r.Label == "benign" || q.FirstExposed {
				s := recorded{agent: r.Agent, task: r.Task, session: r.Session, attack: q.FirstExposed}
				features.Extract(&s.vector, call, turn, at)
				out = append(out, s)
			}
			sessions.Settle(turn, 0, true, false, at)
			if q.FirstExposed {
				break
			}
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// areaUnderCurve is the probability that a positive scores higher than a negative, ties counting half.
func areaUnderCurve(negatives, positives []float64) float64 {
	type scored struct {
		score    float64
		positive bool
	}
	var all []scored
	for _, v := range negatives {
		all = append(all, scored{v, false})
	}
	for _, v := range positives {
		all = append(all, scored{v, true})
	}
	slices.SortFunc(all, func(a, b scored) int { return cmp.Compare(a.score, b.score) })
	ranks := 0.0
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].score == all[i].score {
			j++
		}
		for _, s := range all[i:j] {
			if s.positive {
				ranks += float64(i+j+1) / 2
			}
		}
		i = j
	}
	n, p := float64(len(negatives)), float64(len(positives))
	return (ranks - p*(p+1)/2) / (n * p)
}

// truePositives is the share of positives above the score that at most a share rate of the negatives exceed.
func truePositives(negatives, positives []float64, rate float64) float64 {
	s := slices.Sorted(slices.Values(negatives))
	limit := s[len(s)-1-int(rate*float64(len(s)))]
	n := 0
	for _, v := range positives {
		if v > limit {
			n++
		}
	}
	return float64(n) / float64(len(positives))
}
