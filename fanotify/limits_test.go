package fanotify

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestReadLimits compares with /proc/sys.
//
// Proves max_queued_events, max_user_groups, max_user_marks, watchdog_timeout.
func TestReadLimits(t *testing.T) {
	limits, err := ReadLimits()
	check(t, err)
	for path, got := range map[string]int{
		"/proc/sys/fs/fanotify/max_queued_events": limits.MaxQueuedEvents,
		"/proc/sys/fs/fanotify/max_user_groups":   limits.MaxUserGroups,
		"/proc/sys/fs/fanotify/max_user_marks":    limits.MaxUserMarks,
		"/proc/sys/user/max_fanotify_groups":      limits.NamespaceGroups,
		"/proc/sys/user/max_fanotify_marks":       limits.NamespaceMarks,
		"/proc/sys/fs/fanotify/watchdog_timeout":  int(limits.WatchdogTimeout / time.Second),
	} {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(path, "watchdog_timeout") {
			text = []byte("0") // before Linux 6.18
		} else if err != nil {
			t.Fatal(err)
		}
		if want := strings.TrimSpace(string(text)); strconv.Itoa(got) != want {
			t.Errorf("%s is %s, not %d", path, want, got)
		}
	}
	if _, err := readSysctl("fs.fanotify.nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := readSysctl("kernel.ostype"); err == nil {
		t.Error("a limit that is no number")
	}
	if got := raise("fs.fanotify.nothing"); got != "raise fs.fanotify.nothing" {
		t.Error(got)
	}
}
