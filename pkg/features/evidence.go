package features

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Bounds of Evidence.
const (
	maxToolMarks     = 128
	maxCalledTools   = 64
	maxDestinations  = 64
	evidenceVersion  = 2
	evidenceHeader   = 1 + 4 + 8 + 3 + 4*4
	noHour           = 0xff // of an evidence whose time is not known
	hoursOfWeek      = 7 * 24
	destinationSaid  = 1 // the bit of a destination's mark that says that the user named it
	maxEvidenceLists = 1 + 4*maxToolMarks + 2 + 1 + 2*maxCalledTools + 1 + 4*maxDestinations

	// MaxEvidenceBytes is the longest encoding of Evidence.
	MaxEvidenceBytes = evidenceHeader + maxEvidenceLists + maxWordsBytes
)

// ErrEvidence says that bytes are no encoding of Evidence.
var ErrEvidence = errors.New("not a valid encoding of evidence")

// Evidence is what a call leaves behind for learning what is usual in its workload: the classes of the new words, in order; marks of the model, the tools' schemas,
// the system prompt, the destination, the credential and the destinations in arguments; the tools called, in order; and the hour of the week. A mark is a
// hash of 32 bits that is salted for the workload. Evidence holds no text; what it gives away all the same is in docs/detector.md.
//
// Its memory is reused by each Extract that it is given to. It is not safe for concurrent use.
type Evidence struct {
	salt    uint32 // the salt's own mark
	opening uint64
	marks   marks
	words   words
	present bool // a call was extracted, with a salt
}

// marks are what is compared with a baseline besides words. A mark of 0 stands for nothing.
type marks struct {
	hour                                   uint8 // of the week, from Monday 0:00 UTC; noHour where it is not known
	calling, costing                       uint8 // steps of the workload's pace
	model, system, destination, credential uint32
	tools                                  []uint32
	previous                               uint16 // the last tool called before the new messages; 0 where there is none
	calls                                  []uint16
	destinations                           []uint32
}

func (m *marks) reset() {
	*m = marks{hour: noHour, tools: m.tools[:0], calls: m.calls[:0], destinations: m.destinations[:0]}
}

func (e *Evidence) reset() {
	e.salt, e.opening, e.present = 0, 0, false
	e.marks.reset()
	e.words.reset()
}

// Opening names how the conversation began: equal for conversations that opened with the same messages, as repetitions of one task do; 0 where it is
// not known.
func (e *Evidence) Opening() uint64 { return e.opening }

// Len is how many words are held.
func (e *Evidence) Len() int { return len(e.words.ids) }

// Pairs calls yield for each pair of neighbouring words that is held, a number under 1<<20 that tells pairs apart.
func (e *Evidence) Pairs(yield func(pair uint32)) { e.words.pairs(yield) }

// Encoded is the evidence as DecodeEvidence reads it; nil where there is none.
//
//	version (1 byte), the salt's own mark (4 bytes), opening (8 bytes), hour of the week (1 byte; 255 where it is not known), calls and cost per minute (1 byte each)
//	marks of the model, the system prompt, the destination and the credential (4 bytes each)
//	how many tools were offered (1 byte), marks of their schemas (4 bytes each)
//	hash of the tool called before the new messages (2 bytes), how many they call (1 byte), hashes of their names (2 bytes each)
//	how many destinations their arguments name (1 byte), marks of these (4 bytes each, of which the lowest bit says that the user named it)
//	words
//
// Numbers are little-endian.
func (e *Evidence) Encoded() []byte {
	if !e.present {
		return nil
	}
	m := &e.marks
	b := make([]byte, 0, evidenceHeader+5+4*len(m.tools)+2*len(m.calls)+4*len(m.destinations)+len(e.words.runs)*4+len(e.words.ids)*classBits/8)
	b = append(b, evidenceVersion)
	b = binary.LittleEndian.AppendUint32(b, e.salt)
	b = binary.LittleEndian.AppendUint64(b, e.opening)
	b = append(b, m.hour, m.calling, m.costing)
	for _, x := range [...]uint32{m.model, m.system, m.destination, m.credential} {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	b = append(b, byte(len(m.tools)))
	for _, x := range m.tools {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	b = binary.LittleEndian.AppendUint16(b, m.previous)
	b = append(b, byte(len(m.calls)))
	for _, x := range m.calls {
		b = binary.LittleEndian.AppendUint16(b, x)
	}
	b = append(b, byte(len(m.destinations)))
	for _, x := range m.destinations {
		b = binary.LittleEndian.AppendUint32(b, x)
	}
	return e.words.append(b)
}

// DecodeEvidence reads what Encoded wrote. No bytes are no evidence. The error wraps ErrEvidence.
func DecodeEvidence(b []byte) (*Evidence, error) {
	e := &Evidence{}
	e.reset()
	if len(b) == 0 {
		return e, nil
	}
	if len(b) < evidenceHeader || len(b) > MaxEvidenceBytes || b[0] != evidenceVersion {
		return nil, fmt.Errorf("%w: %d bytes", ErrEvidence, len(b))
	}
	m := &e.marks
	e.salt, b = binary.LittleEndian.Uint32(b[1:]), b[5:]
	e.opening, m.hour = binary.LittleEndian.Uint64(b), b[8]
	if m.hour != noHour && m.hour >= hoursOfWeek {
		return nil, fmt.Errorf("%w: hour %d of the week", ErrEvidence, m.hour)
	}
	m.calling, m.costing = b[9], b[10]
	b = b[11:]
	for _, x := range [...]*uint32{&m.model, &m.system, &m.destination, &m.credential} {
		*x = binary.LittleEndian.Uint32(b)
		b = b[4:]
	}
	ok := true
	take := func(n int) []byte {
		if len(b) < n {
			ok = false
			return make([]byte, n)
		}
		taken := b[:n]
		b = b[n:]
		return taken
	}
	count := func(limit int) int {
		n := int(take(1)[0])
		if n > limit {
			ok, n = false, 0
		}
		return n
	}
	for range count(maxToolMarks) {
		m.tools = append(m.tools, binary.LittleEndian.Uint32(take(4)))
	}
	m.previous = binary.LittleEndian.Uint16(take(2))
	for range count(maxCalledTools) {
		m.calls = append(m.calls, binary.LittleEndian.Uint16(take(2)))
	}
	for range count(maxDestinations) {
		m.destinations = append(m.destinations, binary.LittleEndian.Uint32(take(4)))
	}
	if !ok {
		return nil, fmt.Errorf("%w: ends too early, or lists too much", ErrEvidence)
	}
	if err := e.words.decode(b); err != nil {
		return nil, err
	}
	e.present = true
	return e, nil
}
