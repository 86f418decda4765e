package execute

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"sallyport.dev/sallyport/pkg/atomicfile"
	"sallyport.dev/sallyport/pkg/detector"
	"sallyport.dev/sallyport/pkg/telemetry"
)

// StateDir is where records and what was learned are kept: $XDG_STATE_HOME/sallyport, or ~/.local/state/sallyport.
func StateDir(getenv func(string) string) (string, error) {
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sallyport"), nil
	}
	home := getenv("HOME")
	if !filepath.IsAbs(home) {
		return "", errors.New("neither XDG_STATE_HOME nor HOME is an absolute path; say --state DIR")
	}
	return filepath.Join(home, ".local", "state", "sallyport"), nil
}

// RecordsFile is the file of decision records in a state directory.
func RecordsFile(stateDir string) string { return filepath.Join(stateDir, "decisions.jsonl") }

// RecordsFiles are the files of decision records that there are in a state directory, the older one first.
func RecordsFiles(stateDir string) []string {
	var out []string
	for _, path := range []string{RecordsFile(stateDir) + ".1", RecordsFile(stateDir)} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			out = append(out, path)
		}
	}
	return out
}

// Namespace is the namespace that commands under exec are counted to.
const Namespace = "local"

// ModelFile is the file of what was learned of the command with a name; "" where that is no name for a directory.
func ModelFile(stateDir, name string) string {
	if !isName(name) {
		return ""
	}
	return filepath.Join(stateDir, "learned", name, "model")
}

func isName(s string) bool { return s != "" && s == filepath.Base(s) && !strings.HasPrefix(s, ".") }

// maxRecords is how large the file of records grows, in bytes, before it is begun anew; one older file is kept.
const maxRecords = 64 << 20

// records appends decision records to a file, each a line, as it stands in a sidecar's log.
type records struct {
	mu   sync.Mutex
	file *os.File
	err  error // the first
}

func openRecords(path string) (*records, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("keep records: %w", err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() > maxRecords {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("keep records: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep records: %w", err)
	}
	return &records{file: f}, nil
}

func (r *records) add(rec *telemetry.Record) {
	b, err := rec.Encode()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		_, err = r.file.Write(append(b, '\n')) // one write, so that two commands' lines do not mix
	}
	if r.err == nil {
		r.err = err
	}
}

// close returns the first error that there was.
func (r *records) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.err, r.file.Close())
}

// reservoirSize is how many calls of one command are remembered.
const reservoirSize = 4096

// learning is what is known of a command's calls, kept from one run to the next.
type learning struct {
	dir       string
	options   detector.Options
	mu        sync.Mutex
	reservoir *detector.Reservoir
	grown     bool
}

// openLearning reads what was learned of the command with a name, and its model if there is one.
func openLearning(stateDir, name string, o detector.Options) (*learning, *detector.Model, error) {
	if !isName(name) {
		return nil, nil, fmt.Errorf("--name %q is no name for a directory", name)
	}
	file := ModelFile(stateDir, name)
	l := &learning{dir: filepath.Dir(file), options: o, reservoir: detector.NewReservoir(reservoirSize, 1)}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("keep what is learned: %w", err)
	}
	b, err := os.ReadFile(filepath.Join(l.dir, "calls"))
	if err == nil {
		err = l.reservoir.UnmarshalBinary(b)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read what was learned of %s: %w (remove %s to begin anew)", name, err, l.dir)
	}
	b, err = os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil, nil
	}
	var m *detector.Model
	if err == nil {
		m, err = detector.Load(b)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read what was learned of %s: %w (remove %s to begin anew)", name, err, l.dir)
	}
	l.options.Earlier = m.Info()
	return l, m, nil
}

// add offers a call to be learned from.
func (l *learning) add(rec *telemetry.Record) {
	row, admission, err := detector.FromRecord(rec)
	if err != nil {
		return // a tunnel, or a call that could not be read: nothing to learn
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grown = l.reservoir.Add(row, admission) || l.grown
}

// close trains a model if there is enough to learn from, and keeps both. It says in a sentence where learning stands.
func (l *learning) close() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.reservoir.Counts()
	if !l.grown {
		return "", nil
	}
	b, err := l.reservoir.MarshalBinary()
	if err == nil {
		err = atomicfile.Write(filepath.Join(l.dir, "calls"), 0o600, b)
	}
	if err != nil {
		return "", fmt.Errorf("keep what is learned: %w", err)
	}
	o := l.options
	o.Trimmed = c.Trimmed()
	m, err := detector.Train(l.reservoir.Rows(), o)
	if errors.Is(err, detector.ErrTooFew) {
		return fmt.Sprintf("the detector is still learning: %d calls of %d sessions so far", c.Calls, c.Sessions), nil
	}
	if err == nil {
		if b, err = m.MarshalBinary(); err == nil {
			err = atomicfile.Write(filepath.Join(l.dir, "model"), 0o600, b)
		}
	}
	if err != nil {
		return "", fmt.Errorf("learn: %w", err)
	}
	return fmt.Sprintf("the detector has learned from %d calls of %d sessions", c.Calls, c.Sessions), nil
}
