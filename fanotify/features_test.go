package fanotify

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSupports asks this kernel, which has everything to Linux 6.18.
func TestSupports(t *testing.T) {
	missing := []Feature{FeatureThreadPIDFD}
	for _, f := range Features() {
		for range 2 { // the second answer is remembered
			err := Supports(f)
			if slices.Contains(missing, f) {
				_, groupErr := NewGroup(Config{Report: ReportPIDFD | ReportTID})
				if (groupErr == nil) != (err == nil) || err != nil && !errors.Is(err, errors.ErrUnsupported) {
					t.Errorf("%s: %v, but a group says %v", f, err, groupErr)
				}
			} else if err != nil {
				t.Errorf("%s: %v", f, err)
			}
		}
	}
	if err := Supports("telepathy"); err == nil || errors.Is(err, errors.ErrUnsupported) {
		t.Error("an unknown feature:", err)
	}
}

func TestWithoutAdmin(t *testing.T) {
	if err := withoutAdmin(probe{}.try); err != unix.EPERM {
		t.Error("a group that needs CAP_SYS_ADMIN:", err)
	}
	check(t, probe{}.try())
}

// TestProbesTellApart shows that a probe is able to fail: one bit that this kernel doesn't know makes it.
func TestProbesTellApart(t *testing.T) {
	for f, p := range probes {
		if f == FeatureThreadPIDFD {
			continue
		}
		if p.mask == 0 {
			p.config.Report |= 1 << 20
		} else if p.flags == 0 {
			p.mask |= 0x200000
		} else {
			p.flags |= 0x1000
		}
		if err := p.try(); err != unix.EINVAL {
			t.Errorf("%s with an unknown bit: %v", f, err)
		}
	}
}

// TestProbesLeaveNoTrace compares capabilities and descriptors.
func TestProbesLeaveNoTrace(t *testing.T) {
	stand := func() string {
		status, err := os.ReadFile("/proc/thread-self/status")
		check(t, err)
		fds, err := os.ReadDir("/proc/self/fd")
		check(t, err)
		var lines []string
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "Cap") {
				lines = append(lines, line)
			}
		}
		for _, fd := range fds {
			lines = append(lines, fd.Name())
		}
		return strings.Join(lines, " ")
	}
	runtime.LockOSThread() // capabilities are a thread's
	defer runtime.UnlockOSThread()
	before := stand()
	for _, f := range Features() {
		f.try() //nolint:errcheck // What it says is asked elsewhere.
	}
	if after := stand(); after != before {
		t.Errorf("before %s\nafter %s", before, after)
	}
}
