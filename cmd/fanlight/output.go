package main

import (
	"fmt"
	"io"
	"os"
	"sync"
)

// output is where records go: standard output, or the file of --output.
type output struct {
	mu   sync.Mutex
	path string // empty for standard output
	w    io.Writer
	file *os.File // the open file of path
}

// openOutput returns the output for the file at path, standard output if path is empty.
func openOutput(path string, stdout io.Writer) (*output, error) {
	o := &output{path: path, w: stdout}
	if path == "" {
		return o, nil
	}
	return o, o.reopen()
}

// reopen opens the file anew, as a log that was renamed asks for. If that fails, the old one stays in use. The file
// is appended to; a new one is for its owner only, because it says what everybody does.
func (o *output) reopen() error {
	file, err := os.OpenFile(o.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file != nil {
		_ = o.file.Close() // every record was written, and an error here would have no one to act on it
	}
	o.file, o.w = file, file
	return nil
}

// Write writes whole records. Beside reopen they all go to one file or the other.
func (o *output) Write(records []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, err := o.w.Write(records)
	if err != nil {
		return n, fmt.Errorf("output: %w", err)
	}
	return n, nil
}

// close closes the file of --output.
func (o *output) close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.file == nil {
		return nil
	}
	return o.file.Close()
}
