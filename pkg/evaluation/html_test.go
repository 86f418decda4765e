package evaluation

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

func page(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update accepts it)", path)
	}
}

// sample is a report with everything in it, and figures that no model made.
func sample() *Report {
	var comparisons []Comparison
	for i, agent := range []string{"banking", "support <b>desk</b>"} {
		c := Comparison{Agent: agent}
		for j := range 120 {
			c.Negatives = append(c.Negatives, Scored{Score: 0.3 + float64(j*j%97)/700, Group: strings.Repeat("t", j%12)})
			if j%2 == 0 {
				c.Positives = append(c.Positives, Scored{Score: 0.38 + float64(j*j%89)/500 + float64(i)/50, Group: strings.Repeat("t", j%12), Family: []string{"dos", `"><script>alert(1)</script>`, "direct"}[j%3]})
			}
		}
		comparisons = append(comparisons, c)
	}
	resampling := Resampling{Samples: 40, Confidence: 0.95, Seed: 1}
	r := &Report{
		Schema: "sallyport.features/v2", Without: []string{"data.tags", "data.overrides"}, Folds: 5, Seeds: 3, Budget: 0.01, Confidence: 0.95, Samples: 40, Rates: Rates,
		Counts: Counts{Calls: 999, Sessions: 88, Benign: 240, Unlabelled: 3, Attack: 700, Exposed: 300, AttackerTask: 5, Featureless: 2, Refused: 1, Elsewhere: 6, Repeated: 7, LogLines: 4},
		Notes:  []string{"a note with <i>markup</i>"},
	}
	for _, q := range []int{askFirst, askHijackedCarried} {
		x := asked[q]
		x.Table = Compare(comparisons, Rates, resampling)
		r.Stages = append(r.Stages, x)
	}
	for _, c := range comparisons {
		var benign, attacks []Counted
		var percentiles, b, p []float64
		for i, s := range c.Negatives {
			benign = append(benign, Counted{Agent: c.Agent, Group: s.Group, Share: map[bool]float64{true: 1}[s.Score > 0.435]})
			percentiles, b = append(percentiles, float64(i)/120), append(b, s.Score)
		}
		for _, s := range c.Positives {
			attacks = append(attacks, Counted{Agent: c.Agent, Group: s.Group, Share: map[bool]float64{true: 1}[s.Score > 0.435]})
			p = append(p, s.Score)
		}
		r.Agents = append(r.Agents, Agent{Name: c.Agent, Tasks: 12, Sessions: 44, Benign: 120, Learned: 118, Attacks: 60, Threshold: 0.435, Scores: histogram(b, p, 0.435)})
		r.Budgets = append(r.Budgets, spent(c.Agent, benign, attacks, percentiles, resampling))
	}
	return r
}

func TestHTML(t *testing.T) {
	got := page(t, sample())
	golden(t, "report.html", got)
	for _, bad := range []string{"<script", "<b>desk", "<i>markup", "http://", "https://", "url(", "@import", "NaN", "Inf", "%!"} {
		if strings.Contains(got, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, good := range []string{"prefers-color-scheme: dark", "default-src 'none'", "support &lt;b&gt;desk&lt;/b&gt;", "threshold for 1 %"} {
		if !strings.Contains(got, good) {
			t.Errorf("the page does not have %q", good)
		}
	}
	checkNesting(t, got)
}

// Curves of many agents are told apart.
func TestHTMLOfManyAgents(t *testing.T) {
	r := sample()
	for i := range 9 {
		more := r.Budgets[0]
		more.Name = fmt.Sprint("agent ", i)
		r.Budgets = append(r.Budgets, more)
	}
	styles := map[string]bool{}
	for _, k := range r.plotCalibration().Legend {
		styles[k.Class] = true
	}
	if len(styles) != len(r.Budgets) {
		t.Errorf("%d curves are drawn in %d ways: %v", len(r.Budgets), len(styles), styles)
	}
	checkNesting(t, page(t, r))
}

func TestHTMLOfBenignCallsOnly(t *testing.T) {
	r := sample()
	r.Stages, r.Model, r.Without = nil, strings.Repeat("0", 64), nil
	for i := range r.Agents {
		r.Agents[i].Attacks, r.Agents[i].Scores.Attack = 0, make([]float64, bins)
		r.Budgets[i].Attacks, r.Budgets[i].Found = 0, nothing
	}
	got := page(t, r)
	if strings.Contains(got, "ROC") || strings.Contains(got, "NaN") || !strings.Contains(got, "Judged by the model <code>000") {
		t.Error("the page shows what is not there")
	}
	checkNesting(t, got)
}

// checkNesting fails where a tag is left open or closed twice.
func checkNesting(t *testing.T, page string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(strings.ReplaceAll(page, "<!DOCTYPE html>", "")))
	d.Strict = true
	d.Entity = xml.HTMLEntity
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
