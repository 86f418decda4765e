// Package evaluation says what a detector catches and what it costs: from recorded traffic, on tasks that the detector has not seen.
package evaluation
