package evaluation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"math/rand/v2"
	"slices"

	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/features"
)

// Options say how to evaluate. The zero value takes every default.
type Options struct {
	// Model is what judges the calls. Without one, models are trained for each agent on some of its tasks and judge the others.
	Model *detector.Model
	// Folds is how many parts an agent's tasks are dealt to, each of which is judged by a model that learned the others; 0 means 5. Seeds is how often that is done,
	// each time with other parts and other random numbers; 0 means 3.
	Folds, Seeds int
	// Budget is the share of benign calls that may exceed the thresholds of the models trained; 0 means 0.01.
	Budget float64
	// Workload restricts all to the calls of one workload or agent, see Sample.Of; "" takes every one.
	Workload string
	// Without names features to leave out, see NewMask.
	Without []string
	// Train are further options of training. Its budget, seed and mask are set here, and its least numbers of calls and sessions are as small as can be.
	Train detector.Options
	// Resampling says how intervals are found. No samples mean 1,000 at a confidence of 0.95.
	Resampling Resampling
	// Progress is told how far things are, if it is not nil: what is being done, how much of it is done, and of how much, 0 where that is not known.
	Progress func(doing string, done, of int)
}

// Rates are the false-positive rates that true-positive rates are given at.
var Rates = []float64{0.001, 0.01, 0.05}

func (o Options) withDefaults() (Options, error) {
	if o.Folds == 0 {
		o.Folds = 5
	}
	if o.Seeds == 0 {
		o.Seeds = 3
	}
	if o.Budget == 0 {
		o.Budget = 0.01
	}
	if o.Resampling.Samples == 0 {
		o.Resampling.Samples = 1000
	}
	if o.Resampling.Confidence == 0 {
		o.Resampling.Confidence = 0.95
	}
	if o.Train.MinCalls == 0 {
		o.Train.MinCalls = 1
	}
	if o.Train.MinSessions == 0 {
		o.Train.MinSessions = 1
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	switch {
	case o.Folds < 2 || o.Folds > 100:
		return o, fmt.Errorf("%d folds; accepted are 2 to 100", o.Folds)
	case o.Seeds < 1 || o.Seeds > 1000:
		return o, fmt.Errorf("%d seeds; accepted are 1 to 1000", o.Seeds)
	case !(o.Budget >= 1e-6 && o.Budget <= 0.5):
		return o, fmt.Errorf("budget %v; accepted is 0.000001 to 0.5, the share of benign calls that may exceed the threshold", o.Budget)
	}
	if o.Model != nil {
		o.Folds, o.Seeds = 1, 1
		o.Budget = float64(o.Model.Info().FalsePositivesPerMillion) / 1e6
	}
	return o, nil
}

// Report is what an evaluation found.
type Report struct {
	// Schema is that of the features; Without names those that were left out.
	Schema  string   `json:"schema"`
	Without []string `json:"without"`
	// Model is the digest of the model that judged; "" where models were trained.
	Model string `json:"model,omitempty"`
	Folds int    `json:"folds"`
	Seeds int    `json:"seeds"`
	// Budget is the share of benign calls that may exceed the threshold; Confidence that of intervals, found from so many Samples.
	Budget     float64 `json:"budget"`
	Confidence float64 `json:"confidence"`
	Samples    int     `json:"samples"`
	// Rates are the false-positive rates of the tables' TPR.
	Rates  []float64 `json:"rates"`
	Counts Counts    `json:"counts"`
	Agents []Agent   `json:"agents"`
	Stages []Asked   `json:"stages"`
	// Budgets say what the models' own thresholds did: of all, then of each agent.
	Budgets []Spent `json:"budgets"`
	// Notes say what the figures do not cover.
	Notes []string `json:"notes"`
}

// Attacked says that there are first exposed calls, of which thresholds found some or none.
func (r *Report) Attacked() bool {
	return len(r.Stages) > 0 && slices.ContainsFunc(r.Budgets, func(s Spent) bool { return s.Attacks > 0 })
}

// Counts are calls, by what they are.
type Counts struct {
	Calls      int `json:"calls"`
	Sessions   int `json:"sessions"`
	Benign     int `json:"benign"`
	Unlabelled int `json:"unlabelled"`
	// Attack are calls of attacked sessions, of which Exposed carry the attacker's text.
	Attack  int `json:"attack"`
	Exposed int `json:"exposed"`
	// Left out: of sessions whose users ask for what attackers want, without features, and not released though nobody called them an attack.
	AttackerTask int `json:"attacker_task"`
	Featureless  int `json:"featureless"`
	Refused      int `json:"refused"`
	// Elsewhere are calls of other workloads than Options.Workload, Repeated calls that were read before, and LogLines lines of a log that are no decisions; none is among
	// Calls.
	Elsewhere int `json:"elsewhere"`
	Repeated  int `json:"repeated"`
	LogLines  int `json:"log_lines"`
}

// Agent is one whose calls were judged.
type Agent struct {
	Name     string `json:"name"`
	Tasks    int    `json:"tasks"`
	Sessions int    `json:"sessions"`
	// Benign calls were judged; of them, Learned were learned from in turn. Attacks are first exposed calls.
	Benign  int `json:"benign"`
	Learned int `json:"learned"`
	Attacks int `json:"attacks"`
	// Threshold is the mean over the models.
	Threshold float64 `json:"threshold"`
	// Supported says that every model had calls enough for the budget.
	Supported bool `json:"supported"`
	// Scores are histograms of the same bins between From and To, as shares.
	Scores Histogram `json:"scores"`
}

// Histogram holds how scores are distributed.
type Histogram struct {
	From   float64   `json:"from"`
	To     float64   `json:"to"`
	Benign []float64 `json:"benign"`
	Attack []float64 `json:"attack"`
}

// Asked is a question and what was found.
type Asked struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Doc   string `json:"doc"`
	Table Table  `json:"table"`
}

// Spent says what thresholds did.
type Spent struct {
	Name string `json:"name"`
	// Calls are benign calls, judged Seeds times each; Realised is the share of them over the threshold.
	Calls    int    `json:"calls"`
	Realised Figure `json:"realised"`
	// Attacks are first exposed calls, and Found the share of them over it.
	Attacks int    `json:"attacks"`
	Found   Figure `json:"found"`
	// Calibration says for other budgets which share of benign calls would have been over.
	Calibration []Calibrated `json:"calibration"`
}

// Calibrated is a budget and what came of it.
type Calibrated struct {
	Budget   float64 `json:"budget"`
	Realised float64 `json:"realised"`
}

// The questions.
const (
	askFirst = iota
	askExposed
	askExposedCarried
	askHijacked
	askHijackedCarried
	askSession
	questions
)

var asked = [questions]Asked{
	askFirst:           {Name: "first", Title: "First exposed call", Doc: "The first call that carries the attacker's text, against benign calls."},
	askExposed:         {Name: "exposed", Title: "All exposed calls, each by itself", Doc: "Every call that carries the attacker's text, new or old, against benign calls: a call's features say what is new in it."},
	askExposedCarried:  {Name: "exposed_carried", Title: "All exposed calls, with what the session carries", Doc: "The same by what the session carries then, its worst score so far with decay as policy sees it, against the same of benign calls."},
	askHijacked:        {Name: "hijacked", Title: "Hijacked calls, each by itself", Doc: "Calls after the agent did what the attacker wants, against benign calls."},
	askHijackedCarried: {Name: "hijacked_carried", Title: "Hijacked calls, with what the session carries", Doc: "The same by what the session carries then, its worst score so far with decay as policy sees it, against the same of benign calls."},
	askSession:         {Name: "session", Title: "Sessions", Doc: "The highest score of a session that an attack reached, against the highest of benign sessions."},
}

// part is what one model judged.
type part struct {
	of                     *agent
	seed                   int
	model                  *detector.Model
	benign, benignCarried  []Scored
	positive               [questions][]Scored
	sessions, sessionsHurt []Scored
}

// agent is one agent's share of an evaluation.
type agent struct {
	name     string
	rows     []detector.Row
	tasks    []string // of each row
	known    map[string]bool
	sessions map[string]bool
	fold     []map[string]int // by seed: of each task
	parts    [][]*part        // by seed, by fold

	benign, attacks       []Counted
	percentiles           []float64
	benignScore, hurtWith []float64
}

// carried is what is known of a session while its calls are judged.
type carried struct {
	agent  *agent
	parts  []*part   // by seed
	worst  []float64 // so far, as the gate carries it
	most   []float64 // of all calls
	hurt   bool      // an attack reached it
	attack bool
	group  string
	family string
}

// Evaluate judges recorded calls by models that have not seen their tasks, or by the model given, and says what was found. The calls are read twice, or
// once where there is a model; what is kept in memory is what is learned from and every score.
func Evaluate(ctx context.Context, files *Files, o Options) (*Report, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	mask, err := NewMask(o.Without...)
	if err != nil {
		return nil, err
	}
	e := &evaluation{o: o, mask: mask, agents: map[string]*agent{}, sessions: map[string]*carried{}, left: map[string]bool{}}
	if err := e.gather(ctx, files); err != nil {
		return nil, err
	}
	if err := e.train(ctx); err != nil {
		return nil, err
	}
	if err := e.judge(ctx, files); err != nil {
		return nil, err
	}
	return e.report(ctx)
}

type evaluation struct {
	o        Options
	mask     Mask
	agents   map[string]*agent
	sessions map[string]*carried
	left     map[string]bool // agents of which there was too little to train models with
	counts   Counts
	notes    []string
}

// judged says whether a call is benign or an attack's and is to be judged at all.
func judged(s *Sample) bool {
	return s.HasFeatures() && s.Label != AttackerTask && (s.Label != Unlabelled || s.Admission().Released)
}

// gather reads what is to be learned.
func (e *evaluation) gather(ctx context.Context, files *Files) error {
	seen := map[string]bool{}
	read := 0
	count := func(s *Sample) bool {
		if read++; read%1000 == 0 {
			e.o.Progress("reading", read, 0)
		}
		c := &e.counts
		if !s.Of(e.o.Workload) {
			c.Elsewhere++
			return false
		}
		c.Calls++
		seen[s.Conversation()] = true
		switch {
		case !s.HasFeatures():
			c.Featureless++
			return false
		case s.Label == AttackerTask:
			c.AttackerTask++
			return false
		case !judged(s):
			c.Refused++
			return false
		case s.Label == Attack:
			c.Attack++
			if s.Stage == FirstExposed || s.Stage == Exposed || s.Stage == Hijacked {
				c.Exposed++
			}
			return false
		case s.Label == Unlabelled:
			c.Unlabelled++
		default:
			c.Benign++
		}
		a := e.agents[s.Subject()]
		if a == nil {
			a = &agent{name: s.Subject(), known: map[string]bool{}, sessions: map[string]bool{}}
			e.agents[s.Subject()] = a
		}
		a.known[s.Group()], a.sessions[s.Conversation()] = true, true
		admitted := s.Admission()
		return e.o.Model == nil && admitted.Released && !admitted.Exceeds && !admitted.Tainted
	}
	err := files.Each(ctx, count, func(s *Sample) error {
		a := e.agents[s.Subject()]
		a.rows = append(a.rows, s.Row())
		a.tasks = append(a.tasks, s.Group())
		return nil
	})
	c := &e.counts
	c.Sessions, c.Repeated, c.LogLines = len(seen), files.Repeated(), files.LogLines()
	switch {
	case err != nil:
		return err
	case c.Calls == 0 && c.Elsewhere > 0:
		return fmt.Errorf("there are no calls of the workload or agent %.128q in %s, and %d of others", e.o.Workload, files, c.Elsewhere)
	case c.Calls == 0:
		return fmt.Errorf("there are no calls in %s", files)
	case len(e.agents) == 0:
		return fmt.Errorf("there are no benign calls with features in %s (%d calls: %d of attacked sessions, %d of sessions whose users ask for what attackers want, %d without features, %d not released)",
			files, c.Calls, c.Attack, c.AttackerTask, c.Featureless, c.Refused)
	}
	return nil
}

// train makes the models. An agent of which there is too little for that is left out and noted, as long as there are others.
func (e *evaluation) train(ctx context.Context) error {
	names := slices.Sorted(maps.Keys(e.agents))
	var left []error
	for i, name := range names {
		a := e.agents[name]
		err := e.trainAgent(ctx, a, i, len(names))
		var few *tooFew
		switch {
		case errors.As(err, &few):
			left = append(left, err)
			e.notes = append(e.notes, fmt.Sprintf("%v; %d benign calls of it were not judged, nor were attacks on it", err, len(a.tasks)))
			e.left[name] = true
			delete(e.agents, name)
		case err != nil:
			return err
		}
	}
	if len(e.agents) == 0 {
		return errors.Join(left...)
	}
	return nil
}

// tooFew says that there is too little of an agent to train models with.
type tooFew struct{ error }

func (e *tooFew) Unwrap() error { return e.error }

// trainAgent makes the models of one agent, the i-th of so many.
func (e *evaluation) trainAgent(ctx context.Context, a *agent, i, agents int) error {
	o := e.o
	defer clear(a.rows) // what the models know is enough
	if o.Model != nil {
		a.fold, a.parts = []map[string]int{nil}, [][]*part{{{of: a, model: o.Model}}}
		return nil
	}
	for seed := range o.Seeds {
		fold := deal(a.tasks, o.Folds, uint64(seed))
		switch {
		case len(fold) == 1:
			return &tooFew{fmt.Errorf("agent %.128q: one task to learn from, where some are to be learned and others judged; give recordings of more tasks, or judge by a given model", a.name)}
		case len(fold) < o.Folds:
			return &tooFew{fmt.Errorf("agent %.128q: %d tasks to learn from, too few for %d folds; take fewer folds, or judge by a given model", a.name, len(fold), o.Folds)}
		}
		parts := make([]*part, o.Folds)
		for f := range parts {
			if err := ctx.Err(); err != nil {
				return err
			}
			o.Progress("training", (i*o.Seeds+seed)*o.Folds+f, agents*o.Seeds*o.Folds)
			var rows []detector.Row
			for i, task := range a.tasks {
				if fold[task] != f {
					rows = append(rows, a.rows[i])
				}
			}
			t := o.Train
			t.FalsePositivesPerMillion, t.Seed = int(math.Round(o.Budget*1e6)), uint64(seed)
			if len(e.mask.features) > 0 {
				t = t.Without(e.mask.Apply)
			}
			m, err := detector.Train(rows, t)
			if err != nil {
				err = fmt.Errorf("agent %.128q, fold %d of %d: %w", a.name, f+1, o.Folds, err)
				if errors.Is(err, detector.ErrTooFew) {
					err = &tooFew{err}
				}
				return err
			}
			parts[f] = &part{of: a, seed: seed, model: m}
		}
		a.fold, a.parts = append(a.fold, fold), append(a.parts, parts)
	}
	return nil
}

// deal deals tasks to folds of about equal numbers of calls.
func deal(tasks []string, folds int, seed uint64) map[string]int {
	sizes := map[string]int{}
	for _, t := range tasks {
		sizes[t]++
	}
	names := slices.Sorted(maps.Keys(sizes))
	rand.New(rand.NewPCG(seed, 0x666f6c64)).Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(sizes[b], sizes[a]) })
	held := make([]int, folds)
	out := make(map[string]int, len(names))
	for _, name := range names {
		least := 0
		for f := range held {
			if held[f] < held[least] {
				least = f
			}
		}
		out[name] = least
		held[least] += sizes[name]
	}
	return out
}

// part is the one that judges a task: no model learned one that is not dealt, so that any will do.
func (a *agent) part(seed int, task string) *part {
	parts := a.parts[seed]
	if f, ok := a.fold[seed][task]; ok {
		return parts[f]
	}
	h := fnv.New32a()
	h.Write([]byte(task))
	return parts[h.Sum32()%uint32(len(parts))]
}

// judge reads all calls once more and scores them.
func (e *evaluation) judge(ctx context.Context, files *Files) error {
	total := e.counts.Benign + e.counts.Unlabelled + e.counts.Attack
	done, orphans, foreign := 0, 0, 0
	want := func(s *Sample) bool {
		if !s.Of(e.o.Workload) || !judged(s) {
			return false
		}
		if e.agents[s.Subject()] == nil {
			if !e.left[s.Subject()] {
				orphans++
			}
			return false
		}
		return true
	}
	err := files.Each(ctx, want, func(s *Sample) error {
		if done%200 == 0 {
			e.o.Progress("judging", done, total)
		}
		done++
		if b := e.o.Model.Baseline(); b != nil {
			if ok, err := s.Compares(b); err != nil {
				return err
			} else if !ok {
				foreign++
			}
		}
		return e.one(s)
	})
	if err != nil {
		return err
	}
	for _, c := range e.sessions {
		for seed, p := range c.parts {
			x := Scored{Score: c.most[seed], Group: c.group, Family: c.family}
			switch {
			case !c.attack:
				p.sessions = append(p.sessions, x)
			case c.hurt:
				p.sessionsHurt = append(p.sessionsHurt, x)
			}
		}
	}
	if foreign > 0 {
		e.notes = append(e.notes, fmt.Sprintf("%d of %d calls cannot be compared with the model's baseline: they have no evidence, or it was recorded under another salt than the model's, as that of another cluster; nothing in them counts as new", foreign, done))
	}
	if orphans > 0 {
		e.notes = append(e.notes, fmt.Sprintf("%d calls are of agents of which there are no benign calls: they were not judged", orphans))
	}
	return nil
}

// one judges one call.
func (e *evaluation) one(s *Sample) error {
	a := e.agents[s.Subject()]
	key := s.Conversation()
	c := e.sessions[key]
	if c == nil {
		c = &carried{agent: a, worst: make([]float64, e.o.Seeds), most: make([]float64, e.o.Seeds), group: s.Group()}
		for seed := range e.o.Seeds {
			c.parts = append(c.parts, a.part(seed, s.Group()))
		}
		e.sessions[key] = c
	}
	reached := s.Stage == FirstExposed || s.Stage == Exposed || s.Stage == Hijacked
	if s.Label == Attack {
		c.attack, c.family = true, Family(s.Attack)
		c.hurt = c.hurt || reached || s.Stage == NoStage
	}
	over := 0.
	for seed, p := range c.parts {
		v, err := s.Against(p.model.Baseline())
		if err != nil {
			return err
		}
		e.mask.Apply(&v)
		verdict := p.model.Judge(&v)
		if verdict.Exceeds {
			over++
		}
		c.worst[seed] = features.Carried(c.worst[seed], verdict.Score)
		c.most[seed] = max(c.most[seed], verdict.Score)
		own := Scored{Score: verdict.Score, Group: c.group, Family: c.family}
		with := own
		with.Score = c.worst[seed]
		put := func(question int, x Scored) { p.positive[question] = append(p.positive[question], x) }
		switch {
		case s.Label != Attack:
			p.benign, p.benignCarried = append(p.benign, own), append(p.benignCarried, with)
			a.percentiles = append(a.percentiles, verdict.Percentile)
			a.benignScore = append(a.benignScore, verdict.Score)
		case reached:
			put(askExposed, own)
			put(askExposedCarried, with)
			if s.Stage == FirstExposed {
				put(askFirst, own)
				a.hurtWith = append(a.hurtWith, verdict.Score)
			}
			if s.Stage == Hijacked {
				put(askHijacked, own)
				put(askHijackedCarried, with)
			}
		}
	}
	counted := Counted{Agent: a.name, Group: c.group, Share: over / float64(e.o.Seeds)}
	switch {
	case s.Label != Attack:
		a.benign = append(a.benign, counted)
	case s.Stage == FirstExposed:
		a.attacks = append(a.attacks, counted)
	}
	return nil
}

// budgets that calibration is shown for.
var budgets = []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2}

func (e *evaluation) report(ctx context.Context) (*Report, error) {
	o := e.o
	r := &Report{
		Schema: features.SchemaID, Without: append([]string{}, e.mask.Names()...), Folds: o.Folds, Seeds: o.Seeds, Budget: o.Budget, Confidence: o.Resampling.Confidence, Samples: o.Resampling.Samples,
		Rates: Rates, Counts: e.counts, Notes: append([]string{}, e.notes...), Stages: []Asked{},
	}
	if o.Model != nil {
		r.Model = o.Model.Digest()
	}
	names := slices.Sorted(maps.Keys(e.agents))
	for q := range asked {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		o.Progress("computing intervals", q, len(asked))
		var comparisons []Comparison
		for _, name := range names {
			for _, parts := range e.agents[name].parts {
				for _, p := range parts {
					comparisons = append(comparisons, p.comparison(q))
				}
			}
		}
		x := asked[q]
		x.Table = Compare(comparisons, Rates, o.Resampling)
		if x.Table.All.Positives > 0 {
			r.Stages = append(r.Stages, x)
		}
	}
	if len(r.Stages) > 0 {
		e.tooFewFor(r)
	}
	var benign, attacks []Counted
	var percentiles []float64
	for _, name := range names {
		a := e.agents[name]
		benign, attacks, percentiles = append(benign, a.benign...), append(attacks, a.attacks...), append(percentiles, a.percentiles...)
	}
	if len(names) > 1 {
		r.Budgets = append(r.Budgets, spent("all", benign, attacks, percentiles, o.Resampling))
	}
	for _, name := range names {
		a := e.agents[name]
		r.Budgets = append(r.Budgets, spent(name, a.benign, a.attacks, a.percentiles, o.Resampling))
		r.Agents = append(r.Agents, a.summary())
	}
	if len(r.Stages) == 0 {
		r.Notes = append(r.Notes, "no call is labelled as an attack's: there is nothing to find, and only false positives are counted")
	}
	if e.counts.Attack > 0 && e.counts.Exposed == 0 {
		r.Notes = append(r.Notes, "no call of an attacked session has a stage that says where the attack begins: sessions are compared as a whole")
	}
	if e.counts.Unlabelled > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d calls have no label: those released were taken for benign", e.counts.Unlabelled))
	}
	return r, nil
}

// tooFewFor notes where the benign calls that one model judged are too few for a rate.
func (e *evaluation) tooFewFor(r *Report) {
	fewest := math.MaxInt
	for _, a := range e.agents {
		for _, parts := range a.parts {
			for _, p := range parts {
				fewest = min(fewest, len(p.benign))
			}
		}
	}
	none := 0.
	for _, rate := range Rates {
		if float64(fewest)*rate+rounding < 1 {
			none = rate
		}
	}
	if none > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("a model judged as few as %d benign calls: up to a rate of %g %%, none of them may be over the score from which attacks count as found", fewest, none*100))
	}
}

func (p *part) comparison(question int) Comparison {
	c := Comparison{Agent: p.of.name, Seed: p.seed, Negatives: p.benign, Positives: p.positive[question]}
	switch question {
	case askExposedCarried, askHijackedCarried:
		c.Negatives = p.benignCarried
	case askSession:
		c.Negatives, c.Positives = p.sessions, p.sessionsHurt
		// Sessions come out of a map; what draws from them must not.
		for _, s := range [][]Scored{c.Negatives, c.Positives} {
			slices.SortFunc(s, func(a, b Scored) int {
				return cmp.Or(cmp.Compare(a.Score, b.Score), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Family, b.Family))
			})
		}
	}
	return c
}

func spent(name string, benign, attacks []Counted, percentiles []float64, r Resampling) Spent {
	s := Spent{Name: name, Calls: len(benign), Realised: Realised(benign, r), Attacks: len(attacks), Found: Realised(attacks, r)}
	sorted := slices.Sorted(slices.Values(percentiles))
	for _, b := range budgets {
		first, _ := slices.BinarySearch(sorted, 1-b-rounding)
		s.Calibration = append(s.Calibration, Calibrated{b, float64(len(sorted)-first) / float64(max(1, len(sorted)))})
	}
	return s
}

func (a *agent) summary() Agent {
	out := Agent{Name: a.name, Tasks: len(a.known), Sessions: len(a.sessions), Benign: len(a.benign), Learned: len(a.tasks), Attacks: len(a.attacks), Supported: true}
	n := 0.
	for _, parts := range a.parts {
		for _, p := range parts {
			out.Threshold += p.model.Info().Threshold
			out.Supported = out.Supported && p.model.Info().Supported
			n++
		}
	}
	out.Threshold /= n
	out.Scores = histogram(a.benignScore, a.hurtWith, out.Threshold)
	return out
}

// bins of a histogram.
const bins = 40

// histogram counts scores in bins that the threshold lies among as well.
func histogram(benign, attack []float64, threshold float64) Histogram {
	h := Histogram{From: math.Inf(1), To: math.Inf(-1), Benign: make([]float64, bins), Attack: make([]float64, bins)}
	for _, s := range [][]float64{benign, attack, {threshold}} {
		for _, x := range s {
			h.From, h.To = min(h.From, x), max(h.To, x)
		}
	}
	if !(h.To > h.From) {
		h.From, h.To = 0, 1
	}
	h.From, h.To = math.Floor(h.From*50)/50, math.Ceil(h.To*50)/50
	fill := func(counts, of []float64) {
		for _, x := range of {
			i := int((x - h.From) / (h.To - h.From) * bins)
			counts[min(max(0, i), bins-1)] += 1 / float64(len(of))
		}
	}
	fill(h.Benign, benign)
	fill(h.Attack, attack)
	return h
}
