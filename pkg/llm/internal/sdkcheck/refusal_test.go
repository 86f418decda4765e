package sdkcheck_test

import (
	"strings"
	"testing"

	"sallyport.dev/sallyport/pkg/llm"
)

// refusal is one whose message has what is hard to carry: quotes, a line's end, markup, bytes that are no UTF-8 and a line separator.
var refusal = llm.Refusal{DecisionID: "01J-7", Rule: "MODEL-001", Message: "The model \"x\" is\nnot <allowed>\xff\u2028here"}

// wantRefusal checks that what an SDK shows of the refusal is all of it.
func wantRefusal(t *testing.T, text string) {
	t.Helper()
	for _, want := range []string{"MODEL-001", "01J-7", "The model \"x\" is\nnot <allowed>\ufffd\u2028here.", "another route"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
}
