package fanotify

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Limits are the limits that the system sets to groups and marks.
type Limits struct {
	// MaxQueuedEvents is the number of events that a queue without UnlimitedQueue holds, sampled when a group is made
	// (fs.fanotify.max_queued_events).
	MaxQueuedEvents int
	// MaxUserGroups is the number of groups of one user (fs.fanotify.max_user_groups). UnlimitedMarks and
	// UnlimitedQueue don't lift it.
	MaxUserGroups int
	// MaxUserMarks is the number of marks in all groups of one user (fs.fanotify.max_user_marks).
	MaxUserMarks int

	// NamespaceGroups and NamespaceMarks are the same limits for this user namespace (user.max_fanotify_groups,
	// user.max_fanotify_marks); both hold.
	NamespaceGroups, NamespaceMarks int

	// WatchdogTimeout is the time after which the kernel logs that a permission event has no answer, in whole seconds;
	// 0 is never (fs.fanotify.watchdog_timeout). It is 0 before Linux 6.18, which has none.
	WatchdogTimeout time.Duration
}

// The limits that errors speak of, as sysctl(8) names them.
const (
	sysctlUserGroups      = "fs.fanotify.max_user_groups"
	sysctlUserMarks       = "fs.fanotify.max_user_marks"
	sysctlNamespaceGroups = "user.max_fanotify_groups"
	sysctlNamespaceMarks  = "user.max_fanotify_marks"
)

// ReadLimits reads the limits from /proc/sys, without privilege (proc_sys_fs(5)). They have been there since Linux
// 5.13; before, the error is fs.ErrNotExist, and they were fixed: 16,384 events, 128 groups and 8,192 marks a group.
func ReadLimits() (Limits, error) {
	var l Limits
	for _, limit := range []struct {
		name  string
		value *int
	}{
		{"fs.fanotify.max_queued_events", &l.MaxQueuedEvents},
		{sysctlUserGroups, &l.MaxUserGroups},
		{sysctlUserMarks, &l.MaxUserMarks},
		{sysctlNamespaceGroups, &l.NamespaceGroups},
		{sysctlNamespaceMarks, &l.NamespaceMarks},
	} {
		n, err := readSysctl(limit.name)
		if err != nil {
			return Limits{}, err
		}
		*limit.value = n
	}
	seconds, err := readSysctl("fs.fanotify.watchdog_timeout")
	if err != nil && !os.IsNotExist(err) {
		return Limits{}, err
	}
	l.WatchdogTimeout = time.Duration(seconds) * time.Second
	return l, nil
}

func readSysctl(name string) (int, error) {
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
	if err != nil {
		return 0, fmt.Errorf("read the limit %s: %w", name, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("read the limit %s: %w", name, err)
	}
	return n, nil
}

// raise says which of several limits that all hold is to be raised: the lowest, which is the first that is reached.
func raise(names ...string) string {
	lowest, least := names[0], -1
	for _, name := range names {
		if n, err := readSysctl(name); err == nil && (least < 0 || n < least) {
			lowest, least = name, n
		}
	}
	if least < 0 {
		return "raise " + lowest
	}
	return fmt.Sprintf("raise %s (now %d)", lowest, least)
}
