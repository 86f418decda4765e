package policy

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Bounds on what a decision carries out of an evaluation, so that a policy cannot fill logs and refusals.
const (
	maxReasons       = 32
	maxRuleBytes     = 64
	maxMessageBytes  = 512
	maxReportedRules = 64
)

var errMalformed = errors.New("the policy's decision is malformed")

// readDecision reads {"action", "reasons", "obligations"} and nothing else. An allow has no reasons and everything else has one at
// least. The obligations of an older system module, which has none, are none; those of what is no allow are not read.
func readDecision(v ast.Value) (d Decision, err error) {
	obj, ok := v.(ast.Object)
	if !ok {
		return Decision{}, errMalformed
	}
	obligations := obj.Get(ast.InternedTerm("obligations"))
	if obligations == nil && obj.Len() != 2 || obligations != nil && obj.Len() != 3 {
		return Decision{}, errMalformed
	}
	word, ok := stringAt(obj, "action")
	if !ok {
		return Decision{}, errMalformed
	}
	d.Action = Action(word)
	if d.Reasons, err = readReasons(obj.Get(ast.InternedTerm("reasons"))); err != nil {
		return Decision{}, err
	}
	switch d.Action {
	case ActionAllow:
		if len(d.Reasons) != 0 {
			return Decision{}, errMalformed
		}
		if obligations != nil && !each(obligations, d.Obligations.read) {
			return Decision{}, errMalformed
		}
		d.Obligations.Response = d.Obligations.Response.Stricter(ResponseObserve)
	case ActionDeny, ActionHold:
		if len(d.Reasons) == 0 {
			return Decision{}, errMalformed
		}
	default:
		return Decision{}, errMalformed
	}
	return d, nil
}

func readReasons(list *ast.Term) ([]Reason, error) {
	var reasons []Reason
	ok := list != nil && each(list, func(t *ast.Term) bool {
		reason, ok := t.Value.(ast.Object)
		if !ok {
			return false
		}
		rule, ok1 := stringAt(reason, "rule")
		message, ok2 := stringAt(reason, "message")
		reasons = append(reasons, Reason{Rule: bounded(rule, maxRuleBytes), Message: bounded(message, maxMessageBytes)})
		return ok1 && ok2
	})
	if !ok {
		return nil, errMalformed
	}
	slices.SortFunc(reasons, func(a, b Reason) int {
		return cmp.Or(strings.Compare(a.Rule, b.Rule), strings.Compare(a.Message, b.Message))
	})
	if len(reasons) > maxReasons {
		reasons = reasons[:maxReasons]
	}
	return reasons, nil
}

// read joins {"response": mode} or {"redact": kind} with what is there, and reports whether it is one of those.
func (o *Obligations) read(t *ast.Term) bool {
	obj, ok := t.Value.(ast.Object)
	if !ok || obj.Len() != 1 {
		return false
	}
	what, ok := obj.Keys()[0].Value.(ast.String)
	if !ok {
		return false
	}
	value, ok := stringAt(obj, string(what))
	return ok && o.add(string(what), value)
}

// each asks for every element of a set or an array, until one is refused. Anything else is refused, too.
func each(t *ast.Term, accept func(*ast.Term) bool) bool {
	visit := func(t *ast.Term) error {
		if !accept(t) {
			return errMalformed
		}
		return nil
	}
	switch x := t.Value.(type) {
	case ast.Set:
		return x.Iter(visit) == nil
	case *ast.Array:
		return x.Iter(visit) == nil
	default:
		return false
	}
}

func stringAt(o ast.Object, name string) (string, bool) {
	t := o.Get(ast.InternedTerm(name))
	if t == nil {
		return "", false
	}
	s, ok := t.Value.(ast.String)
	return string(s), ok
}

// bounded cuts at a character's start.
func bounded(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// rules are the labels "rule" of the rules that fired, sorted, each once.
func rules(labels []map[string]any) []string {
	var ids []string
	for _, l := range labels {
		if id, ok := l["rule"].(string); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) > maxReportedRules {
		ids = ids[:maxReportedRules]
	}
	return ids
}
