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
	feed    *io.PipeWriter // to the decoder; nil where the response is not encoded
	done    chan struct{}  // closed when the decoder has ended
}

// contentCoding is the value of Content-Encoding, "" where the content has none.
func contentCoding(h http.Header) string {
	v := strings.TrimSpace(strings.Join(h.Values("Content-Encoding"), ", "))
	if strings.EqualFold(v, "identity") {
		return ""
	}
	return v
}

// watch returns a reader for a response, or nil where its content coding is not known here. It keeps so many bytes of each tool call's arguments.
func watch(row *llm.Row, h http.Header, arguments int) *sideReader {
	contentType := h.Get("Content-Type")
	s := &sideReader{watcher: row.Watch(llm.WatchOptions{ContentType: contentType, Framing: row.Framing(contentType), Arguments: arguments})}
	encoded := contentCoding(h)
	if encoded == "" {
		return s
	}
	r, w := io.Pipe()
	plain, err := coding.NewReader(encoded, r)
	if err != nil {
		return nil
	}
	s.feed, s.done = w, make(chan struct{})
	go func() {
		defer close(s.done)
		// Whatever is wrong with the coding is the caller's to find: from then on there is nothing to read here.
		defer func() { _ = r.CloseWithError(io.ErrClosedPipe) }()
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
		_, _ = s.feed.Write(p)
		return
	}
	s.watcher.Write(p)
}

// reply ends the reading and says what was read.
func (s *sideReader) reply() llm.Reply {
	if s.feed != nil {
		_ = s.feed.Close()
		<-s.done
	}
	return s.watcher.Reply()
}
