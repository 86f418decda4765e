package strictjson

// Code is the stable name of a kind of problem.
type Code string

// The problems. Those that end the reading, because nothing that follows has a meaning to rely on, are marked as fatal: Parse
// returns false for them and the document has no values.
const (
	Unparseable  Code = "unparseable"     // fatal: a violation of the grammar, such as a raw control character in a string
	Oversize     Code = "oversize"        // fatal: more bytes or more values than the limit
	Depth        Code = "depth"           // fatal: nested deeper than the limit
	DuplicateKey Code = "duplicate_key"   // a name twice in one object, also when only equal after unescaping
	EscapedKey   Code = "escaped_key"     // a letter, digit or underscore of a name spelled as an escape
	InvalidUTF8  Code = "invalid_utf8"    // bytes that are no UTF-8, or half of a surrogate pair
	BOM          Code = "byte_order_mark" // a byte order mark before the text
	TrailingData Code = "trailing_data"   // anything but white space after the value
	NumberRange  Code = "number_range"    // a number that no float64 holds
)

// Problem is something that two readers could understand differently.
type Problem struct {
	Code Code
	// Path is a JSON pointer to the place: to the member for a duplicate or escaped key, "" for the whole text.
	Path string
	// Offset is the place in bytes from the start of the text.
	Offset int
	// Detail is a short sentence without content of the text.
	Detail string
}

// Options bound what is read. A field that is zero or negative takes its default.
type Options struct {
	MaxBytes    int64 // length of the text; default 32 MiB, never more than 1 GiB
	MaxDepth    int   // nesting of objects and arrays, the outermost being 1; default 64
	MaxValues   int   // values and names in the text; each takes 20 bytes of memory while it is read; default 1 Mi
	MaxProblems int   // problems that are kept; Document.Dropped counts the others; default 32
}

const (
	defaultMaxBytes    = 32 << 20
	defaultMaxDepth    = 64
	defaultMaxValues   = 1 << 20
	defaultMaxProblems = 32
	hardMaxBytes       = 1 << 30 // offsets are kept in 32 bits
)

func (o Options) withDefaults() Options {
	if o.MaxBytes <= 0 {
		o.MaxBytes = defaultMaxBytes
	}
	o.MaxBytes = min(o.MaxBytes, hardMaxBytes)
	if o.MaxDepth <= 0 {
		o.MaxDepth = defaultMaxDepth
	}
	if o.MaxValues <= 0 {
		o.MaxValues = defaultMaxValues
	}
	if o.MaxProblems <= 0 {
		o.MaxProblems = defaultMaxProblems
	}
	return o
}
