package main

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// Signals that no terminal gave are the command's: the watch goes on until it has ended, whatever it makes of them.
func TestCommandGetsSignals(t *testing.T) {
	for _, signal := range []syscall.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGHUP} {
		t.Run(unix.SignalName(signal), func(t *testing.T) {
			dir := fstest.New(t, fstest.Tmpfs)
			cmd := newCommand("watch", "--format", "%f", "-e", "create", dir, "--", "bash", "-c", `
				n=0
				trap 'n=$((n+1)); mkfifo "$0/got-$n"; [ $n = 1 ] || { kill $!; exit 9; }' INT TERM QUIT HUP
				sleep 1000 >/dev/null 2>&1 & mkfifo "$0/waits"; while :; do wait; done`, dir)
			cmd.SysProcAttr.Setsid = true // no terminal
			out, err := os.Create(filepath.Join(t.TempDir(), "out"))
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			cmd.Stdout = out
			p, err := startProgram(cmd)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(p.kill)
			for _, name := range []string{"waits", "got-1"} {
				if err := awaitFile(filepath.Join(dir, name)); err != nil {
					t.Fatalf("%v\n%s", err, p.stderr)
				}
				if err := cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
			}
			if status, err := p.wait(); status != 9 || err != nil {
				t.Errorf("exit status %d, %v", status, err)
			}
			text, err := os.ReadFile(out.Name())
			if err != nil {
				t.Fatal(err)
			}
			wantText(t, string(text), "waits\ngot-1\ngot-2\n")
		})
	}
}
