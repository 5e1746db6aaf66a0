package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// launch starts fanlight with its standard output in a pipe, whose other end it returns, and waits until it is ready.
func launch(t *testing.T, args ...string) (*program, *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	defer w.Close()
	cmd := newCommand(args...)
	cmd.Stdout = w
	p, err := startProgram(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	if err := p.awaitReady(); err != nil {
		t.Fatal(err)
	}
	return p, r
}

// makeAndRemove makes and removes n FIFOs with different names in dir, for which nothing is opened or written.
func makeAndRemove(t *testing.T, dir string, n int) {
	t.Helper()
	for i := range n {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := unix.Unlink(path); err != nil {
			t.Fatal(err)
		}
	}
}

// Nobody reads the output while far more happens than waits for it. When it is read again, every event is there or in
// the count of a record in its place.
func TestWatchSaysWhatAnUnreadOutputLost(t *testing.T) {
	for n := uint64(150_000); ; n *= 2 {
		if lostOf(t, n) > 0 {
			return
		}
		t.Logf("the events were not read fast enough to lose one of %d", n)
	}
}

// lostOf makes n events while nobody reads the output, reads then until all are seen or counted as lost, and returns
// how many were lost.
func lostOf(t *testing.T, n uint64) (lost uint64) {
	t.Helper()
	dir := fstest.New(t, fstest.Tmpfs)
	p, stdout := launch(t, "watch", "--json", "-e", "create", dir)
	makeAndRemove(t, dir, int(n))
	if err := stdout.SetReadDeadline(deadline()); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for seq, count := uint64(1), uint64(0); count < n; seq++ {
		if !lines.Scan() {
			t.Fatalf("%d events seen or counted as lost, want %d: %v", count, n, lines.Err())
		}
		var e struct {
			Seq, Lost uint64
			Path      string
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		switch {
		case e.Seq != seq:
			t.Fatalf("%s: want seq %d", lines.Text(), seq)
		case e.Lost > 0:
			lost += e.Lost
			count += e.Lost
		case filepath.Base(e.Path) != fmt.Sprint(count):
			t.Fatalf("%s: want the name %d", lines.Text(), count)
		default:
			count++
		}
	}
	if err := p.cmd.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	if status, err := p.wait(); status != exitDone || err != nil {
		t.Errorf("exit status %d, %v", status, err)
	}
	return lost
}

// SIGINT and SIGTERM end the program while its write blocks, and say that something is missing.
func TestWatchEndsWhileItsOutputBlocks(t *testing.T) {
	for _, signal := range []syscall.Signal{unix.SIGINT, unix.SIGTERM} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			dir := fstest.New(t, fstest.Tmpfs)
			p, _ := launch(t, "watch", "--json", "-e", "create", dir)
			makeAndRemove(t, dir, 10_000) // more than a pipe holds
			start := time.Now()
			if err := p.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if status, err := p.wait(); status != exitDone || err != nil {
				t.Errorf("exit status %d, %v", status, err)
			}
			if took := time.Since(start); took > 5*giveUpTime {
				t.Errorf("it took %v", took)
			}
			if !strings.Contains(p.stderr.String(), unwritten) {
				t.Errorf("nothing is said about what is missing: %s", p.stderr)
			}
		})
	}
}

// The reader goes in the middle of a record: a quiet end.
func TestWatchEndsQuietlyWhenItsReaderGoes(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	p, stdout := launch(t, "watch", "--json", "-e", "create", dir)
	makeAndRemove(t, dir, 10_000) // more than a pipe holds
	if _, err := stdout.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := stdout.Close(); err != nil {
		t.Fatal(err)
	}
	if status, err := p.wait(); status != exitDone || err != nil {
		t.Errorf("exit status %d, %v", status, err)
	}
	if want := "ready: watching " + dir + " (tmpfs)\n"; p.stderr.String() != want {
		t.Errorf("standard error has %q, want %q", p.stderr, want)
	}
}

// SIGINT and SIGTERM in the middle of a flood that is read: whole records up to the end, which comes soon.
func TestWatchEndsInAFlood(t *testing.T) {
	for _, signal := range []syscall.Signal{unix.SIGINT, unix.SIGTERM} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			dir := fstest.New(t, fstest.Tmpfs)
			p, stdout := launch(t, "watch", "--json", dir)

			var over atomic.Bool
			flood := make(chan struct{})
			go func() {
				defer close(flood)
				for !over.Load() {
					makeAndRemove(t, dir, 1000)
				}
			}()
			defer func() {
				over.Store(true)
				<-flood
			}()

			lines := bufio.NewReader(stdout)
			for range 1000 {
				if _, err := lines.ReadString('\n'); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			rest, err := io.ReadAll(lines)
			if err != nil {
				t.Fatal(err)
			}
			if status, err := p.wait(); status != exitDone || err != nil {
				t.Errorf("exit status %d, %v", status, err)
			}
			last := rest[bytes.LastIndexByte(bytes.TrimSuffix(rest, []byte("\n")), '\n')+1:]
			if len(rest) > 0 && (!json.Valid(last) || !bytes.HasSuffix(last, []byte("\n"))) {
				t.Errorf("the last record is %q", last)
			}
		})
	}
}
