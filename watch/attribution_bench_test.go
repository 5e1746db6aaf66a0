package watch

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// What it costs the watcher, in processor time, that a program runs which makes one event: the difference between on
// and off is what is paid for each execve.
func BenchmarkShortLived(b *testing.B) {
	for _, off := range []bool{false, true} {
		b.Run(map[bool]string{false: "processes", true: "no processes"}[off], func(b *testing.B) {
			dir := fstest.New(b, "tmpfs")
			for _, program := range []string{"sh", "touch"} {
				install(b, program, dir)
			}
			w, err := New(Config{Roots: []string{dir}, Events: fanotify.Attrib, NoProcesses: off, OnlyRoots: true, KeepThread: true})
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			cmd := exec.Command(filepath.Join(dir, "sh"), "-c",
				fmt.Sprintf("i=0; while [ $i -lt %d ]; do touch f; i=$((i+1)); done", b.N))
			cmd.Dir, cmd.Env = dir, []string{"PATH=" + dir}
			before := processorTime(b)
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			go func() {
				cmd.Wait() //nolint:errcheck // What it did is counted.
				w.Stop()
			}()
			for range w.Events(b.Context()) {
			}
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime returns what this process has used, in nanoseconds.
func processorTime(b *testing.B) int64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}
