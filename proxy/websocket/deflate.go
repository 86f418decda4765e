package websocket

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/klauspost/compress/flate"
)

// window is how far back a compressed message may refer, at most.
const window = 32 << 10

// tail is what a sender leaves off each compressed message (RFC 7692, 7.2.1), and an empty last block that ends the stream.
var tail = []byte{0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff}

// Inflater takes the compression off the messages of one direction.
type Inflater struct {
	takeover bool
	max      int
	history  []byte // the last window of what came out, where messages refer to those before
	r        inflater
	broken   bool
}

// inflater is what flate's readers are.
type inflater interface {
	io.Reader
	flate.Resetter
}

// NewInflater returns an Inflater for messages that come to at most max bytes. takeover says that a message may refer to those before it.
func NewInflater(takeover bool, max int) *Inflater { return &Inflater{takeover: takeover, max: max} }

// Inflate appends a message to dst. A message that is larger than the bound, broken, or that two readers could read in two ways is an *Error;
// after one, nothing more can be read where messages refer to those before.
func (i *Inflater) Inflate(dst, payload []byte) ([]byte, error) {
	if i.broken {
		return dst, &Error{CloseInvalidPayload, "a compressed message before was broken"}
	}
	from := len(dst)
	dst, err := i.inflate(dst, payload)
	if err != nil {
		i.broken = i.takeover
		return dst[:from], err
	}
	if out := dst[from:]; i.takeover {
		if len(out) >= window {
			i.history = append(i.history[:0], out[len(out)-window:]...)
		} else {
			keep := i.history[max(0, len(i.history)-(window-len(out))):]
			i.history = append(append(i.history[:0], keep...), out...)
		}
	}
	return dst, nil
}

func (i *Inflater) inflate(dst, payload []byte) ([]byte, error) {
	// The reader takes byte after byte, so that it shows where the stream ended.
	in := &joined{a: payload, b: tail}
	if i.r == nil {
		i.r = flate.NewReaderDict(in, i.history).(inflater) //nolint:forcetypeassert // documented: its readers are Resetters
	} else if err := i.r.Reset(in, i.history); err != nil {
		return dst, &Error{CloseInvalidPayload, "a compressed message cannot be read"}
	}
	buf := bytes.NewBuffer(dst)
	n, err := buf.ReadFrom(io.LimitReader(i.r, int64(i.max)+1))
	dst = buf.Bytes()
	switch {
	case n > int64(i.max):
		return dst, &Error{CloseTooBig, "a compressed message is larger than " + strconv.Itoa(i.max) + " bytes"}
	case err != nil:
		return dst, &Error{CloseInvalidPayload, "a compressed message cannot be read"}
	case len(in.a)+len(in.b) > 0:
		// A last block in the midst: some readers stop there, some go on.
		return dst, &Error{CloseInvalidPayload, "a compressed message ends before its end"}
	}
	return dst, nil
}

// joined reads one slice after another.
type joined struct{ a, b []byte }

// ReadByte is part of io.ByteReader.
func (j *joined) ReadByte() (byte, error) {
	if len(j.a) == 0 {
		j.a, j.b = j.b, nil
		if len(j.a) == 0 {
			return 0, io.EOF
		}
	}
	c := j.a[0]
	j.a = j.a[1:]
	return c, nil
}

// Read is part of io.Reader.
func (j *joined) Read(p []byte) (int, error) {
	if len(j.a) == 0 {
		j.a, j.b = j.b, nil
		if len(j.a) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, j.a)
	j.a = j.a[n:]
	return n, nil
}

// Deflate is what two ends agreed on for permessage-deflate.
type Deflate struct {
	// ClientNoTakeover and ServerNoTakeover say whose messages do not refer to those before them.
	ClientNoTakeover, ServerNoTakeover bool
	// ClientWindowBits and ServerWindowBits bound how far back messages refer; 0 is not said.
	ClientWindowBits, ServerWindowBits int
}

// deflateName is the name of the one extension that is known here.
const deflateName = "permessage-deflate"

// Offers returns the value of Sec-WebSocket-Extensions to pass on for what a client offers: its offers of permessage-deflate, in their order. What
// else it offers would be agreed on by ends that nobody between them can read.
func Offers(values []string) string {
	var kept []string
	for offer := range strings.SplitSeq(strings.Join(values, ","), ",") {
		offer = strings.TrimSpace(offer)
		if name, _, _ := strings.Cut(offer, ";"); strings.EqualFold(strings.TrimSpace(name), deflateName) {
			if _, err := parseDeflate(offer, true); err == nil {
				kept = append(kept, offer)
			}
		}
	}
	return strings.Join(kept, ", ")
}

// Accepted reads the Sec-WebSocket-Extensions of a server's answer: nil where none was agreed on, an error where it agrees on what was not offered or
// cannot be read here. offers is what Offers returned.
func Accepted(values []string, offers string) (*Deflate, error) {
	v := strings.TrimSpace(strings.Join(values, ","))
	if v == "" {
		return nil, nil
	}
	if strings.Contains(v, ",") || offers == "" {
		return nil, errors.New("websocket: the server agrees on extensions that were not offered")
	}
	return parseDeflate(v, false)
}

// parseDeflate reads one element of Sec-WebSocket-Extensions.
func parseDeflate(s string, offer bool) (*Deflate, error) {
	name, rest, more := strings.Cut(s, ";")
	if !strings.EqualFold(strings.TrimSpace(name), deflateName) {
		return nil, errors.New("websocket: the extension is not known")
	}
	d := &Deflate{}
	seen := map[string]bool{}
	for more {
		var param string
		param, rest, more = strings.Cut(rest, ";")
		key, value, hasValue := strings.Cut(strings.TrimSpace(param), "=")
		key = strings.ToLower(strings.TrimSpace(key))
		value = strings.Trim(strings.TrimSpace(value), `"`)
		if seen[key] {
			return nil, errors.New("websocket: a parameter of the extension is there twice")
		}
		seen[key] = true
		var bits int
		switch key {
		case "client_max_window_bits", "server_max_window_bits":
			n, err := strconv.Atoi(value)
			if hasValue && (err != nil || n < 8 || n > 15) || !hasValue && (!offer || key != "client_max_window_bits") {
				return nil, errors.New("websocket: a window of the extension is malformed")
			}
			bits = n
		}
		switch {
		case key == "client_no_context_takeover" && !hasValue:
			d.ClientNoTakeover = true
		case key == "server_no_context_takeover" && !hasValue:
			d.ServerNoTakeover = true
		case key == "client_max_window_bits":
			d.ClientWindowBits = bits
		case key == "server_max_window_bits":
			d.ServerWindowBits = bits
		default:
			return nil, errors.New("websocket: a parameter of the extension is not known")
		}
	}
	return d, nil
}

// String is the element of Sec-WebSocket-Extensions that says it.
func (d *Deflate) String() string {
	s := deflateName
	if d.ServerNoTakeover {
		s += "; server_no_context_takeover"
	}
	if d.ClientNoTakeover {
		s += "; client_no_context_takeover"
	}
	if d.ServerWindowBits > 0 {
		s += "; server_max_window_bits=" + strconv.Itoa(d.ServerWindowBits)
	}
	if d.ClientWindowBits > 0 {
		s += "; client_max_window_bits=" + strconv.Itoa(d.ClientWindowBits)
	}
	return s
}
