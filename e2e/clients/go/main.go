// Command go drives Go's model clients, unmodified, for the matrix of package clients: it is told nothing but what a user of the
// library writes, and finds its way through the environment that a user sets.
//
// Its argument names the client. It reads jobs from its standard input, one JSON object a line, and answers each with one line; before that, with a line
// {"event":"first"} when the first text of a stream has come.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

// job is something to do with a client. Scenario is plain, streamed, tools, image, abort, or one that shows only in how it ends.
type job struct {
	Client   string `json:"client"`
	Surface  string `json:"surface"`
	Scenario string `json:"scenario"`
	Model    string `json:"model"`
	Prompt   string `json:"prompt"`
	Image    []byte `json:"image"` // PNG
}

func (j job) streams() bool { return j.Scenario == "streamed" || j.Scenario == "abort" }

// result is what a user of the client sees.
type result struct {
	Client    string `json:"client"`
	Surface   string `json:"surface"`
	Scenario  string `json:"scenario"`
	OK        bool   `json:"ok"`
	Exception string `json:"exception"`
	Message   string `json:"message"`
	Text      string `json:"text"`
}

// call is a job on its way.
type call struct {
	job
	cancel context.CancelFunc
	begun  bool
	text   string
}

// said takes a piece of a stream. A job that is to be aborted ends with the first.
func (c *call) said(piece string) {
	c.text += piece
	if piece != "" && !c.begun {
		c.begun = true
		emit(map[string]string{"event": "first"})
		if c.Scenario == "abort" {
			c.cancel()
		}
	}
}

// lookup is the tool that jobs offer.
func lookup(query string) string { return "The shelf says: " + query }

// clients do a job each. A new client is made for every job, as programs that are started for one call do.
var clients = map[string]func(ctx context.Context, c *call) error{
	"openai-go":                 openAI,
	"azure-openai-go":           openAI,
	"go-openai":                 goOpenAI,
	"anthropic-sdk-go":          claude,
	"google-genai-go":           gemini,
	"google-genai-go-vertex":    gemini,
	"aws-sdk-go-bedrockruntime": converse,
	"aws-sdk-go-base-url":       converse,
}

func emit(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // only strings are given
	}
	fmt.Println(string(b))
}

func main() {
	if len(os.Args) != 2 || clients[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: go CLIENT")
		os.Exit(2)
	}
	run := clients[os.Args[1]]
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var j job
		if err := json.Unmarshal(lines.Bytes(), &j); err != nil {
			fmt.Fprintln(os.Stderr, "read a job:", err)
			os.Exit(1)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		c := &call{job: j, cancel: cancel}
		err := run(ctx, c)
		cancel()
		r := result{Client: j.Client, Surface: j.Surface, Scenario: j.Scenario, OK: err == nil, Text: c.text}
		if err != nil {
			r.Exception, r.Message = describe(err)
		}
		emit(r)
	}
}
