package detector

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"sallyport.dev/sallyport/pkg/features"
)

// Reservoir is a bounded sample of a workload's calls to train on. It is wary of being taught: calls that were refused, that exceeded the threshold or
// that belong to a tainted session are never admitted, no session takes more than a 32nd of it, and once it is full
// a new call is admitted with a chance that keeps the mean age of the sample at eight times its size, so that habits
// can change over weeks and a burst changes little. Of what the rows' words take, two MiB are held at most.
//
// What it cannot tell is a patient attacker whose every call stays under the threshold; such a one can widen what is ordinary
// for the workload, slowly: Options.Earlier makes it slower.
//
// It is not safe for concurrent use.
type Reservoir struct {
	capacity int
	rng      *rand.PCG
	seen     uint64 // admissible calls offered
	refused  uint64 // calls turned away
	exceeded uint64 // of those, such as were turned away for that alone
	rows     Packed
	most     int // of these
	sessions map[string]*held
}

// held is a session's share of a reservoir.
type held struct {
	id   string
	seen uint64 // admissible calls offered since the session came in
	rows []int  // indices into Reservoir.rows
}

const (
	minCapacity = 16
	maxCapacity = 1 << 16
	maxSession  = 128 // bytes of a session's id

	// shares is how many sessions at least a full reservoir holds.
	shares = 32
	// maxEvidence is how many bytes of evidence a reservoir holds: that of some thousand calls. Rows beyond keep their numbers and lose their words.
	maxEvidence = 2 << 20

	// memory is how many times its size a reservoir remembers.
	memory = 8
)

// Admission is what became of a call, as its decision record says. The zero value is not admitted.
type Admission struct {
	// Released says that the decision was to release the call; a denial that a setting relaxed is none.
	Released bool
	// Exceeds says that the detector found it anomalous.
	Exceeds bool
	// Tainted says that its session was.
	Tainted bool
}

// NewReservoir returns a reservoir for at most capacity calls, held within 16 to 65,536. The same seed and the same calls in the same order give the
// same sample.
func NewReservoir(capacity int, seed uint64) *Reservoir {
	return &Reservoir{
		capacity: max(minCapacity, min(maxCapacity, capacity)),
		rng:      rand.NewPCG(seed, 0x5a11790f7),
		most:     maxEvidence,
		sessions: map[string]*held{},
	}
}

// perSession is how many calls of one session are held at most.
func (r *Reservoir) perSession() int { return max(4, r.capacity/shares) }

// Add offers a call and says whether it is in the sample now.
func (r *Reservoir) Add(row Row, a Admission) bool {
	if !a.Released || a.Exceeds || a.Tainted || row.Session == "" || len(row.Session) > maxSession || !finite(&row.Vector) || !readable(row.Evidence) {
		r.refused++
		if a.Exceeds && !a.Tainted {
			r.exceeded++
		}
		return false
	}
	r.seen++
	s := r.sessions[row.Session]
	if s != nil {
		s.seen++
		if len(s.rows) >= r.perSession() {
			// Each of the session's calls has the same chance to be among those held.
			if r.below(s.seen) >= uint64(len(s.rows)) {
				return false
			}
			row.Session = s.id
			r.put(s.rows[r.below(uint64(len(s.rows)))], row)
			return true
		}
	}
	at := r.rows.Len()
	if at < r.capacity {
		s = r.join(s, row.Session)
		row.Session = s.id
		r.put(at, row)
	} else {
		if r.below(min(r.seen, memory*uint64(r.capacity))) >= uint64(r.capacity) {
			return false
		}
		at = int(r.below(uint64(r.capacity)))
		r.drop(at)
		s = r.join(r.sessions[row.Session], row.Session) // drop may have forgotten it
		row.Session = s.id
		r.put(at, row)
	}
	s.rows = append(s.rows, at)
	return true
}

// join returns a session, made where there is none.
func (r *Reservoir) join(s *held, id string) *held {
	if s == nil {
		s = &held{id: strings.Clone(id), seen: 1}
		r.sessions[s.id] = s
	}
	return s
}

// put puts a row in a place. Where that makes the evidence too much, rows lose theirs, each with the same chance, until it is not.
func (r *Reservoir) put(at int, row Row) {
	r.rows.Put(at, row)
	r.strip()
}

// strip takes evidence of rows until there is no more than may be.
func (r *Reservoir) strip() {
	for r.rows.held > r.most {
		n := r.rows.Len()
		start := int(r.below(uint64(n)))
		for k := range n {
			if i := (start + k) % n; r.rows.Evidence(i) > 0 {
				r.rows.Strip(i)
				break
			}
		}
	}
}

// drop takes the row at this index from its session.
func (r *Reservoir) drop(at int) {
	id := r.rows.Session(at)
	s := r.sessions[id]
	for k, i := range s.rows {
		if i == at {
			s.rows[k] = s.rows[len(s.rows)-1]
			s.rows = s.rows[:len(s.rows)-1]
			break
		}
	}
	if len(s.rows) == 0 {
		delete(r.sessions, id)
	}
}

// below returns a number in [0, n); its bias, n in 2⁶⁴, is beyond notice.
func (r *Reservoir) below(n uint64) uint64 { return r.rng.Uint64() % n }

// Rows returns a copy of the sample.
func (r *Reservoir) Rows() []Row { return r.rows.All() }

// Spread returns a copy of so many rows, taken evenly over those whose sessions are not left out, all of them if they are fewer, and without evidence. Few rows are had with much less work than Rows takes.
func (r *Reservoir) Spread(most int, without map[string]bool) []Row {
	var from []int
	for i := range r.rows.Len() {
		if !without[r.rows.Session(i)] {
			from = append(from, i)
		}
	}
	most = max(0, min(most, len(from)))
	which := make([]int, most)
	for k := range which {
		which[k] = from[k*len(from)/most]
	}
	return r.rows.Some(which, false)
}

// Limit bounds what the reservoir holds from here on: capacity, within 16 to 65,536, as of NewReservoir, and bytes of evidence, two MiB at most. What is beyond goes at once, each row, and each row's
// evidence, with the same chance, so that the sample stays one of all that came. What the evidence may take is not encoded.
func (r *Reservoir) Limit(capacity, evidence int) {
	r.capacity, r.most = max(minCapacity, min(maxCapacity, capacity)), max(0, min(maxEvidence, evidence))
	changed := r.rows.Len() > r.capacity || r.rows.held > r.most
	for r.rows.Len() > r.capacity {
		r.remove(int(r.below(uint64(r.rows.Len()))))
	}
	r.strip()
	if changed {
		r.rows.Repack()
	}
}

// Forget drops what there is of a session, so that nothing is learned of it any more.
func (r *Reservoir) Forget(session string) {
	for r.sessions[session] != nil {
		r.remove(r.sessions[session].rows[0])
	}
}

// remove takes a row out. The last takes its place.
func (r *Reservoir) remove(gone int) {
	r.drop(gone)
	last := r.rows.Len() - 1
	if gone != last {
		r.rows.Move(gone, last)
		rows := r.sessions[r.rows.Session(gone)].rows
		rows[slices.Index(rows, last)] = gone
	}
	r.rows.Truncate(last)
}

// Settle packs what came last as well, as is worth it where nothing has come for a while.
func (r *Reservoir) Settle() { r.rows.Settle() }

// Bytes is about how much memory the reservoir takes, and how much of that is for evidence.
func (r *Reservoir) Bytes() (all, evidence int) {
	const perSession = 128 // its entry in the map and its rows, without its name twice
	all = r.rows.Bytes() + perSession*len(r.sessions)
	return all, r.rows.EvidenceBytes()
}

// Counts says what a reservoir holds and has seen.
type Counts struct {
	Calls, Sessions int    // held
	Evidence        int    // bytes of evidence held with them
	Seen            uint64 // admissible calls offered
	Refused         uint64 // calls turned away for their admission, or as no session or no numbers came with them
	Exceeded        uint64 // of those, calls that exceeded in a session that was not tainted
}

// Trimmed is the share of the workload's calls that are missing from the sample because they exceeded: what Options.Trimmed wants.
func (c Counts) Trimmed() float64 {
	if c.Exceeded == 0 {
		return 0
	}
	return float64(c.Exceeded) / (float64(c.Seen) + float64(c.Exceeded))
}

// Counts says what the reservoir holds and has seen.
func (r *Reservoir) Counts() Counts {
	return Counts{Calls: r.rows.Len(), Sessions: len(r.sessions), Evidence: r.rows.held, Seen: r.seen, Refused: r.refused, Exceeded: r.exceeded}
}

// A reservoir is encoded as
//
//	magic "SPRV", version (1 byte)
//	length of the schema (1 byte), schema
//	capacity, seen, refused, exceeded: uvarint
//	length of the generator's state (1 byte), state
//	rows: uvarint, and each: length of the session (1 byte), session, the session's seen (uvarint) where it is the session's first,
//	  features.Size × float32, length of the words (uvarint), words
//	CRC-32C of all that (4 bytes)
//
// Fixed-size numbers are little-endian.
const (
	reservoirMagic   = "SPRV"
	reservoirVersion = 2
	maxReservoir     = maxCapacity*(maxSession+13+4*features.Size) + maxEvidence + 1024
)

// MarshalBinary returns the reservoir in the form that UnmarshalBinary reads.
func (r *Reservoir) MarshalBinary() ([]byte, error) {
	if r.rng == nil {
		return nil, fmt.Errorf("encode reservoir: not made by NewReservoir")
	}
	state, err := r.rng.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode reservoir: %w", err)
	}
	b := append([]byte(reservoirMagic), reservoirVersion, byte(len(features.SchemaID)))
	b = append(b, features.SchemaID...)
	b = binary.AppendUvarint(b, uint64(r.capacity))
	b = binary.AppendUvarint(b, r.seen)
	b = binary.AppendUvarint(b, r.refused)
	b = binary.AppendUvarint(b, r.exceeded)
	b = append(b, byte(len(state)))
	b = append(b, state...)
	rows := r.rows.All()
	b = slices.Grow(b, 32+len(rows)*(numbersBytes+48)+r.rows.held)
	b = binary.AppendUvarint(b, uint64(len(rows)))
	written := make(map[string]bool, len(r.sessions))
	for i := range rows {
		row := &rows[i]
		b = append(b, byte(len(row.Session)))
		b = append(b, row.Session...)
		if !written[row.Session] {
			written[row.Session] = true
			b = binary.AppendUvarint(b, r.sessions[row.Session].seen)
		}
		for _, x := range row.Vector {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		b = binary.AppendUvarint(b, uint64(len(row.Evidence)))
		b = append(b, row.Evidence...)
	}
	return seal(b), nil
}

// UnmarshalBinary replaces the reservoir with one that MarshalBinary wrote. An error wraps ErrSchema or ErrCorrupt as those of Load do, and
// leaves the reservoir as it was.
func (r *Reservoir) UnmarshalBinary(b []byte) error {
	d, version, err := unseal(b, reservoirMagic, maxReservoir)
	if err != nil {
		return fmt.Errorf("decode reservoir: %w", err)
	}
	if version != reservoirVersion {
		return fmt.Errorf("decode reservoir: version %d: %w", version, ErrCorrupt)
	}
	if schema := string(d.bytes(uint64(d.byte()))); d.err == nil && schema != features.SchemaID {
		return fmt.Errorf("decode reservoir: %w: %.64q, not %q", ErrSchema, schema, features.SchemaID)
	}
	n := &Reservoir{rng: new(rand.PCG), most: maxEvidence, sessions: map[string]*held{}}
	n.capacity = d.count(maxCapacity)
	n.seen = d.uvarint()
	n.refused = d.uvarint()
	n.exceeded = d.uvarint()
	state := d.bytes(uint64(d.byte()))
	rows := d.count(n.capacity)
	if d.err == nil {
		if err := n.rng.UnmarshalBinary(state); err != nil {
			d.fail("state of the generator")
		}
		if n.capacity < minCapacity || uint64(rows) > n.seen || n.exceeded > n.refused {
			d.fail("counts that cannot be")
		}
	}
	for range rows {
		var row Row
		row.Session = string(d.bytes(uint64(d.byte())))
		if d.err != nil {
			break
		}
		s := n.sessions[row.Session]
		if s == nil {
			s = &held{id: row.Session, seen: d.uvarint()}
			n.sessions[row.Session] = s
		}
		row.Session = s.id
		for f := range row.Vector {
			row.Vector[f] = d.float32()
		}
		if n := d.count(features.MaxEvidenceBytes); n > 0 {
			row.Evidence = d.bytes(uint64(n)) // which is copied
		}
		s.rows = append(s.rows, n.rows.Len())
		n.rows.load(row)
		if n.rows.held > maxEvidence {
			d.fail("more evidence than is held")
		}
		if row.Session == "" || len(row.Session) > maxSession || !finite(&row.Vector) || !readable(row.Evidence) {
			d.fail("row that cannot be")
		}
		if d.err != nil {
			break
		}
	}
	for _, s := range n.sessions {
		if s.seen < uint64(len(s.rows)) || s.seen > n.seen {
			d.fail("counts that cannot be")
		}
	}
	if err := d.end(); err != nil {
		return fmt.Errorf("decode reservoir: %w", err)
	}
	n.rows.Settle()
	*r = *n
	return nil
}

// readable says whether words can be learned from; that there are none is no obstacle.
func readable(words []byte) bool {
	_, err := features.DecodeEvidence(words)
	return err == nil
}

func finite(v *features.Vector) bool {
	for _, x := range v {
		if x-x != 0 {
			return false
		}
	}
	return true
}
