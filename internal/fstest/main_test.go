package fstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// leaveVariable makes this test binary leave something behind instead of running its tests.
const leaveVariable = "FANLIGHT_TEST_LEAVE"

func TestMain(m *testing.M) {
	if what := os.Getenv(leaveVariable); what != "" {
		os.Exit(M{leaver(what)}.Run())
	}
	Main(m)
}

// leaver stands for tests that pass and leave something behind.
type leaver string

func (what leaver) Run() int {
	var err error
	switch what {
	case "descriptor":
		_, err = unix.Open("/proc/version", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	case "anonymous descriptor":
		_, err = unix.InotifyInit1(unix.IN_CLOEXEC)
	case "mount":
		err = unix.Mount("tmpfs", os.Getenv("DIR"), "tmpfs", 0, "")
	case "child":
		cat := exec.Command("cat")
		if err = cat.Start(); err == nil {
			err = cat.Process.Release() // the pidfd, which would be another thing left
		}
	}
	if err != nil {
		panic(err)
	}
	return 0
}

func TestLeftBehind(t *testing.T) {
	dir := New(t, Tmpfs)
	for what, report := range map[string]string{
		"nothing":              "",
		"descriptor":           ": /proc/version\n",
		"anonymous descriptor": ": anon_inode:inotify\n",
		"mount":                ": " + dir + " (tmpfs)\n",
		"child":                "a child process",
	} {
		t.Run(what, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe")
			// Without the variable the child makes a namespace of its own: its mount is not ours to take away.
			cmd.Env = append(os.Environ(), leaveVariable+"="+what, "DIR="+dir, outsideVariable+"=")
			out, err := cmd.CombinedOutput()
			if report == "" {
				if err != nil || len(out) != 0 {
					t.Fatalf("%v, %q", err, out)
				}
				return
			}
			if cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("ended with %v, want exit status 1", err)
			}
			if !strings.HasPrefix(string(out), "fstest: left behind by a test: ") || !strings.Contains(string(out), report) {
				t.Errorf("said %q, want %q", out, report)
			}
			if n := strings.Count(string(out), "\n"); n != 1 {
				t.Errorf("said %q, want one line", out)
			}
		})
	}
}

func TestPrivateNamespace(t *testing.T) {
	dir := New(t, Tmpfs)
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.Optional != "" {
			t.Errorf("%s is not private: %s", m.Mountpoint, m.Optional)
		}
	}
	// The process that waits for this one is outside.
	outside, err := os.Readlink(filepath.Join("/proc", "self", "ns", "mnt"))
	if err != nil {
		t.Fatal(err)
	}
	if outside == os.Getenv(outsideVariable) {
		t.Errorf("the tests run in %s, the namespace that they were started in", outside)
	}
	var here, there unix.Stat_t
	if err := unix.Stat(dir, &here); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(filepath.Join("/proc", strconv.Itoa(os.Getppid()), "root", dir), &there); err != nil {
		t.Fatal(err)
	}
	if here.Dev == there.Dev {
		t.Error("a mount is seen outside")
	}
}
