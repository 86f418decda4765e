package process

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// pollEvery is how often readiness and the end of a process are looked at.
	pollEvery = 100 * time.Millisecond
	// tailLines is how much of a log a failed start shows.
	tailLines = 30
)

// A Spec says how a program is run.
type Spec struct {
	// Name names the record and the log file.
	Name string
	// Path is the program; Args are its arguments without the program's name.
	Path string
	Args []string
	// Env is added to the environment.
	Env []string
	// Files are configuration files: when the content of one changes, the program is
	// started anew.
	Files []string
	// Ready returns nil once the program serves. It is called again and again.
	Ready func(context.Context) error
	// Timeout bounds the wait for Ready.
	Timeout time.Duration
}

// A Group is a set of programs whose records lie in one directory.
type Group struct {
	// Records holds one file per program; Logs one log per program.
	Records, Logs string
}

// record is what is kept of a program between commands.
type record struct {
	PID         int    `json:"pid"`
	Started     uint64 `json:"started"` // field 22 of /proc/PID/stat, in clock ticks since boot
	Fingerprint string `json:"fingerprint"`
}

// A StartError says that a program did not come up. Its message ends with the end of
// the program's log.
type StartError struct {
	Name string
	Log  string
	Err  error
}

func (e *StartError) Error() string {
	return fmt.Sprintf("%s did not start: %v\nthe end of %s:\n%s", e.Name, e.Err, e.Log, Tail(e.Log, tailLines))
}

func (e *StartError) Unwrap() error { return e.Err }

// Ensure starts the program unless it already runs as wanted, and waits until it is
// ready. It returns whether it had to start it.
func (g Group) Ensure(ctx context.Context, spec Spec) (started bool, err error) {
	want, err := fingerprint(spec)
	if err != nil {
		return false, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	var exited chan error // stays nil, and so never ready, for a program found running
	if have, alive := g.load(spec.Name); !alive || have.Fingerprint != want {
		if err := g.Stop(spec.Name, 10*time.Second); err != nil {
			return false, err
		}
		if exited, err = g.start(spec, want); err != nil {
			return false, err
		}
		started = true
	}
	return started, g.await(ctx, spec, exited)
}

func (g Group) start(spec Spec, fingerprint string) (chan error, error) {
	log, err := os.Create(g.LogFile(spec.Name))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), spec.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, &StartError{Name: spec.Name, Log: log.Name(), Err: err}
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // ends with the program or with this command

	stat, _ := readStat(cmd.Process.Pid)
	content, err := json.Marshal(record{PID: cmd.Process.Pid, Started: stat.started, Fingerprint: fingerprint})
	if err == nil {
		err = os.WriteFile(g.recordFile(spec.Name), content, 0o644)
	}
	if err != nil {
		cmd.Process.Kill()
		return nil, fmt.Errorf("record %s: %w", spec.Name, err)
	}
	return exited, nil
}

func (g Group) await(ctx context.Context, spec Spec, exited chan error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, spec.Timeout, fmt.Errorf("not ready after %s", spec.Timeout))
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := spec.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case end := <-exited:
			if end == nil {
				end = errors.New("it ended by itself")
			}
			return &StartError{Name: spec.Name, Log: g.LogFile(spec.Name), Err: end}
		case <-ctx.Done():
			return &StartError{Name: spec.Name, Log: g.LogFile(spec.Name), Err: errors.Join(context.Cause(ctx), err)}
		case <-tick.C:
		}
	}
}

// Stop ends a program: politely first, and by force after the grace period. A program
// that does not run is no error.
func (g Group) Stop(name string, grace time.Duration) error {
	have, alive := g.load(name)
	if alive {
		if err := end(have, grace); err != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
	}
	if err := os.Remove(g.recordFile(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget %s: %w", name, err)
	}
	return nil
}

func end(r record, grace time.Duration) error {
	signal := syscall.SIGTERM
	for _, wait := range []time.Duration{grace, 10 * time.Second} {
		if err := syscall.Kill(r.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
		for deadline := time.Now().Add(wait); time.Now().Before(deadline); time.Sleep(pollEvery / 5) {
			if !r.alive() {
				return nil
			}
		}
		signal = syscall.SIGKILL
	}
	return fmt.Errorf("process %d does not end", r.PID)
}

// Running returns the process id of a program that runs.
func (g Group) Running(name string) (pid int, ok bool) {
	have, alive := g.load(name)
	return have.PID, alive
}

// Names returns the programs that have a record.
func (g Group) Names() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(g.Records, "*.json"))
	for i := range files {
		files[i] = strings.TrimSuffix(filepath.Base(files[i]), ".json")
	}
	return files, err
}

// LogFile returns the path of a program's log.
func (g Group) LogFile(name string) string { return filepath.Join(g.Logs, name+".log") }

func (g Group) recordFile(name string) string { return filepath.Join(g.Records, name+".json") }

// load reads a record and says whether its process still runs.
func (g Group) load(name string) (record, bool) {
	content, err := os.ReadFile(g.recordFile(name))
	if err != nil {
		return record{}, false
	}
	var r record
	if json.Unmarshal(content, &r) != nil || r.PID <= 1 {
		return record{}, false
	}
	return r, r.alive()
}

func (r record) alive() bool {
	stat, err := readStat(r.PID)
	return err == nil && stat.state != "Z" && stat.state != "X" && stat.started == r.Started
}

// procStat is what of /proc/PID/stat is used here.
type procStat struct {
	state   string
	parent  int
	started uint64
}

func readStat(pid int) (procStat, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(content)
}

// parseStat reads the fields after the command, which is in parentheses and may itself
// hold blanks and parentheses.
func parseStat(content []byte) (procStat, error) {
	fields := bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:])
	if len(fields) < 20 {
		return procStat{}, errors.New("process status is cut off")
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return procStat{}, fmt.Errorf("read the parent's id: %w", err)
	}
	started, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return procStat{}, fmt.Errorf("read the start time: %w", err)
	}
	return procStat{state: string(fields[0]), parent: parent, started: started}, nil
}

// KillTrees kills, with everything below it, every process whose program is called
// program and one of whose arguments is argument; it returns how many it killed.
func KillTrees(program, argument string) (int, error) {
	children, roots := map[int][]int{}, []int(nil)
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		stat, err := readStat(pid)
		if err != nil {
			continue // it ended meanwhile
		}
		children[stat.parent] = append(children[stat.parent], pid)
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		args := strings.Split(string(command), "\x00")
		if filepath.Base(args[0]) != program {
			continue
		}
		for _, arg := range args[1:] {
			if arg == argument {
				roots = append(roots, pid)
				break
			}
		}
	}
	killed := 0
	var kill func(int)
	kill = func(pid int) {
		for _, child := range children[pid] {
			kill(child)
		}
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	for _, root := range roots {
		kill(root)
	}
	return killed, nil
}

// fingerprint covers what decides how a program behaves.
func fingerprint(spec Spec) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q\n", spec.Path, spec.Args, spec.Env)
	for _, file := range spec.Files {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read its configuration: %w", err)
		}
		fmt.Fprintf(h, "%s %d\n", file, len(content))
		h.Write(content)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Tail returns the last lines of a file, or what kept it from reading them.
func Tail(file string, lines int) string {
	content, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
