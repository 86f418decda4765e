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

// Limits on what Fit accepts and Load believes. They bound a loaded forest to
// about 320 MiB of memory, whatever the bytes claim. (One of the default options
// takes some 2 MiB.)
const (
	// MaxTrees is the largest number of trees.
	MaxTrees = 1 << 14
	// MaxSampleSize is the largest number of rows a tree is grown on.
	MaxSampleSize = 1 << 14
	// MaxFeatures is the largest length of a row.
	MaxFeatures = 1 << 16
	// MaxSchema is the largest length of a schema's name, in bytes.
	MaxSchema = 255

	// NoDepthLimit, as Options.MaxDepth, lets trees grow until every row is
	// alone or equal to its company. (Trees of 64 levels do not occur but for
	// rows made to that end.)
	NoDepthLimit = 64
	// MaxColumns is the largest number of features a split combines.
	MaxColumns = 8
	// MaxCandidates is the largest number of splits a node chooses from.
	MaxCandidates = 64

	maxSlots     = 1 << 21 // trees × leaves of a complete tree
	maxExtension = 1000
)

// DefaultPrototypes is the number of rows a LeafDistance forest keeps.
const DefaultPrototypes = 1024

// Gain says how a threshold is found.
type Gain uint8

const (
	// GainNone draws thresholds at random (Liu et al. 2008).
	GainNone Gain = iota
	// GainPooled takes the threshold, and of several candidate splits the
	// one, that leaves the least pooled standard deviation in the two sides:
	// the fair-cut forest of Cortes, "Revisiting randomized choices in
	// isolation forests", arXiv 2110.13402. It finds clusters of anomalies
	// that random cuts miss.
	GainPooled
	// GainAveraged takes that of the least mean standard deviation, however
	// few rows a side has: SCiForest of Liu, Ting and Zhou, "On Detecting
	// Clustered Anomalies Using SCiForest", ECML-PKDD 2010. The paper has 2
	// columns and 10 candidates.
	GainAveraged
)

// String returns the name of the constant.
func (g Gain) String() string {
	return named(uint8(g), "Gain", "GainNone", "GainPooled", "GainAveraged")
}

// named is the name with a number, or the type and the number where there is
// none.
func named(n uint8, of string, names ...string) string {
	if int(n) < len(names) {
		return names[n]
	}
	return fmt.Sprintf("%s(%d)", of, n)
}

// Missing says what a NaN means.
type Missing uint8

const (
	// MissingRefused fails a Fit on rows with a NaN, and scores such a row 1:
	// what cannot be judged is not ordinary.
	MissingRefused Missing = iota
	// MissingMedian takes a NaN for the median of what the feature was in
	// training: it says nothing for or against a row. A row that has no value
	// at all still scores 1. Where it matters that a value is missing, add a
	// feature that tells so.
	MissingMedian
)

// String returns the name of the constant.
func (m Missing) String() string {
	return named(uint8(m), "Missing", "MissingRefused", "MissingMedian")
}

// Scoring says what a tree tells of a row.
type Scoring uint8

const (
	// PathLength is the number of splits on the way to the leaf, the paper's.
	PathLength Scoring = iota
	// LeafDistance is the Euclidean distance, in standard deviations of the
	// features, to a training row of the leaf that x falls into: a search
	// for the nearest of each tree's sample that looks at one row in it. It
	// is for training on ordinary rows only, where the distance to the
	// nearest tells anomalies best and no forest of path lengths comes near
	// it; rows the forest was fitted on are close to themselves, so it is of
	// no use where they hold the anomalies to be found. (Isolation by
	// nearest neighbours in subsamples is from Bandaragoda et al.,
	// "Isolation-based anomaly detection using nearest-neighbor ensembles",
	// Computational Intelligence 34(4), 2018; trees as a way to find
	// neighbours are from Dasgupta and Freund, STOC 2008.)
	LeafDistance
)

// String returns the name of the constant.
func (s Scoring) String() string { return named(uint8(s), "Scoring", "PathLength", "LeafDistance") }

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
	// and sizes, shares, flags. Below ⌈log₂ ψ⌉ levels nothing is widened.
	RangeExtension float64
	// MinDeviation is the least standard deviation a feature is taken to
	// have, for distances, hyperplanes and widened ranges; a feature that was
	// constant is taken to have 0.5 at least. It must lie in 0 to 1000. Where
	// a feature is nearly constant, its deviation says little of how far is
	// far: with LeafDistance and features on a scale where 1 is much, 0.5
	// tells more anomalies than 0, at the same rate of false positives.
	MinDeviation float64
	// MaxDepth is the number of splits after which a tree ends, 1 to
	// NoDepthLimit; 0 means ⌈log₂ ψ⌉, the paper's. Deeper trees tell ordinary
	// rows apart as well and cost about their mean depth in time and memory.
	MaxDepth int
	// Columns is how many features a split combines, 1 to MaxColumns; 0
	// means 1. With more than one, a split is a random hyperplane (Hariri,
	// Carrasco Kind and Brunner, "Extended Isolation Forest", TKDE 33(4),
	// 2021), over standardised features.
	Columns int
	// Gain says how thresholds are found. The zero value is random. With a
	// RangeExtension, half of the splits, by a coin, are extended random
	// ones.
	Gain Gain
	// Candidates is how many splits a node chooses from by its Gain, 1 to
	// MaxCandidates; 0 means 1. Without a Gain it must be 0 or 1.
	Candidates int
	// Missing says what a NaN means. The zero value refuses it.
	Missing Missing
	// Scoring says what a tree tells of a row. The zero value is PathLength.
	Scoring Scoring
	// Prototypes is how many training rows a LeafDistance forest keeps and
	// draws its samples from, 4 to MaxSampleSize; 0 means DefaultPrototypes. A
	// sample is at most half of them. With PathLength, which keeps none, it
	// must be 0.
	Prototypes int
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
	if o.Columns == 0 {
		o.Columns = 1
	}
	if o.Candidates == 0 {
		o.Candidates = 1
	}
	if o.Prototypes == 0 && o.Scoring == LeafDistance {
		o.Prototypes = DefaultPrototypes
	}
	if o.MinDeviation == 0 {
		o.MinDeviation = 0
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
	case math.IsNaN(o.MinDeviation) || o.MinDeviation < 0 || o.MinDeviation > maxExtension:
		return o, &OptionError{"MinDeviation", o.MinDeviation, fmt.Sprintf("0 to %d", maxExtension)}
	case o.MaxDepth < 0 || o.MaxDepth > NoDepthLimit:
		return o, &OptionError{"MaxDepth", o.MaxDepth, fmt.Sprintf("1 to %d, or 0 for ⌈log₂ ψ⌉", NoDepthLimit)}
	case o.Columns < 1 || o.Columns > MaxColumns:
		return o, &OptionError{"Columns", o.Columns, fmt.Sprintf("1 to %d, or 0 for 1", MaxColumns)}
	case o.Gain > GainAveraged:
		return o, &OptionError{"Gain", o.Gain, "GainNone, GainPooled or GainAveraged"}
	case o.Candidates < 1 || o.Candidates > MaxCandidates:
		return o, &OptionError{"Candidates", o.Candidates, fmt.Sprintf("1 to %d, or 0 for 1", MaxCandidates)}
	case o.Gain == GainNone && o.Candidates != 1:
		return o, &OptionError{"Candidates", o.Candidates, "1 without a Gain to choose by"}
	case o.Missing > MissingMedian:
		return o, &OptionError{"Missing", o.Missing, "MissingRefused or MissingMedian"}
	case o.Scoring > LeafDistance:
		return o, &OptionError{"Scoring", o.Scoring, "PathLength or LeafDistance"}
	case o.Scoring == PathLength && o.Prototypes != 0:
		return o, &OptionError{"Prototypes", o.Prototypes, "0 with PathLength, which keeps none"}
	case o.Scoring == LeafDistance && (o.Prototypes < 4 || o.Prototypes > MaxSampleSize):
		return o, &OptionError{"Prototypes", o.Prototypes, fmt.Sprintf("4 to %d, or 0 for %d", MaxSampleSize, DefaultPrototypes)}
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

// depth is the number of levels of a tree under its root, at most.
func (o *Options) depth() int {
	if o.MaxDepth != 0 {
		return o.MaxDepth
	}
	return depthLimit(o.SampleSize)
}

// linked reports whether trees need a scoring form that is not complete.
func (o *Options) linked() bool {
	return o.Columns > 1 || o.depth() > depthLimit(o.SampleSize)
}
