package proxy

import (
	"io"
	"net/http"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
	"sallyport.dev/sallyport/pkg/llm/coding"
)

// maxWatched is how much of a decoded response is read on the side: enough for any answer, and a bound for what a small compressed one
// may grow to.
const maxWatched = 64 << 20

// sideReader reads a response for its usage beside the stream. It is used by one goroutine.
type sideReader struct {
	watcher llm.Watcher
	feed    *feed // to the decoder; nil where the response is not encoded
}

// feed is what a decoder reads from. Who writes to it waits until the decoder has read all of that and wants more, so that what follows from it is known.
type feed struct {
	pieces chan []byte
	hungry chan struct{} // one for each piece, when it was used up
	done   chan struct{} // closed when the decoder has ended
	rest   []byte
	fed    bool
}

func newFeed() *feed {
	return &feed{pieces: make(chan []byte), hungry: make(chan struct{}), done: make(chan struct{})}
}

// Read implements io.Reader for the decoder.
func (f *feed) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if f.fed {
			f.hungry <- struct{}{}
		}
		if f.rest, f.fed = <-f.pieces; !f.fed {
			return 0, io.EOF
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// write hands over a piece. What comes after a decoder has ended is dropped.
func (f *feed) write(p []byte) {
	select {
	case f.pieces <- p:
	case <-f.done:
		return
	}
	select {
	case <-f.hungry:
	case <-f.done:
	}
}

// end says that no more comes, and waits for the decoder.
func (f *feed) end() {
	close(f.pieces)
	<-f.done
}

// contentCoding is the value of Content-Encoding, "" where the content has none.
func contentCoding(h http.Header) string {
	v := strings.TrimSpace(strings.Join(h.Values("Content-Encoding"), ", "))
	if strings.EqualFold(v, "identity") {
		return ""
	}
	return v
}

// watch returns a reader for a response, or nil where its content coding is not known here. It keeps so many bytes of each tool call's arguments, and says by which id a call can go on from it.
func watch(row *llm.Row, h http.Header, arguments int, answered func(id string)) *sideReader {
	contentType := h.Get("Content-Type")
	s := &sideReader{watcher: row.Watch(llm.WatchOptions{ContentType: contentType, Framing: row.Framing(contentType), Arguments: arguments, Answered: answered})}
	encoded := contentCoding(h)
	if encoded == "" {
		return s
	}
	f := newFeed()
	plain, err := coding.NewReader(encoded, f)
	if err != nil {
		return nil
	}
	s.feed = f
	go func() {
		defer close(f.done) // whatever is wrong with the coding is the caller's to find: from then on there is nothing to read here
		defer func() { _ = plain.Close() }()
		_, _ = io.Copy(watcherWriter{s.watcher}, io.LimitReader(plain, maxWatched))
	}()
	return s
}

type watcherWriter struct{ w llm.Watcher }

func (w watcherWriter) Write(p []byte) (int, error) {
	w.w.Write(p)
	return len(p), nil
}

func (s *sideReader) write(p []byte) {
	if s.feed != nil {
		s.feed.write(p)
		return
	}
	s.watcher.Write(p)
}

// reply ends the reading and says what was read.
func (s *sideReader) reply() llm.Reply {
	if s.feed != nil {
		s.feed.end()
		s.feed = nil
	}
	return s.watcher.Reply()
}
