package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// deadline is when what a test waits for has to be there.
func deadline() time.Time { return time.Now().Add(patience) }

// program is a running fanlight.
type program struct {
	cmd    *exec.Cmd
	stderr *readyBuffer
	ended  chan struct{} // closed at the end, when cmd.ProcessState is there
}

// newCommand returns the command fanlight with these arguments: this test binary under that name, which
// testscript.Main looks at. It runs for a user who can't reach the binary too.
func newCommand(args ...string) *exec.Cmd {
	return &exec.Cmd{
		Path:        "/proc/self/exe",
		Args:        append([]string{"fanlight"}, args...),
		SysProcAttr: &syscall.SysProcAttr{},
	}
}

// startProgram starts cmd. Its standard error is kept, unless it already goes somewhere.
func startProgram(cmd *exec.Cmd) (*program, error) {
	p := &program{cmd: cmd, stderr: &readyBuffer{ready: make(chan struct{})}, ended: make(chan struct{})}
	if cmd.Stderr == nil {
		cmd.Stderr = p.stderr
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = cmd.Wait() // the status stays in cmd.ProcessState
		close(p.ended)
	}()
	return p, nil
}

// awaitReady waits for the line on standard error that says that the program is ready.
func (p *program) awaitReady() error {
	select {
	case <-p.stderr.ready:
		return nil
	case <-p.ended:
		return fmt.Errorf("ended (%v) before it was ready:\n%s", p.cmd.ProcessState, p.stderr)
	case <-time.After(patience):
		return fmt.Errorf("not ready after %v:\n%s", patience, p.stderr)
	}
}

// wait waits for the end and returns the exit status.
func (p *program) wait() (int, error) {
	select {
	case <-p.ended:
	case <-time.After(patience):
		return 0, fmt.Errorf("not at its end after %v:\n%s", patience, p.stderr)
	}
	if !p.cmd.ProcessState.Exited() {
		return 0, fmt.Errorf("ended by %v:\n%s", p.cmd.ProcessState, p.stderr)
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// kill ends the program if it has not ended, and waits for that.
func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// readyBuffer keeps what is written to it and tells of a line that starts with "ready".
type readyBuffer struct {
	mu    sync.Mutex
	text  []byte
	ready chan struct{}
	told  bool
}

func (b *readyBuffer) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, text...)
	if !b.told && bytes.Contains(append([]byte("\n"), b.text...), []byte("\nready")) && bytes.HasSuffix(b.text, []byte("\n")) {
		b.told = true
		close(b.ready)
	}
	return len(text), nil
}

func (b *readyBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}

// awaitFile waits until the file exists.
func awaitFile(path string) error {
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	events := os.NewFile(uintptr(inotify), "inotify")
	defer events.Close()
	if _, err := unix.InotifyAddWatch(inotify, filepath.Dir(path), unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return err
	}
	for {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		polled := []unix.PollFd{{Fd: int32(inotify), Events: unix.POLLIN}}
		if n, err := unix.Poll(polled, int(patience.Milliseconds())); n == 0 {
			return fmt.Errorf("%s isn't there after %v", path, patience)
		} else if err == nil {
			_, _ = events.Read(make([]byte, 4096)) // only to look again
		}
	}
}
