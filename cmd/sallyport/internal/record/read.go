package record

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"sallyport.dev/sallyport/pkg/telemetry"
)

// ReadAll calls each with every decision record of the named files, "-" being stdin, and with where it stands, "file:line". It ends with
// the first error, each's being given its place.
func ReadAll(stdin io.Reader, names []string, each func(at string, r *telemetry.Record) error) error {
	for _, name := range names {
		if err := readFile(stdin, name, each); err != nil {
			return err
		}
	}
	return nil
}

func readFile(stdin io.Reader, name string, each func(at string, r *telemetry.Record) error) error {
	in := stdin
	if name == "-" {
		name = "standard input"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return err // names the file
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, telemetry.MaxLine)
	number := 0
	for lines.Scan() {
		number++
		at := fmt.Sprintf("%s:%d", name, number)
		r, _, err := telemetry.ParseLine(lines.Bytes())
		if err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if r == nil {
			continue
		}
		if err := each(at, r); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%s:%d: line of more than %d bytes", name, number+1, telemetry.MaxLine)
	} else if err != nil {
		return fmt.Errorf("%s:%d: %w", name, number+1, err)
	}
	return nil
}
