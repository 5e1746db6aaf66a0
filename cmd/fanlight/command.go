package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// command is the program behind --, which a watch runs. What outlives its parent becomes fanlight's child, and so
// still descends from it.
type command struct {
	path string
	args []string

	pid     int
	pidfd   int
	ended   chan struct{}  // closed when the command has ended; its status is not taken from it before the end
	hurry   chan struct{}  // closed by a signal that comes when it has ended
	signals chan os.Signal // those that fanlight gets

	mu     sync.Mutex // held by outcome
	reaped bool
	status unix.WaitStatus
}

// findCommand looks for a program as a shell does.
func findCommand(args []string) (*command, error) {
	path, err := exec.LookPath(args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return nil, cantRun(args[0], err)
	}
	return &command{
		path: path, args: args,
		ended: make(chan struct{}), hurry: make(chan struct{}), signals: make(chan os.Signal, 16),
	}, nil
}

// cantRun says why a program doesn't run, in the words and with the status of a shell.
func cantRun(name string, err error) error {
	switch errno, known := errors.AsType[syscall.Errno](err); {
	case errors.Is(err, exec.ErrNotFound):
		return &failure{exitNotFound, fmt.Errorf("%s: no such command in PATH", name)}
	case errors.Is(err, fs.ErrNotExist):
		return &failure{exitNotFound, fmt.Errorf("%s: not found, or its interpreter: %w", name, unix.ENOENT)}
	case known:
		return &failure{exitNotExecutable, fmt.Errorf("%s: can't be executed: %w", name, errno)}
	default:
		return &failure{exitNotExecutable, fmt.Errorf("%s: can't be executed: %w", name, err)}
	}
}

// catchSignals collects the signals that would end fanlight, from before the command starts: they are for the command.
// Those that are ignored stay so, for the command too. A hangup is fanlight's own if it reopens its output then.
func (c *command) catchSignals(reopens bool) {
	for _, s := range []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP} {
		if !signal.Ignored(s) && (s != unix.SIGHUP || !reopens) {
			signal.Notify(c.signals, s)
		}
	}
}

// start starts the command with the standard streams of fanlight, and calls ended when it has ended.
func (c *command) start(ended func()) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return failed(fmt.Errorf("become the parent of orphans: %w", err))
	}
	deaths := make(chan os.Signal, 1)
	signal.Notify(deaths, unix.SIGCHLD)
	pid, err := syscall.ForkExec(c.path, c.args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		return cantRun(c.args[0], err)
	}
	c.pid = pid
	if c.pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		c.pid = 0
		return failed(fmt.Errorf("open the command's pidfd: %w", err))
	}
	go c.relay()
	go func() {
		for range deaths {
			if c.reapOrphans(); c.isDead() {
				close(c.ended)
				ended()
				return
			}
		}
	}()
	return nil
}

// isDead reports whether the command has ended.
func (c *command) isDead() bool {
	if c.reaped {
		return true
	}
	// After an error the next death asks again.
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(c.pidfd), Events: unix.POLLIN}}, 0)
	return n > 0
}

// reapOrphans takes the status of the orphans that ended. The command is left a zombie, as which /proc still knows it,
// until its events are read: once it has ended nothing is waited for. If it ends right between the two, its status is
// kept, and only /proc has forgotten it.
func (c *command) reapOrphans() {
	for !c.isDead() {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err != nil || pid <= 0 {
			return
		}
		if pid == c.pid {
			c.reaped, c.status = true, status
		}
	}
}

// relay gives the command the signals that fanlight gets, but for those that the terminal gives to both. When it has
// ended, a signal says not to wait any longer.
func (c *command) relay() {
	for s := range c.signals {
		select {
		case <-c.ended:
			close(c.hurry)
			return
		default:
		}
		s := s.(syscall.Signal)
		if (s == unix.SIGINT || s == unix.SIGQUIT) && c.inForeground() {
			continue
		}
		_ = unix.PidfdSendSignal(c.pidfd, s, nil, 0) // it may have ended
	}
}

// inForeground reports whether the terminal gives its signals to fanlight and to the command.
func (c *command) inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	foreground := 0
	withDescriptor(tty, func(fd int) { foreground, err = unix.IoctlGetInt(fd, unix.TIOCGPGRP) })
	group, groupErr := unix.Getpgid(c.pid)
	return err == nil && groupErr == nil && foreground == unix.Getpgrp() && group == foreground
}

// finish waits for the end of the command, if it was started, and returns its exit status. err is what the watch ended
// with; it is said at once, because the command may go on for long.
func (c *command) finish(err error, say func(text string)) error {
	if c.pid == 0 {
		return err
	}
	if err != nil {
		say(err.Error())
	}
	<-c.ended
	if err != nil {
		return exitStatus(exitWatchFailed)
	}
	return c.outcome()
}

// outcome returns the exit status of the command, which has ended, as a shell says it.
func (c *command) outcome() error {
	c.mu.Lock() // at the end, the one who gave up waiting may ask beside finish
	defer c.mu.Unlock()
	if !c.reaped {
		if _, err := unix.Wait4(c.pid, &c.status, 0, nil); err != nil {
			return failed(fmt.Errorf("wait for the command: %w", err))
		}
		c.reaped = true
	}
	switch {
	case c.status.Signaled():
		return exitStatus(128 + int(c.status.Signal()))
	case c.status.ExitStatus() != 0:
		return exitStatus(c.status.ExitStatus())
	}
	return nil
}
