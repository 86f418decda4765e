package evaluation

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// schemaKey names the feature schema in the metadata of a Parquet file.
const schemaKey = "sallyport.schema"

// texts are the columns of strings, with what they are in a sample.
var texts = []struct {
	name string
	of   func(*Sample) *string
}{
	{"id", func(s *Sample) *string { return &s.ID }},
	{"workload", func(s *Sample) *string { return &s.Workload }},
	{"session", func(s *Sample) *string { return &s.Session }},
	{"agent", func(s *Sample) *string { return &s.Agent }},
	{"task", func(s *Sample) *string { return &s.Task }},
	{"model", func(s *Sample) *string { return &s.Model }},
	{"attack", func(s *Sample) *string { return &s.Attack }},
	{"stage", func(s *Sample) *string { return (*string)(&s.Stage) }},
	{"label", func(s *Sample) *string { return (*string)(&s.Label) }},
	{"outcome", func(s *Sample) *string { return (*string)(&s.Outcome) }},
	{"schema", func(s *Sample) *string { return &s.Schema }},
}

// flags are the columns of booleans.
var flags = []struct {
	name string
	of   func(*Sample) *bool
}{
	{"exceeds", func(s *Sample) *bool { return &s.Exceeds }},
	{"tainted", func(s *Sample) *bool { return &s.Tainted }},
}

// parquetSchema has a column of 32-bit floats for each feature, by its name, and one for each thing else that is known of a call.
var parquetSchema = func() *parquet.Schema {
	g := parquet.Group{
		"time":     parquet.Optional(parquet.Timestamp(parquet.Nanosecond)),
		"evidence": parquet.Leaf(parquet.ByteArrayType),
	}
	for _, t := range texts {
		g[t.name] = parquet.Encoded(parquet.String(), &parquet.RLEDictionary)
	}
	for _, f := range flags {
		g[f.name] = parquet.Leaf(parquet.BooleanType)
	}
	for _, f := range features.Schema {
		g[f.Name] = parquet.Leaf(parquet.FloatType)
	}
	return parquet.NewSchema("sallyport", g)
}()

// ParquetWriter writes samples to a Parquet file, which is no file before Close.
type ParquetWriter struct {
	w    *parquet.GenericWriter[any]
	rows []parquet.Row
}

// rowsAtOnce is how many rows are handed to and from the library at a time, and rowsOfGroup how many are held in memory before they are written.
const (
	rowsAtOnce  = 64
	rowsOfGroup = 1 << 14
)

// NewParquetWriter returns a writer of samples.
func NewParquetWriter(w io.Writer) *ParquetWriter {
	return &ParquetWriter{w: parquet.NewGenericWriter[any](w, parquetSchema, parquet.Compression(&parquet.Zstd), parquet.KeyValueMetadata(schemaKey, features.SchemaID),
		parquet.CreatedBy("sallyport", "", ""), parquet.MaxRowsPerRowGroup(rowsOfGroup))}
}

// Write writes one sample, which must have features.
func (p *ParquetWriter) Write(s *Sample) error {
	row := make(parquet.Row, len(parquetSchema.Columns()))
	set := func(name string, v parquet.Value, level int) {
		column, _ := parquetSchema.Lookup(name)
		row[column.ColumnIndex] = v.Level(0, level, column.ColumnIndex)
	}
	for _, t := range texts {
		set(t.name, parquet.ByteArrayValue([]byte(*t.of(s))), 0)
	}
	for _, f := range flags {
		set(f.name, parquet.BooleanValue(*f.of(s)), 0)
	}
	for i, f := range features.Schema {
		set(f.Name, parquet.FloatValue(s.Vector[i]), 0)
	}
	if s.Time.IsZero() {
		set("time", parquet.NullValue(), 0)
	} else {
		set("time", parquet.Int64Value(s.Time.UnixNano()), 1)
	}
	set("evidence", parquet.ByteArrayValue(s.Evidence), 0)
	if p.rows = append(p.rows, row); len(p.rows) == rowsAtOnce {
		return p.flush()
	}
	return nil
}

func (p *ParquetWriter) flush() error {
	_, err := p.w.WriteRows(p.rows)
	p.rows = p.rows[:0]
	if err != nil {
		return fmt.Errorf("write Parquet: %w", err)
	}
	return nil
}

// Close writes what is left and the end of the file. The writer below stays open.
func (p *ParquetWriter) Close() error {
	err := p.flush()
	if cerr := p.w.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("write Parquet: %w", cerr)
	}
	return err
}

// setter puts a column's value into a sample.
type setter func(*Sample, parquet.Value) error

// parquet reads a Parquet file row group by row group.
func (s source) parquet(ctx context.Context, want func(*Sample) bool, each func(*Sample) error) (err error) {
	row, callee := 0, false
	defer func() {
		// The library panics on some files that are damaged; what the callee panics with is not ours to take.
		if !callee {
			if p := recover(); p != nil {
				err = fmt.Errorf("%s: row %d: damaged Parquet file: %v", s.name, row+1, p)
			}
		}
	}()
	f, err := os.Open(s.path)
	if err != nil {
		return err // names the file
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := footer(f, info.Size()); err != nil {
		return fmt.Errorf("%s: not a Parquet file that can be read: %w", s.name, err)
	}
	file, err := parquet.OpenFile(f, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%s: not a Parquet file that can be read: %w", s.name, err)
	}
	if id, ok := file.Lookup(schemaKey); ok && id != features.SchemaID {
		return fmt.Errorf("%s: %w: %.64q, not %q", s.name, ErrSchema, id, features.SchemaID)
	}
	if err := compressions(file.Metadata()); err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	setters, err := columns(file.Schema())
	if err != nil {
		return fmt.Errorf("%s: %w", s.name, err)
	}
	buffer := make([]parquet.Row, rowsAtOnce)
	for _, group := range file.RowGroups() {
		rows := group.Rows()
		for {
			n, rerr := rows.ReadRows(buffer)
			if n == 0 && rerr == nil {
				rerr = io.ErrNoProgress // a damaged file says so for ever
			}
			for _, r := range buffer[:n] {
				if err := ctx.Err(); err != nil {
					return errors.Join(err, rows.Close())
				}
				at := fmt.Sprintf("%s:%d", s.name, row+1)
				sample := &Sample{At: at}
				var err error
				for _, v := range r {
					if c := v.Column(); c >= 0 && c < len(setters) && setters[c] != nil {
						if err = errors.Join(err, setters[c](sample, v)); err != nil {
							break
						}
					}
				}
				if err == nil {
					err = sample.complete()
				}
				if err == nil && want(sample) {
					callee = true
					err = each(sample)
					callee = false
				}
				if err != nil {
					_ = rows.Close()
					return fmt.Errorf("%s: %w", at, err)
				}
				row++
			}
			if rerr != nil {
				if cerr := rows.Close(); errors.Is(rerr, io.EOF) {
					rerr = cerr
				}
				if rerr != nil {
					return fmt.Errorf("%s: row %d: %w", s.name, row+1, rerr)
				}
				break
			}
		}
	}
	return nil
}

// footer checks how long the end of a Parquet file says that it is: the library takes its word, and memory for it.
func footer(f io.ReaderAt, size int64) error {
	const frame = 12 // magic, and at the end length and magic
	var end [8]byte
	if size < frame {
		return io.ErrUnexpectedEOF
	}
	if _, err := f.ReadAt(end[:], size-int64(len(end))); err != nil {
		return err
	}
	if n := int64(binary.LittleEndian.Uint32(end[:])); string(end[4:]) != "PAR1" || n > size-frame {
		return errors.New("its end is missing or damaged")
	}
	return nil
}

// compressions refuses a file with pages that the library cannot decompress. Of LZ4_RAW it makes zeros where a page is compressed to more than a third, without an error, and
// of a damaged page it never makes an end.
func compressions(m *format.FileMetaData) error {
	for i := range m.RowGroups {
		for j := range m.RowGroups[i].Columns {
			c := &m.RowGroups[i].Columns[j].MetaData
			switch c.Codec {
			case format.Uncompressed, format.Snappy, format.Gzip, format.Brotli, format.Zstd:
			default:
				return fmt.Errorf("column %s is compressed by %s; accepted are ZSTD, SNAPPY, GZIP, BROTLI and no compression", strings.Join(c.PathInSchema, "."), c.Codec)
			}
		}
	}
	return nil
}

// complete fills in what a file of another's making need not have, and refuses what cannot be.
func (s *Sample) complete() error {
	if s.Schema == "" {
		s.Schema = features.SchemaID
	}
	if s.Schema != features.SchemaID {
		return fmt.Errorf("%w: %.64q, not %q", ErrSchema, s.Schema, features.SchemaID)
	}
	if s.Outcome == "" {
		s.Outcome = telemetry.OutcomeReleased
	}
	if s.Session == "" {
		return errors.New("no session")
	}
	if len(s.Evidence) == 0 {
		s.Evidence = nil
	} else if _, err := features.DecodeEvidence(s.Evidence); err != nil {
		return err
	}
	return s.check()
}

// columns finds the columns that are known and says what to do with the values of each. Every feature must be there.
func columns(schema *parquet.Schema) ([]setter, error) {
	out := make([]setter, len(schema.Columns()))
	find := func(name, kinds string, ok func(parquet.Kind) bool, set func(*Sample, parquet.Value)) (bool, error) {
		c, there := schema.Lookup(name)
		if !there {
			return false, nil
		}
		if !ok(c.Node.Type().Kind()) || c.MaxRepetitionLevel > 0 {
			return true, fmt.Errorf("column %s is of type %s; accepted is %s", name, c.Node.Type(), kinds)
		}
		out[c.ColumnIndex] = func(s *Sample, v parquet.Value) error {
			if !v.IsNull() {
				set(s, v)
			}
			return nil
		}
		return true, nil
	}
	var missing []string
	for i, f := range features.Schema {
		there, err := find(f.Name, "float or double", func(k parquet.Kind) bool { return k == parquet.Float || k == parquet.Double }, nil)
		if err != nil {
			return nil, err
		}
		if !there {
			missing = append(missing, f.Name)
			continue
		}
		column, _ := schema.Lookup(f.Name)
		out[column.ColumnIndex] = func(s *Sample, v parquet.Value) error {
			x := math.NaN()
			switch v.Kind() {
			case parquet.Double:
				x = v.Double()
			case parquet.Float:
				x = float64(v.Float())
			}
			if s.Vector[i] = float32(x); math.IsNaN(x) || math.IsInf(float64(s.Vector[i]), 0) {
				return fmt.Errorf("column %s is %v; accepted are finite numbers, and a value in every row", f.Name, v)
			}
			return nil
		}
	}
	if n := len(missing); n > 0 {
		if n > 3 {
			missing = append(missing[:3], fmt.Sprintf("and %d more", n-3))
		}
		return nil, fmt.Errorf("%w: no column %s of %q", ErrSchema, strings.Join(missing, ", "), features.SchemaID)
	}
	binary := func(k parquet.Kind) bool { return k == parquet.ByteArray }
	for _, t := range texts {
		there, err := find(t.name, "string", binary, func(s *Sample, v parquet.Value) { *t.of(s) = string(v.ByteArray()) })
		if err != nil {
			return nil, err
		}
		if !there && t.name == "session" {
			return nil, errors.New("no column session")
		}
	}
	for _, f := range flags {
		if _, err := find(f.name, "boolean", func(k parquet.Kind) bool { return k == parquet.Boolean }, func(s *Sample, v parquet.Value) { *f.of(s) = v.Boolean() }); err != nil {
			return nil, err
		}
	}
	if _, err := find("evidence", "binary", binary, func(s *Sample, v parquet.Value) { s.Evidence = append([]byte(nil), v.ByteArray()...) }); err != nil {
		return nil, err
	}
	unit := time.Nanosecond
	if c, ok := schema.Lookup("time"); ok {
		if l := c.Node.Type().LogicalType(); l != nil {
			if t, ok := l.Value.(*format.TimestampType); ok {
				unit = t.Unit.Value.Duration()
			}
		}
	}
	_, err := find("time", "timestamp", func(k parquet.Kind) bool { return k == parquet.Int64 }, func(s *Sample, v parquet.Value) {
		n := v.Int64()
		switch unit {
		case time.Millisecond:
			s.Time = time.UnixMilli(n).UTC()
		case time.Microsecond:
			s.Time = time.UnixMicro(n).UTC()
		default:
			s.Time = time.Unix(0, n).UTC()
		}
	})
	return out, err
}
