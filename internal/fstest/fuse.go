package fstest

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fuseDeadline is how long bindfs may take to mount and how long to end. It is there to fail, not to measure.
const fuseDeadline = 30 * time.Second

// newFUSE mounts a FUSE filesystem on dir: bindfs, which shows another directory.
func newFUSE(t testing.TB, dir string, options []string) {
	t.Helper()
	args := []string{"-f", New(t, Tmpfs), dir}
	if len(options) > 0 {
		args = slices.Concat([]string{"-o", strings.Join(options, ",")}, args)
	}
	bindfs := exec.Command("bindfs", args...)
	var output strings.Builder
	bindfs.Stdout, bindfs.Stderr = &output, &output
	pidfd := -1
	bindfs.SysProcAttr = &syscall.SysProcAttr{
		PidFD:     &pidfd,
		Pdeathsig: syscall.SIGKILL, // or it would live on when the tests are killed, and keep their mount namespace
	}
	started, ended := make(chan error), make(chan error, 1)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that started the process, not the whole parent.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := bindfs.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		ended <- bindfs.Wait()
	}()
	if err := <-started; err != nil {
		t.Fatalf("%v (make test installs it)", err)
	}
	t.Cleanup(func() { unix.Close(pidfd) })
	if err := waitForFUSE(dir, pidfd); err != nil {
		bindfs.Process.Kill()
		end := <-ended
		_ = unix.Unmount(dir, unix.MNT_DETACH) // if it came so far
		t.Fatalf("mount bindfs on %s: %v: %v\n%s", dir, err, end, output.String())
	}
	t.Cleanup(func() {
		unmount(t, dir) // which ends bindfs
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("bindfs on %s: %v\n%s", dir, err, output.String())
			}
		case <-time.After(fuseDeadline):
			bindfs.Process.Kill()
			t.Errorf("bindfs on %s goes on without its mount: %v", dir, <-ended)
		}
	})
}

// waitForFUSE waits until a FUSE filesystem is mounted on dir or the process that is to mount it ends.
func waitForFUSE(dir string, pidfd int) error {
	// The mount table signals a change since the last poll as an exceptional condition (proc(5), /proc/PID/mounts). It
	// does so once for each open file, and Go's poller, which os.Open would hand it to, could be the one that is told.
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(table)
	wait := []unix.PollFd{
		{Fd: int32(table), Events: unix.POLLPRI},
		{Fd: int32(pidfd), Events: unix.POLLIN},
	}
	for deadline := time.Now().Add(fuseDeadline); ; {
		var s unix.Statfs_t
		if err := unix.Statfs(dir, &s); err != nil { // once mounted, bindfs has to answer that
			return err
		}
		if s.Type == unix.FUSE_SUPER_MAGIC {
			return nil
		}
		if wait[1].Revents != 0 {
			return errors.New("it ended")
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("not there after %v", fuseDeadline)
		}
		if _, err := unix.Poll(wait, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
