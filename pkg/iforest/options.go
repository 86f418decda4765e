package iforest

import (
	"fmt"
	"math"
	"math/bits"
	"runtime"
)

// Defaults of the paper: more trees lower the variance of a score only slowly,
// and small samples are what keeps anomalies from masking each other.
const (
	DefaultTrees      = 100
	DefaultSampleSize = 256
)

// Limits on what Fit accepts and Load believes. They bound the scoring form of a
// loaded forest to 24 MiB, and all of it to about 200 MiB, whatever the bytes
// claim.
const (
	// MaxTrees is the largest number of trees.
	MaxTrees = 1 << 14
	// MaxSampleSize is the largest number of rows a tree is grown on.
	MaxSampleSize = 1 << 14
	// MaxFeatures is the largest length of a row.
	MaxFeatures = 1 << 16
	// MaxSchema is the largest length of a schema's name, in bytes.
	MaxSchema = 255

	maxSlots     = 1 << 21 // trees × leaves of a complete tree
	maxExtension = 1000
)

// Options says how to fit a forest. The zero value is the paper's forest: 100
// trees of 256 rows each, classic splits, seed 0, all processors.
type Options struct {
	// Trees is the number of trees, 1 to MaxTrees; 0 means DefaultTrees.
	Trees int
	// SampleSize is ψ, the rows drawn without replacement for each tree, 2 to
	// MaxSampleSize; 0 means DefaultSampleSize. With fewer rows than that,
	// each tree sees all of them. Trees times SampleSize, the latter rounded
	// up to a power of two, may not exceed 2,097,152.
	SampleSize int
	// RangeExtension widens the range a split is drawn from, in standard
	// deviations of the feature, halved at each level. 0 is the classic
	// forest; 1 suits training on ordinary rows only, and the result is
	// insensitive to it between 0.25 and 3. It must lie in 0 to 1000.
	//
	// A feature that was constant in training is given a deviation of 0.5,
	// which presumes features on a scale where 1 is much: log1p of counts
	// and sizes, shares, flags.
	RangeExtension float64
	// Seed chooses the forest. Every value is good.
	Seed uint64
	// Workers is the number of goroutines that grow trees; 0 means
	// GOMAXPROCS. It changes the time Fit takes and nothing else.
	Workers int
	// Schema names what the features are, for example "calls/3". It travels
	// with the forest, and Load refuses a forest of another schema. At most
	// MaxSchema bytes; empty is a schema like any other.
	Schema string
}

// OptionError reports an option outside of what is accepted.
type OptionError struct {
	Option   string // the field of Options, or the argument
	Value    any
	Accepted string // what would have been accepted, in words
}

func (e *OptionError) Error() string {
	return fmt.Sprintf("iforest: %s is %v; accepted is %s", e.Option, e.Value, e.Accepted)
}

// complete checks o and fills in its defaults.
func (o Options) complete() (Options, error) {
	if o.Trees == 0 {
		o.Trees = DefaultTrees
	}
	if o.SampleSize == 0 {
		o.SampleSize = DefaultSampleSize
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.RangeExtension == 0 {
		o.RangeExtension = 0 // not −0: equal forests have equal encodings
	}
	switch {
	case o.Trees < 1 || o.Trees > MaxTrees:
		return o, &OptionError{"Trees", o.Trees, fmt.Sprintf("1 to %d, or 0 for %d", MaxTrees, DefaultTrees)}
	case o.SampleSize < 2 || o.SampleSize > MaxSampleSize:
		return o, &OptionError{"SampleSize", o.SampleSize, fmt.Sprintf("2 to %d, or 0 for %d", MaxSampleSize, DefaultSampleSize)}
	case o.Trees<<depthLimit(o.SampleSize) > maxSlots:
		return o, &OptionError{"Trees × SampleSize", fmt.Sprintf("%d × %d", o.Trees, o.SampleSize),
			fmt.Sprintf("at most %d, with SampleSize rounded up to a power of two", maxSlots)}
	case math.IsNaN(o.RangeExtension) || o.RangeExtension < 0 || o.RangeExtension > maxExtension:
		return o, &OptionError{"RangeExtension", o.RangeExtension, fmt.Sprintf("0 (classic) to %d", maxExtension)}
	case o.Workers < 0:
		return o, &OptionError{"Workers", o.Workers, "1 or more, or 0 for GOMAXPROCS"}
	case len(o.Schema) > MaxSchema:
		return o, &OptionError{"Schema", fmt.Sprintf("%d bytes long", len(o.Schema)), fmt.Sprintf("at most %d bytes", MaxSchema)}
	}
	return o, nil
}

// depthLimit is ⌈log₂ ψ⌉, the average height of a tree of ψ rows: what has not
// been isolated by then is not an anomaly.
func depthLimit(psi int) int { return bits.Len(uint(psi - 1)) }
