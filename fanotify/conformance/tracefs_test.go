package conformance_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// TestTracefs stands for LTP's fanotify25, which writes to the kernel's list of probes: it watches a mount of tracefs
// for writes, but to the switch of a trace buffer of its own, so that neither kprobes nor anybody else are touched.
func TestTracefs(t *testing.T) {
	dir := t.TempDir()
	err := unix.Mount("tracefs", dir, "tracefs", 0, "")
	if err == unix.ENODEV {
		fstest.NeedKernel(t, fmt.Errorf("tracefs: %w", errors.ErrUnsupported))
	}
	check(t, err)
	t.Cleanup(func() { check(t, unix.Unmount(dir, 0)) })
	buffer, err := os.MkdirTemp(filepath.Join(dir, "instances"), "fanlight-")
	check(t, err)
	t.Cleanup(func() { check(t, unix.Rmdir(buffer)) })

	g := newGroup(t, fanotify.Config{})
	mark(t, g, mount, dir, fanotify.Modify, 0)
	name := filepath.Join(buffer, "tracing_on")
	for _, text := range []string{"0", "1", "0", "1"} {
		check(t, os.WriteFile(name, []byte(text), 0))
		expect(t, "writing "+text, queued(t, g, by(t, os.Getpid(), maskAndFile(t))), "modify tracing_on")
	}
}
