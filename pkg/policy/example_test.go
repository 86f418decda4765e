package policy_test

import (
	"context"
	"fmt"

	"sallyport.dev/sallyport/pkg/policy"
)

func ExampleNewStatic() {
	engine, err := policy.NewStatic(map[string]string{"small.rego": `package sallyport.bundle.small

allow if input.call.model == "gpt-4o-mini"

# METADATA
# labels:
#   rule: SMALL-001
deny contains {"rule": "SMALL-001", "message": "Too many messages."} if input.call.messages > 100
`})
	if err != nil {
		fmt.Println(err)
		return
	}
	in := policy.Input{
		Version: policy.InputVersion, Mode: "enforce", Phase: policy.PhaseRequest,
		Destination: policy.Destination{Kind: policy.DestinationModel, Provider: "openai", Host: "api.openai.com", Method: "POST"},
		Call:        policy.Call{Surface: "openai.chat_completions", Class: "model", Model: "gpt-4o-mini", Messages: 2},
	}
	fmt.Println(engine.Decide(context.Background(), &in).Action)

	in.Call.Messages = 101
	decision := engine.Decide(context.Background(), &in)
	fmt.Println(decision.Action, decision.Reasons)

	in.Call.Messages, in.Call.Model = 2, "gpt-4o"
	decision = engine.Decide(context.Background(), &in)
	fmt.Println(decision.Action, decision.Reasons)
	// Output:
	// allow
	// deny [{SMALL-001 Too many messages.}]
	// deny [{SYS-009 No policy bundle allows this call.}]
}

func ExampleCheck() {
	err := policy.Check(policy.Source{Name: "typo", Modules: map[string]string{"typo.rego": `package sallyport.bundle.typo

allow if input.anomly.score < 0.6
`}})
	fmt.Println(err != nil)
	// Output: true
}
