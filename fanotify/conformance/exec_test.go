package conformance_test

import (
	"os"
	"testing"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// TestLTP12OpenExec opens a file and executes a program, both with the same mark.
//
// Proves FAN_OPEN_EXEC.
func TestLTP12OpenExec(t *testing.T) {
	const (
		open     = fanotify.Open
		openExec = fanotify.OpenExec
	)
	fstest.Each(t, func(t *testing.T, dir string) {
		path, executable := file(t, dir, "file"), program(t, dir, "program")
		for _, row := range []struct {
			name             string
			mask, ignored    fanotify.Mask
			opened, executed fanotify.Mask // the events; 0 is none
		}{
			0: {"open", open, 0, open, open},
			1: {"open_exec", openExec, 0, 0, openExec},
			2: {"both", open | openExec, 0, open, open | openExec},
			3: {"open_ignore_open_exec", open, openExec, open, open},
			4: {"open_exec_ignore_open", openExec, open, 0, openExec},
			5: {"both_ignore_open_exec", open | openExec, openExec, open, open},
		} {
			t.Run(row.name, func(t *testing.T) {
				g := newGroup(t, fanotify.Config{})
				for _, marked := range []string{path, executable} {
					mark(t, g, inode, marked, row.mask, 0)
					if row.ignored != 0 {
						mark(t, g, inode, marked, row.ignored, fanotify.IgnoredMask)
					}
				}
				one := func(mask fanotify.Mask, name string) []string {
					if mask == 0 {
						return nil
					}
					return []string{mask.String() + " " + name}
				}
				touch(t, path)
				expect(t, "open", queued(t, g, by(t, os.Getpid(), maskAndFile(t))), one(row.opened, "file")...)
				pid, err := execute(t, executable)
				check(t, err)
				expect(t, "execute", queued(t, g, by(t, pid, maskAndFile(t))), one(row.executed, "program")...)
			})
		}
	})
}
