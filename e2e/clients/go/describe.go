package main

import (
	"errors"
	"fmt"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/aws/smithy-go"
	"github.com/openai/openai-go/v3"
	sashabaranov "github.com/sashabaranov/go-openai"
	"google.golang.org/genai"
)

// describe says which of the library's errors a user would branch on, and what it says.
func describe(err error) (exception, message string) {
	var (
		o *openai.Error
		a *anthropic.Error
		s *sashabaranov.APIError
		g genai.APIError
		w smithy.APIError
	)
	switch {
	case errors.As(err, &o):
		return fmt.Sprintf("%T %d %s", o, o.StatusCode, o.Code), o.Message
	case errors.As(err, &a):
		return fmt.Sprintf("%T %d", a, a.StatusCode), a.Error()
	case errors.As(err, &s):
		return fmt.Sprintf("%T %d", s, s.HTTPStatusCode), s.Error()
	case errors.As(err, &g):
		return fmt.Sprintf("%T %d %s", g, g.Code, g.Status), g.Message
	case errors.As(err, &w):
		return fmt.Sprintf("%T %s", w, w.ErrorCode()), w.ErrorMessage()
	}
	return fmt.Sprintf("%T", err), err.Error()
}
