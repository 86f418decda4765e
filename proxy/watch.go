package proxy

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"

	"sallyport.dev/sallyport/pkg/llm"
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

// watch returns a reader for a response, or nil where its content coding is not known here.
func watch(row *llm.Row, h http.Header) *sideReader {
	s := &sideReader{watcher: row.Watch(llm.WatchOptions{ContentType: h.Get("Content-Type")})}
	switch strings.ToLower(strings.TrimSpace(h.Get("Content-Encoding"))) {
	case "", "identity":
		return s
	case "gzip":
	default:
		return nil
	}
	r, w := io.Pipe()
	s.feed, s.done = w, make(chan struct{})
	go func() {
		defer close(s.done)
		// Whatever is wrong with the coding is the caller's to find: from then on there is nothing to read here.
		defer func() { _ = r.CloseWithError(io.ErrClosedPipe) }()
		z, err := gzip.NewReader(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(watcherWriter{s.watcher}, io.LimitReader(z, maxWatched))
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
