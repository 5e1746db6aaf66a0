package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// watcher is a program that is measured.
type watcher struct {
	name  string
	floor string // the floor with the same latency budget; what it is compared with
	peer  bool   // somebody else's: measured when installed, in fewer rounds
	ready string // how the line on standard error begins that says that it watches; empty: its mark is in /proc
	args  func(w workload, dir string) []string
	line  func(*tally, []byte) // counts a line of its output; nil if it names nothing
}

// nobody is the watcher that isn't there: the workload alone.
const nobody = "nobody"

// allWatchers are what can be measured, in the order of the table.
func (b *bench) allWatchers() []watcher {
	floor := func(name string, budget time.Duration) watcher {
		return watcher{name: name, floor: name, ready: "ready", line: floorLine,
			args: func(w workload, dir string) []string {
				return []string{b.floor, "fid", fmt.Sprint(w.mask), fmt.Sprint(budget.Microseconds()), dir}
			}}
	}
	fanlight := func(latency, floor string) watcher {
		name := "fanlight watch --json --latency " + latency
		return watcher{name: name, floor: floor, ready: "ready", line: fanlightLine,
			args: func(w workload, dir string) []string {
				return slices.Concat([]string{b.fanlight, "watch", "--json", "--latency", latency}, w.fanlight, []string{dir})
			}}
	}
	inotify := func(name string) watcher {
		words := strings.Fields(name)
		return watcher{name: name, floor: "floor", peer: true, ready: "Watches established", line: inotifyLine,
			args: func(w workload, dir string) []string {
				return append(words, "--format", "%e %w%f", "-e", w.inotify, dir)
			}}
	}
	return []watcher{
		{name: nobody, floor: nobody},
		floor("floor", 0),
		fanlight("0", "floor"),
		floor("floor, 1 ms", time.Millisecond),
		fanlight("1ms", "floor, 1 ms"),
		inotify("inotifywait -m -r"),
		inotify("fsnotifywait -F -S -m"),
		{name: "fatrace -c", floor: "floor", peer: true, line: fatraceLine,
			args: func(w workload, _ string) []string { return []string{"fatrace", "-c", "-f", w.fatrace} }},
	}
}

// loops are the read loops that are measured where a workload says in which form the events come: one in C, and one of
// package fanotify.
func (b *bench) loops() []watcher {
	loop := func(name, program string) watcher {
		return watcher{name: name, floor: floorLoop, ready: "ready", args: func(w workload, dir string) []string {
			return []string{program, w.form, fmt.Sprint(w.mask), "0", dir}
		}}
	}
	return []watcher{{name: nobody, floor: nobody}, loop(floorLoop, b.floor), loop("fanotify.Group.Events", b.loop)}
}

// floorLoop is the loop that the others are compared with.
const floorLoop = "floor"

// process is a watcher that runs.
type process struct {
	cmd     *exec.Cmd
	stderr  *os.File
	ended   chan struct{} // closed when it has ended
	err     error         // of Wait; valid after ended
	started time.Duration // the processor time that it had used when it was ready
}

// start starts a watcher on dir and returns when it watches.
func start(ctx context.Context, w watcher, work workload, dir string, stdout *os.File) (*process, error) {
	args := w.args(work, dir)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir // fatrace watches the filesystem of its working directory
	cmd.Stdout = stdout
	cmd.SysProcAttr = endsWithUs()
	stderr, stderrWriter, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = stderrWriter
	err = cmd.Start()
	stderrWriter.Close()
	if err != nil {
		stderr.Close()
		return nil, err
	}
	p := &process{cmd: cmd, stderr: stderr, ended: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	// Marking 100,000 directories one by one takes seconds.
	late := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer late.Stop()
	if err := p.awaitReady(w.ready); err != nil {
		p.stop()
		return nil, fmt.Errorf("start %s: %w", strings.Join(args, " "), err)
	}
	p.started = p.cpu()
	return p, nil
}

// endsWithUs has a child killed when this process is.
func endsWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// awaitReady waits until the watcher says that it watches: by a line on its standard error or, if it says nothing, by
// its mark in /proc. From then on it discards what the watcher says, which would otherwise stop at a full pipe.
func (p *process) awaitReady(line string) error {
	if line == "" {
		return p.awaitMark()
	}
	in := bufio.NewReader(p.stderr)
	said := ""
	for {
		text, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("ended before it was ready: %s", strings.TrimSpace(said+text))
		}
		if strings.HasPrefix(text, line) {
			go discard(in)
			return nil
		}
		said = text
	}
}

// discard reads what nobody wants, so that the watcher isn't held up; it ends with the watcher.
func discard(in io.Reader) { _, _ = io.Copy(io.Discard, in) }

func (p *process) awaitMark() error {
	for {
		infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", p.cmd.Process.Pid))
		if err != nil {
			return err
		}
		for _, info := range infos {
			text, _ := os.ReadFile(info) // a descriptor that is closed again has no mark
			if bytes.Contains(text, []byte("fanotify sdev:")) {
				go discard(p.stderr)
				return nil
			}
		}
		select {
		case <-p.ended:
			return errors.New("ended before it was ready")
		case <-time.After(time.Millisecond):
		}
	}
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// cpu is the processor time of all the process's threads so far: its clock, as clock_getcpuclockid(3) names it. It is
// zero when the process has ended.
func (p *process) cpu() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|2), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// drain waits until the process has nothing to do any more: its clock stands.
func (p *process) drain(ctx context.Context) error {
	const step, quiet = 10 * time.Millisecond, 6
	last, still := p.cpu(), 0
	for still < quiet && !p.hasEnded() {
		select {
		case <-p.ended:
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(step):
		}
		now := p.cpu()
		if now-last < step/50 {
			still++
		} else {
			still = 0
		}
		last = now
	}
	return nil
}

// peak is the most memory that the process held, in bytes. Not ru_maxrss: there a process begins with what its parent
// held.
func (p *process) peak() int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	kib, err := strconv.ParseInt(string(bytes.TrimSpace(between(status, "VmHWM:", "kB"))), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}

// stop ends the process and waits for it. It returns the processor time that it used since it was ready, from its
// rusage.
func (p *process) stop() time.Duration {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // may have ended already
	<-p.ended
	p.stderr.Close()
	state := p.cmd.ProcessState
	return state.UserTime() + state.SystemTime() - p.started
}
