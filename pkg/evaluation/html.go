package evaluation

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strconv"
	"strings"
)

//go:embed report.html.tmpl
var reportTemplate string

var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"share": func(f Figure) string {
		if math.IsNaN(f.Value) {
			return "–"
		}
		return fmt.Sprintf("%.4f", f.Value)
	},
	"between": func(f Figure) string {
		if math.IsNaN(f.Value) || math.IsNaN(f.Low) {
			return ""
		}
		return fmt.Sprintf("%.4f–%.4f", f.Low, f.High)
	},
	"percent": func(f Figure) string {
		if math.IsNaN(f.Value) {
			return "–"
		}
		return fmt.Sprintf("%.2f %%", f.Value*100)
	},
	"percents": func(f Figure) string {
		if math.IsNaN(f.Value) {
			return ""
		}
		return fmt.Sprintf("%.2f–%.2f %%", f.Low*100, f.High*100)
	},
	"rate": func(x float64) string { return strconv.FormatFloat(x*100, 'g', -1, 64) + " %" },
	"join": func(names []string) string { return strings.Join(names, ", ") },
}).Parse(reportTemplate))

// WriteHTML writes the report as a page that needs nothing else: no script, no font, no picture from elsewhere. Names are escaped.
func (r *Report) WriteHTML(w io.Writer) error {
	page := struct {
		*Report
		ROC, LogROC         *plot
		Calibration         *plot
		Families, Distances []*plot
	}{Report: r, Calibration: r.plotCalibration()}
	if len(r.Stages) > 0 {
		page.ROC, page.LogROC = r.plotROC(false), r.plotROC(true)
		page.Families = r.plotFamilies()
	}
	for i := range r.Agents {
		page.Distances = append(page.Distances, r.plotScores(&r.Agents[i]))
	}
	if err := reportPage.Execute(w, page); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// plot is a drawing. Everything in it is numbers and text: the template makes SVG of it.
type plot struct {
	Title         string // for those who do not see it, and for who points at it
	Caption       string
	Width, Height int
	Boxes         []box
	Grid, Lines   []line // under the boxes and over them
	Texts         []text
	Legend        []key
}

type box struct{ X, Y, W, H, Class, Title string }

type line struct{ D, Class string }

type text struct{ X, Y, Anchor, Class, Text string }

type key struct{ Class, Text string }

func px(x float64) string { return strconv.FormatFloat(math.Round(x*10)/10, 'f', -1, 64) }

// axes of a plot: where its field lies.
type axes struct {
	p                        *plot
	left, top, right, bottom float64
	x, y                     func(float64) float64 // of data, to the field's 0 to 1
}

func newAxes(title string, width, height int, left, right float64) *axes {
	linear := func(v float64) float64 { return v }
	return &axes{p: &plot{Title: title, Width: width, Height: height}, left: left, top: 10, right: float64(width) - right, bottom: float64(height) - 42, x: linear, y: linear}
}

func (a *axes) at(x, y float64) (float64, float64) {
	clamp := func(v float64) float64 { return min(1, max(0, v)) }
	return a.left + clamp(a.x(x))*(a.right-a.left), a.bottom - clamp(a.y(y))*(a.bottom-a.top)
}

// tick draws a line of the grid with its number.
func (a *axes) tickX(v float64, label string) {
	x, _ := a.at(v, 0)
	a.p.Grid = append(a.p.Grid, line{"M" + px(x) + " " + px(a.top) + "V" + px(a.bottom), "grid"})
	a.p.Texts = append(a.p.Texts, text{px(x), px(a.bottom + 16), "middle", "tick", label})
}

func (a *axes) tickY(v float64, label string) {
	_, y := a.at(0, v)
	a.p.Grid = append(a.p.Grid, line{"M" + px(a.left) + " " + px(y) + "H" + px(a.right), "grid"})
	a.p.Texts = append(a.p.Texts, text{px(a.left - 6), px(y + 4), "end", "tick", label})
}

func (a *axes) labels(x, y string) {
	a.p.Texts = append(a.p.Texts, text{px((a.left + a.right) / 2), px(a.bottom + 35), "middle", "label", x})
	if y != "" {
		a.p.Caption = y
	}
}

func (a *axes) path(class string, points []Point) {
	var d strings.Builder
	for i, p := range points {
		x, y := a.at(p.FPR, p.TPR)
		if i == 0 {
			d.WriteString("M")
		} else {
			d.WriteString("L")
		}
		d.WriteString(px(x) + " " + px(y))
	}
	a.p.Lines = append(a.p.Lines, line{d.String(), class})
}

// logarithmic maps from..1 to 0..1.
func logarithmic(from float64) func(float64) float64 {
	return func(v float64) float64 {
		if !(v > from) {
			return 0
		}
		return 1 - math.Log(v)/math.Log(from)
	}
}

// leastRate is where a logarithmic axis of rates begins.
const leastRate = 0.001

func (r *Report) plotROC(logarithm bool) *plot {
	a := newAxes("ROC curves: true-positive rate by false-positive rate", 640, 400, 54, 28)
	grid := []float64{0, 0.2, 0.4, 0.6, 0.8, 1}
	from := 0.
	if logarithm {
		from = leastRate
		a.x = logarithmic(from)
		for _, v := range []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1} {
			a.tickX(v, percentage(v))
		}
	} else {
		for _, v := range grid {
			a.tickX(v, percentage(v))
		}
	}
	for _, v := range grid {
		a.tickY(v, percentage(v))
	}
	a.labels("false-positive rate"+map[bool]string{true: ", logarithmic"}[logarithm], "true-positive rate")
	var chance []Point
	for i := range 101 {
		v := from + (1-from)*math.Pow(float64(i)/100, 3)
		chance = append(chance, Point{v, v})
	}
	a.path("chance", chance)
	for i, s := range r.Stages {
		class := style(i)
		a.path("curve "+class, steps(s.Table.ROC, from))
		a.p.Legend = append(a.p.Legend, key{class, s.Title})
	}
	return a.p
}

// steps draws a curve from a rate on as what it is: it rises at its points and nowhere else. Steps that nobody could see are left out.
func steps(curve []Point, from float64) []Point {
	out := []Point{{from, at(curve, from)}}
	for i, p := range curve {
		last := out[len(out)-1]
		if p.FPR <= from || i < len(curve)-1 && p.TPR-last.TPR < 0.001 {
			continue
		}
		out = append(out, Point{p.FPR, last.TPR}, p)
	}
	return out
}

// style is how the i-th curve of a plot is drawn: in one of six colours, and what is beyond six dashed and then dotted.
func style(i int) string {
	return fmt.Sprintf("c%d", i%6) + []string{"", " dashed", " dotted"}[i/6%3]
}

func percentage(v float64) string { return strconv.FormatFloat(v*100, 'g', 3, 64) + " %" }

// plotFamilies draws what is found of each family of attacks, for the first question and the last but one rate.
func (r *Report) plotFamilies() []*plot {
	const row, rate = 26, 1
	t := &r.Stages[0].Table
	var out []*plot
	draw := func(title string, families []Line, mean *Line) {
		rows := append([]Line(nil), families...)
		rows = append(rows, *mean)
		a := newAxes(title, 640, len(rows)*row+58, 210, 60)
		for _, v := range []float64{0, 0.25, 0.5, 0.75, 1} {
			a.tickX(v, percentage(v))
		}
		for i := range rows {
			l := &rows[i]
			f := l.TPR[rate]
			y := a.top + float64(i*row)
			class := "bar"
			if i == len(rows)-1 {
				class = "bar mean"
			}
			a.p.Texts = append(a.p.Texts, text{px(a.left - 8), px(y + 17), "end", "name", shorten(l.Name, 30)})
			if math.IsNaN(f.Value) {
				a.p.Texts = append(a.p.Texts, text{px(a.left + 4), px(y + 17), "start", "tick", "none"})
				continue
			}
			x, _ := a.at(f.Value, 0)
			a.p.Boxes = append(a.p.Boxes, box{px(a.left), px(y + 5), px(x - a.left), px(row - 10), class, fmt.Sprintf("%s: %.3f (%.3f–%.3f), %d attacks", l.Name, f.Value, f.Low, f.High, l.Positives)})
			if !math.IsNaN(f.Low) {
				low, _ := a.at(f.Low, 0)
				high, _ := a.at(f.High, 0)
				middle := px(y + row/2)
				a.p.Lines = append(a.p.Lines, line{"M" + px(low) + " " + middle + "H" + px(high) + "M" + px(low) + " " + px(y+8) + "V" + px(y+row-8) + "M" + px(high) + " " + px(y+8) + "V" + px(y+row-8), "whisker"})
			}
			a.p.Texts = append(a.p.Texts, text{px(a.right + 8), px(y + 17), "start", "value", fmt.Sprintf("%.3f", f.Value)})
		}
		a.labels(fmt.Sprintf("share found at a false-positive rate of %s", percentage(r.Rates[rate])), title)
		out = append(out, a.p)
	}
	draw("all agents", t.Families, &t.FamilyMean)
	if len(t.Agents) > 1 {
		for i := range t.Agents {
			draw(t.Agents[i].Name, t.AgentFamilies[i], &t.AgentFamilyMeans[i])
		}
	}
	return out
}

func (r *Report) plotScores(agent *Agent) *plot {
	a := newAxes("Scores of "+agent.Name, 640, 250, 54, 28)
	h := &agent.Scores
	a.x = func(v float64) float64 { return (v - h.From) / (h.To - h.From) }
	highest := 0.
	for i := range h.Benign {
		highest = max(highest, h.Benign[i], h.Attack[i])
	}
	highest = math.Ceil(max(highest, 0.01)*20) / 20
	a.y = func(v float64) float64 { return v / highest }
	for i := range 5 {
		v := h.From + (h.To-h.From)*float64(i)/4
		a.tickX(v, strconv.FormatFloat(v, 'f', 3, 64))
		a.tickY(highest*float64(i)/4, percentage(highest*float64(i)/4))
	}
	width := (h.To - h.From) / float64(len(h.Benign))
	for i := range h.Benign {
		from := h.From + float64(i)*width
		for _, s := range []struct {
			share float64
			class string
			what  string
		}{{h.Benign[i], "benign", "benign calls"}, {h.Attack[i], "attack", "first exposed calls"}} {
			if s.share == 0 {
				continue
			}
			left, top := a.at(from, s.share)
			right, _ := a.at(from+width, 0)
			a.p.Boxes = append(a.p.Boxes, box{px(left + 0.5), px(top), px(right - left - 1), px(a.bottom - top), s.class, fmt.Sprintf("%.3f to %.3f: %.1f %% of %s", from, from+width, s.share*100, s.what)})
		}
	}
	x, _ := a.at(agent.Threshold, 0)
	a.p.Lines = append(a.p.Lines, line{"M" + px(x) + " " + px(a.top) + "V" + px(a.bottom), "threshold"})
	a.p.Legend = []key{{"benign", fmt.Sprintf("benign calls (%d)", agent.Benign)}}
	if agent.Attacks > 0 {
		a.p.Legend = append(a.p.Legend, key{"attack", fmt.Sprintf("first exposed calls (%d)", agent.Attacks)})
	}
	a.p.Legend = append(a.p.Legend, key{"threshold", fmt.Sprintf("threshold for %s, mean of the models: %.3f", percentage(r.Budget), agent.Threshold)})
	a.labels("score", agent.Name+": share of calls")
	return a.p
}

func (r *Report) plotCalibration() *plot {
	a := newAxes("Realised false-positive rate by budget", 640, 400, 54, 28)
	a.x, a.y = logarithmic(leastRate), logarithmic(leastRate)
	for _, v := range []float64{0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1} {
		a.tickX(v, percentage(v))
		a.tickY(v, percentage(v))
	}
	a.labels("budget: share of benign calls that may exceed", "share of benign calls that did")
	a.path("chance", []Point{{leastRate, leastRate}, {1, 1}})
	for i, s := range r.Budgets {
		class := style(i)
		var points []Point
		for _, c := range s.Calibration {
			points = append(points, Point{c.Budget, c.Realised})
		}
		a.path("curve "+class, points)
		a.p.Legend = append(a.p.Legend, key{class, fmt.Sprintf("%s (%d calls)", shorten(s.Name, 60), s.Calls)})
	}
	return a.p
}

func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
