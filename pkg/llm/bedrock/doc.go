// Package bedrock reads and answers the runtime API of AWS Bedrock, on the wire and nothing else: no client, no server, no signature.
//
//	call := bedrock.Converse(&llm.Request{Vars: []string{"us.amazon.nova-pro-v1%3A0"}, ContentType: "application/json", Body: body}, llm.DefaultLimits())
//
// Converse has one form for all models. InvokeModel hands the body over to the model, so that its form is that of the model's maker, which
// is told from the model's id; a body whose maker cannot be told is of llm.ClassUnknown, for nobody can say what is in it.
//
// Most callers want package surface, which picks the codec by API, method and path.
package bedrock
