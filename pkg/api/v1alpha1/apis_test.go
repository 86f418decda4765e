package v1alpha1_test

import (
	"slices"
	"testing"

	"sallyport.dev/sallyport/pkg/api/v1alpha1"
	"sallyport.dev/sallyport/pkg/llm/surface"
)

// A ModelProvider may say every API that can be read, and no other.
func TestAPIsAreThoseOfTheTable(t *testing.T) {
	var known []string
	for _, api := range v1alpha1.ModelProviderAPIs() {
		known = append(known, string(api))
	}
	slices.Sort(known)
	if table := surface.APIs(); !slices.Equal(known, table) {
		t.Errorf("ModelProvider knows %q, the table of surfaces has %q", known, table)
	}
}
