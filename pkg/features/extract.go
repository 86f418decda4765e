package features

import (
	"time"

	"sallyport.dev/sallyport/pkg/llm"
)

// Extract writes the call's features to dst.
func Extract(dst *Vector, call *llm.Call, t *Turn, now time.Time) {}
