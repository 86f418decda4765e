package record

import "strings"

// MinID is how much of a decision's ID must be given, if not all of it: its time, to the millisecond.
const MinID = 13

// Matches says whether what was given is a decision's ID, or the beginning of one that is long enough.
func Matches(id, given string) bool {
	return id == given || len(given) >= MinID && strings.HasPrefix(id, given)
}
