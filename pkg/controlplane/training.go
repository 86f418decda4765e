package controlplane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/xds"
)

const (
	// workers is how many models are trained at a time. Each takes the processors for most of a second, and some 20 MB.
	workers = 2
	// retryAfter is how long a training that failed is not tried again, retryAtMost how long where it has failed again and again: each time it is twice as long.
	retryAfter  = 5 * time.Minute
	retryAtMost = 6 * time.Hour
)

// task is what is to be done about a workload's model.
type task int

const (
	nothing task = iota
	trainOwn
	trainPrior
	withdraw
)

// youngest is the least number of calls whose doubling is worth a training.
const youngest = 16

// due says what is to be done about a workload's model now. It is trained of its own calls when there are enough of them, then, however many that takes by now, whenever the number of admitted
// calls has doubled, and from retrainCalls on after that many; when it has become old, and when the budget or the labels have changed. While there are
// not enough, it is trained of a shared prior where the settings say so and there is one, and anew where that is to be of others; rows from beyond its namespace do not stay where they may not any
// more. The lock is held by the caller.
func (l *Learner) due(w xds.Workload, have *learned) task {
	s, known := l.settings[w.Namespace]
	if have.training || l.isFrozen(w) || !known || l.now().Before(have.failed.retryAt) {
		return nothing
	}
	counts := have.reservoir.Counts()
	enough := counts.Calls >= s.minCalls && counts.Sessions >= s.minSessions
	stale := have.model != nil && (have.spoken != have.heard || have.model.info.FalsePositivesPerMillion != s.budget ||
		counts.Seen >= have.admitted+max(youngest, min(have.admitted, s.retrainCalls)) ||
		counts.Seen > have.admitted && l.now().Sub(have.trainedAt) >= s.retrainInterval)
	elsewhere := have.model != nil && have.scope != s.prior
	switch {
	case have.source == v1alpha1.ModelOwn:
		if stale {
			return trainOwn
		}
	case enough:
		return trainOwn
	case have.model != nil && s.prior == "":
		return withdraw
	case s.prior != "" && (have.model == nil || stale || elsewhere) && l.lent(w, s) >= s.minCalls:
		return trainPrior
	case elsewhere && s.prior == v1alpha1.PriorNamespace:
		return withdraw
	}
	return nothing
}

// What waits is done in the order of how long it has waited; some of it comes before what has waited this much longer. Nothing is passed over for longer than that.
const (
	withdrawFirst = 24 * time.Hour
	labelsFirst   = time.Hour
	coldFirst     = 10 * time.Minute // what has no model
)

// next finds what is to be done next. The lock is held by the caller.
func (l *Learner) next() (w xds.Workload, have *learned, what task) {
	var first time.Time
	for candidate, state := range l.workloads {
		t := l.due(candidate, state)
		if t == nothing {
			state.waiting = time.Time{}
			continue
		}
		if state.waiting.IsZero() {
			state.waiting = l.now()
		}
		since := state.waiting
		switch {
		case t == withdraw:
			since = since.Add(-withdrawFirst)
		case state.spoken != state.heard:
			since = since.Add(-labelsFirst)
		case state.model == nil:
			since = since.Add(-coldFirst)
		}
		if have == nil || since.Before(first) {
			w, have, what, first = candidate, state, t, since
		}
	}
	return w, have, what
}

// run trains and keeps until ctx is done, then keeps what is not kept yet.
func (l *Learner) run(ctx context.Context) error {
	var g errgroup.Group
	for range workers {
		g.Go(func() error { l.work(ctx); return nil })
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			l.tidy()
			l.flush(ctx, false)
			l.tell()
		}
	}
	err := g.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	l.flush(last, true)
	return err
}

// work does what is due until ctx is done.
func (l *Learner) work(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		for l.doOne(ctx) {
		}
	}
}

// doOne does what is due of one workload and says whether there was one.
func (l *Learner) doOne(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	l.mu.Lock()
	w, have, what := l.next()
	if have == nil {
		l.mu.Unlock()
		return false
	}
	have.waiting = time.Time{}
	if what == withdraw {
		have.replace(nil, "")
		l.weigh(have)
		l.mu.Unlock()
		if err := l.send(w, have); err != nil {
			l.report(err, "model of "+workloadName(w)+" is not withdrawn")
		}
		l.changed()
		return true
	}
	have.training = true
	j := l.job(w, have, what, l.settings[w.Namespace])
	l.mu.Unlock()
	l.tell() // there may be work for the others

	began := l.now()
	model, err := j.train(l.fit)
	l.metrics.trainingSeconds.Observe(l.now().Sub(began).Seconds())

	l.mu.Lock()
	have.training = false
	if l.workloads[w] != have { // forgotten meanwhile
		l.mu.Unlock()
		return true
	}
	if err != nil {
		have.fail(err, l.now())
		l.mu.Unlock()
		l.metrics.trainingsFailed.Inc()
		l.report(err, "no model of "+workloadName(w))
		l.changed()
		return true
	}
	if l.isFrozen(w) {
		l.mu.Unlock()
		return true
	}
	have.replace(model, j.source)
	have.trainedAt, have.admitted, have.heard = l.now(), j.admitted, j.heard
	have.own, have.lent, have.scope = len(j.rows), len(j.options.Prior), j.scope
	l.grew(have)
	l.mu.Unlock()

	// Kept before it is published: a model that sidecars have must not be lost.
	if err := l.keep(ctx, w, have); err != nil {
		l.report(err, "model of "+workloadName(w)+" is not kept")
	}
	if err := l.send(w, have); err != nil {
		l.report(err, "model of "+workloadName(w)+" is not published")
	}
	l.metrics.trained.Inc()
	l.changed()
	return true
}

// send publishes a workload's model, or that there is none any more, unless the workload was forgotten meanwhile. It is the model that there is now: what has taken its place meanwhile may have
// been published already.
func (l *Learner) send(w xds.Workload, have *learned) error {
	defer l.keeping.lock(w)()
	l.mu.Lock()
	known, model := l.workloads[w] == have, have.model
	l.mu.Unlock()
	switch {
	case !known:
		return nil
	case model == nil:
		return l.publish(w, nil)
	}
	return l.publish(w, model.sent())
}

// replace puts a model in the place of the one before; nil is none.
func (have *learned) replace(model *encodedModel, source v1alpha1.ModelSource) {
	have.model, have.source, have.failed, have.dirty = model, source, failure{}, true
	have.drift, have.driftAt = nil, 0
	have.recent.renew()
}

// fail notes a training that failed.
func (have *learned) fail(err error, now time.Time) {
	wait := retryAtMost
	if have.failed.times < 7 {
		wait = min(wait, retryAfter<<have.failed.times)
	}
	have.failed = failure{times: have.failed.times + 1, retryAt: now.Add(wait), message: err.Error()}
}

// errPanicked is wrapped by the error of a training that panicked.
var errPanicked = errors.New("training panicked")

// train makes the model. That of one workload must not take the controller with it, and every other workload's policy, whatever its calls are.
func (j *job) train(fit func([]detector.Row, detector.Options) (*detector.Model, error)) (model *encodedModel, err error) {
	defer func() {
		if p := recover(); p != nil {
			model, err = nil, fmt.Errorf("%w: %v", errPanicked, p)
		}
	}()
	trained, err := fit(j.rows, j.options)
	if err != nil {
		return nil, err
	}
	return encodeModel(trained)
}
