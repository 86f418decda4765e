package controlplane

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A sidecar refuses a bundle that was issued before one that it has accepted, so that nobody can play an old one to it. The time of issue
// must therefore never go back, not even where a new leader's clock is behind: a mark ahead of every time of issue is kept.
const (
	markAhead = 3 * time.Minute
	markEvery = time.Minute
	markID    = "issued"
)

// clock gives times of issue.
type clock struct {
	keeper *keeper
	now    func() time.Time

	mu   sync.Mutex
	last time.Time
}

// issue is now, or a little after the last time of issue where that is later.
func (c *clock) issue() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.After(c.last) {
		c.last = now
	} else {
		c.last = c.last.Add(time.Microsecond)
	}
	return c.last
}

// restore takes up the mark that was kept and sets the next.
func (c *clock) restore(ctx context.Context) error {
	all, _, err := c.keeper.load(ctx, keptClock)
	if err != nil {
		return err
	}
	for _, content := range all {
		var mark time.Time
		if err := mark.UnmarshalText(content); err != nil {
			return fmt.Errorf("kept time of issue: %w", err)
		}
		c.mu.Lock()
		if mark.After(c.last) {
			c.last = mark
		}
		c.mu.Unlock()
	}
	return c.mark(ctx)
}

// mark keeps a time that no bundle will be issued after before the next mark.
func (c *clock) mark(ctx context.Context) error {
	c.mu.Lock()
	ahead := c.last
	if now := c.now(); now.After(ahead) {
		ahead = now
	}
	c.mu.Unlock()
	text, err := ahead.Add(markAhead).UTC().MarshalText()
	if err != nil {
		return err
	}
	return c.keeper.save(ctx, keptClock, markID, text)
}

// run sets marks until ctx is done.
func (c *clock) run(ctx context.Context, report func(error, string)) {
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := c.mark(ctx); err != nil && ctx.Err() == nil {
				report(err, "time of issue is not kept")
			}
		}
	}
}
