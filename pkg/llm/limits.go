package llm

// Limits bound what a codec reads. A field that is zero or negative takes its default, so that no limit
// can be switched off by leaving it out.
type Limits struct {
	// MaxBytes is the length of a body, in bytes; a longer one is FindingOversize and is not read. Default 32 MiB.
	MaxBytes int64
	// MaxDepth is how deep objects and arrays may nest; the body itself is depth 1. Default 64.
	MaxDepth int
	// MaxFindings is how many findings are kept; one more, FindingTooMany, says that some are missing. Default 32.
	MaxFindings int
}

// DefaultLimits returns the limits that hold where nothing else is said.
func DefaultLimits() Limits {
	return Limits{MaxBytes: 32 << 20, MaxDepth: 64, MaxFindings: 32}
}

// WithDefaults returns l with every field that is not positive replaced by its default.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	if l.MaxBytes > 0 {
		d.MaxBytes = l.MaxBytes
	}
	if l.MaxDepth > 0 {
		d.MaxDepth = l.MaxDepth
	}
	if l.MaxFindings > 0 {
		d.MaxFindings = l.MaxFindings
	}
	return d
}
