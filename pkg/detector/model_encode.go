package detector

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"sallyport.dev/sallyport/pkg/features"
	"sallyport.dev/sallyport/pkg/iforest"
)

// A model is encoded as
//
//	magic "SPDM", version (1 byte)
//	length of the schema (1 byte), schema
//	calls, sessions, prior and feedback rows, false positives and spent per million: uvarint
//	by DEFLATE, to the end of the stream:
//	  length of the forest: uvarint, the forest as iforest writes it
//	  length of the calibration: uvarint, the calibration as iforest writes it
//	  length of the reference: uvarint, the reference as iforest writes it
//	  how many calls are cleared: uvarint, and of each features.Size × float32
//	  length of the baseline: uvarint, the baseline as features writes it; 0 where there is none
//	  length of the likeness to labelled attacks: uvarint, 0 where there is none; weight and middle of each feature: float32; from, to, gain and line: float64
//	  ceiling of the threshold, as a distance: float64, 0 where there is none
//	CRC-32C of all that (4 bytes, little-endian)
//
// The threshold follows from the calibration, the budget and the ceiling. Version 4 is the same without likeness and ceiling, and version 3 without DEFLATE, by which a model takes an eighth: both are read still.
const (
	modelMagic    = "SPDM"
	modelVersion  = 5
	modelLikeness = 5        // the first with likeness and ceiling
	modelUnzipped = 3        // the last without DEFLATE
	maxModel      = 64 << 20 // with what is zipped as it was before
)

// encode makes the model's binary form.
func (m *Model) encode() error {
	var parts [3][]byte
	for i, part := range []struct {
		name string
		of   encoding.BinaryMarshaler
	}{{"forest", m.forest}, {"calibration", m.calibration}, {"reference", m.reference}} {
		b, err := part.of.MarshalBinary()
		if err != nil {
			return fmt.Errorf("encode %s: %w", part.name, err)
		}
		parts[i] = b
	}
	var body []byte
	for _, part := range parts {
		body = binary.AppendUvarint(body, uint64(len(part)))
		body = append(body, part...)
	}
	body = binary.AppendUvarint(body, uint64(len(m.cleared)))
	for i := range m.cleared {
		for _, x := range m.cleared[i] {
			body = binary.LittleEndian.AppendUint32(body, math.Float32bits(x))
		}
	}
	var k []byte
	if m.baseline != nil {
		var err error
		if k, err = m.baseline.AppendBinary(nil); err != nil {
			return fmt.Errorf("encode baseline: %w", err)
		}
	}
	body = binary.AppendUvarint(body, uint64(len(k)))
	body = append(body, k...)
	if m.like == nil {
		body = append(body, 0)
	} else {
		body = m.like.append(binary.AppendUvarint(body, likenessBytes))
	}
	body = binary.LittleEndian.AppendUint64(body, math.Float64bits(m.info.Ceiling))

	b := append([]byte(modelMagic), modelVersion, byte(len(m.info.Schema)))
	b = append(b, m.info.Schema...)
	for _, n := range []int{m.info.Calls, m.info.Sessions, m.info.PriorRows, m.info.FeedbackRows, m.info.FalsePositivesPerMillion, m.info.SpentPerMillion} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	b, err := appendZipped(b, body)
	if err != nil {
		return fmt.Errorf("encode model: %w", err)
	}
	m.keep(seal(b))
	return nil
}

// keep takes the model's binary form.
func (m *Model) keep(encoded []byte) {
	m.encoded = encoded
	sum := sha256.Sum256(encoded)
	m.digest = hex.EncodeToString(sum[:])
}

// Load reads a model that MarshalBinary wrote. An error wraps ErrSchema where the model is of another feature schema than this program's and
// ErrCorrupt where the bytes are no model. They need not be trusted not to be damaged, but whoever can write a model can make it find nothing: who must
// know that it is genuine asks for its digest elsewhere.
func Load(b []byte) (*Model, error) {
	r, version, err := unseal(b, modelMagic, maxModel)
	if err != nil {
		return nil, fmt.Errorf("load model: %w", err)
	}
	if version > modelVersion || version < modelUnzipped {
		return nil, fmt.Errorf("load model: version %d: %w", version, ErrCorrupt)
	}
	info := Info{Schema: string(r.bytes(uint64(r.byte())))}
	info.Calls = r.count(math.MaxInt32)
	info.Sessions = r.count(math.MaxInt32)
	info.PriorRows = r.count(math.MaxInt32)
	info.FeedbackRows = r.count(math.MaxInt32)
	info.FalsePositivesPerMillion = r.count(maxBudget)
	info.SpentPerMillion = r.count(info.FalsePositivesPerMillion)
	if r.err == nil && info.Schema != features.SchemaID {
		return nil, fmt.Errorf("load model: %w: %.64q, not %q", ErrSchema, info.Schema, features.SchemaID)
	}
	if version > modelUnzipped {
		r.unzip(maxModel)
	}
	f := r.bytes(r.uvarint())
	c := r.bytes(r.uvarint())
	d := r.bytes(r.uvarint())
	cleared := make([]features.Vector, r.count(maxCleared))
	for i := range cleared {
		for f := range cleared[i] {
			cleared[i][f] = r.float32()
		}
		if !finite(&cleared[i]) {
			r.fail("a cleared call that is no call")
		}
	}
	k := r.bytes(r.uvarint())
	var like *likeness
	if version >= modelLikeness {
		like = readLikeness(r)
		if c := r.float64(); !(c >= 0 && c <= math.MaxFloat32) || math.Signbit(c) {
			r.fail("a ceiling that cannot be")
		} else {
			info.Ceiling = c
		}
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("load model: %w", err)
	}
	forest, err := iforest.Load(f, features.SchemaID)
	if err != nil {
		return nil, fmt.Errorf("load model: %w: %w", ErrCorrupt, err)
	}
	if forest.Features() != features.Size {
		return nil, fmt.Errorf("load model: %w: forest of %d features, not %d", ErrCorrupt, forest.Features(), features.Size)
	}
	calibration := new(iforest.Calibration)
	if err := calibration.UnmarshalBinary(c); err != nil {
		return nil, fmt.Errorf("load model: %w: %w", ErrCorrupt, err)
	}
	if calibration.Size() == 0 || info.FalsePositivesPerMillion == 0 {
		return nil, fmt.Errorf("load model: %w: nothing to set a threshold by", ErrCorrupt)
	}
	if calibration.Percentile(0) > 0 || calibration.Quantile(0) > 1 {
		return nil, fmt.Errorf("load model: %w: scores beyond 0 to 1", ErrCorrupt)
	}
	reference := new(iforest.Reference)
	if err := reference.UnmarshalBinary(d); err != nil {
		return nil, fmt.Errorf("load model: %w: %w", ErrCorrupt, err)
	}
	if reference.Features() != features.Size {
		return nil, fmt.Errorf("load model: %w: distributions of %d features, not %d", ErrCorrupt, reference.Features(), features.Size)
	}
	var baseline *features.Baseline
	if len(k) > 0 {
		baseline = new(features.Baseline)
		if err := baseline.UnmarshalBinary(k); err != nil {
			return nil, fmt.Errorf("load model: %w: %w", ErrCorrupt, err)
		}
	}
	m := newModel(forest, calibration, reference, cleared, baseline, like, info)
	m.keep(bytes.Clone(b))
	return m, nil
}

// MarshalBinary returns the model in the form that Load reads. Equal models have equal bytes. The caller must not change them.
func (m *Model) MarshalBinary() ([]byte, error) {
	if m == nil || m.encoded == nil {
		return nil, errors.New("encode a model that was never trained")
	}
	return m.encoded, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
