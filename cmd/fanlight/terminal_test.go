package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// openTerminal returns both ends of a new pseudo-terminal: what a person has before them, and what a program gets.
func openTerminal(t *testing.T) (person, tty *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { person.Close() })
	conn, err := person.SyscallConn() // Fd would make it blocking, without deadlines
	if err != nil {
		t.Fatal(err)
	}
	var number int
	var unlockErr, numberErr error
	err = conn.Control(func(fd uintptr) {
		unlockErr = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0)
		number, numberErr = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
	})
	if err := errors.Join(err, unlockErr, numberErr); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	return person, tty
}

// A person starts fanlight in a terminal, sees an event, and presses Ctrl-C.
func TestWatchInATerminal(t *testing.T) {
	for _, test := range []struct{ env, event string }{
		{"TERM=xterm", "\x1b[32mcreate\x1b[0m"},
		{"TERM=dumb", "create"},
		{"NO_COLOR=1", "create"},
		{"NO_COLOR=", "\x1b[32mcreate\x1b[0m"},
	} {
		t.Run(test.env, func(t *testing.T) {
			dir := fstest.New(t, fstest.Tmpfs)
			person, tty := openTerminal(t)
			cmd := newCommand("watch", "--timefmt", "T", dir)
			cmd.Env = append(os.Environ(), "TERM=xterm", "NO_COLOR=", test.env)
			cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
			cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
			p, err := startProgram(cmd)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.kill)
			if err := person.SetReadDeadline(deadline()); err != nil {
				t.Fatal(err)
			}
			screen := bufio.NewReader(person)
			expect := func(pattern string) {
				t.Helper()
				line, err := screen.ReadString('\n')
				if err != nil || !regexp.MustCompile(pattern).MatchString(strings.TrimRight(line, "\r\n")) {
					t.Fatalf("the screen shows %q (%v), want %q", line, err, pattern)
				}
			}

			expect(`^ready: watching ` + regexp.QuoteMeta(dir) + ` \(tmpfs\)$`)
			if err := unix.Mkfifo(filepath.Join(dir, "f"), 0o600); err != nil {
				t.Fatal(err)
			}
			expect(`^T  \S+\[\d+\] +` + regexp.QuoteMeta(test.event) + ` +` + regexp.QuoteMeta(dir) + `/f$`)
			if _, err := person.WriteString("\x03"); err != nil { // Ctrl-C
				t.Fatal(err)
			}
			expect(`^\^C\r1 event, none lost$`)
			if status, err := p.wait(); status != exitDone || err != nil {
				t.Errorf("exit status %d, %v", status, err)
			}
		})
	}
}
