package fstest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// outsideVariable holds, in a test process that Main started, the mount namespace that Main itself runs in.
const outsideVariable = "FANLIGHT_TEST_OUTSIDE"

// Main runs the tests as [M] does and ends the process with their exit code. It is the body of a TestMain.
func Main(m *testing.M) { os.Exit(M{m}.Run()) }

// M runs Tests, a *testing.M, in a private mount namespace and checks that they leave nothing behind. It serves where
// something else than TestMain calls Run, such as testscript.Main.
type M struct {
	Tests interface{ Run() int }
}

// Run runs the tests and returns their exit code, or another than 0 when they left something behind. As root it starts
// the test binary once more, in a new mount namespace, and waits for that.
func (m M) Run() int {
	if os.Geteuid() == 0 && !inOwnNamespace() {
		code, err := runInNamespace()
		// Under an emulator the kernel can't start the test binary: tests that need no namespace run all the same.
		if err == nil {
			return code
		}
		if !errors.Is(err, unix.ENOEXEC) {
			fmt.Fprintln(os.Stderr, "fstest: start the tests in a mount namespace of their own:", err)
			return 1
		}
	}
	before, err := takeStock()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fstest:", err)
		return 1
	}
	code := m.Tests.Run()
	after, err := takeStock()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fstest:", err)
		return 1
	}
	for _, left := range before.leftBehind(after) {
		fmt.Fprintln(os.Stderr, "fstest: left behind by a test:", left)
		code = max(code, 1)
	}
	return code
}

// inOwnNamespace reports whether this process runs in a mount namespace that runInNamespace made.
func inOwnNamespace() bool {
	outside := os.Getenv(outsideVariable)
	return outside != "" && outside != mountNamespace()
}

// mountNamespace returns the name of this process's mount namespace, such as "mnt:[4026531841]", or "" without /proc,
// without which nothing here works.
func mountNamespace() string {
	name, _ := os.Readlink("/proc/self/ns/mnt")
	return name
}

// runInNamespace runs this test binary with the same arguments in a new mount namespace and returns its exit code.
func runInNamespace() (int, error) {
	// The kernel sends Pdeathsig when the thread ends that started the process, not the whole parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	tests := &exec.Cmd{
		Path:   "/proc/self/exe",
		Args:   os.Args,
		Env:    append(os.Environ(), outsideVariable+"="+mountNamespace()),
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Unshareflags: syscall.CLONE_NEWNS, // with it package syscall makes every mount private
			Pdeathsig:    syscall.SIGKILL,
		},
	}
	err := tests.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0, err
	}
	if exit.Exited() {
		return exit.ExitCode(), nil
	}
	fmt.Fprintln(os.Stderr, "fstest: the tests ended by", exit)
	return 1, nil
}

// stock is what a test may leave behind, each by its number.
type stock struct {
	descriptors map[int]string // what each refers to
	mounts      map[int]string // where each is
	children    bool
}

// takeStock returns what is open, mounted and running.
func takeStock() (stock, error) {
	// A pipe makes Go's poller open its own descriptors, if it has not yet, so that they are never news.
	r, w, err := os.Pipe()
	if err != nil {
		return stock{}, err
	}
	r.Close()
	w.Close()

	s := stock{descriptors: map[int]string{}, mounts: map[int]string{}}
	numbers, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return stock{}, err
	}
	for _, n := range numbers {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", n.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // the descriptor of the listing itself
		}
		fd, err := strconv.Atoi(n.Name())
		if err != nil {
			return stock{}, err
		}
		s.descriptors[fd] = target
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return stock{}, err
	}
	for _, m := range mounts {
		s.mounts[m.ID] = fmt.Sprintf("%s (%s)", m.Mountpoint, m.FSType)
	}
	s.children = hasChildren()
	return s, nil
}

// hasChildren reports whether this process has a child that lives or that nobody waited for. It takes nothing away
// from those who wait.
func hasChildren() bool {
	err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return !errors.Is(err, unix.ECHILD)
}

// leftBehind says in words what is in after and was not in s.
func (s stock) leftBehind(after stock) []string {
	var left []string
	for fd, target := range after.descriptors {
		if s.descriptors[fd] != target {
			left = append(left, fmt.Sprintf("descriptor %d: %s", fd, target))
		}
	}
	for id, where := range after.mounts {
		if s.mounts[id] != where {
			left = append(left, fmt.Sprintf("mount %d: %s", id, where))
		}
	}
	slices.Sort(left)
	if after.children && !s.children {
		left = append(left, "a child process that nobody waited for")
	}
	return left
}
