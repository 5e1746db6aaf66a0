package doctor

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	"fanlight/fanotify"
)

// judge returns what is likely wrong, the worst first. hidden says that /proc hides the processes of others, missing
// why there is no fanotify at all.
func (r *Report) judge(hidden bool, missing error) []Finding {
	found := []Finding{}
	add := func(level Level, code, remedy, format string, args ...any) {
		found = append(found, Finding{level, code, fmt.Sprintf(format, args...), remedy})
	}
	if missing != nil {
		add(Problem, "no_fanotify", "use a kernel with CONFIG_FANOTIFY", "%v", missing)
	}
	admin := r.Privilege.effective("CAP_SYS_ADMIN")
	switch {
	case !admin:
		add(Warning, "no_privilege", runAsRoot,
			"without CAP_SYS_ADMIN whole filesystems can't be marked, and not all could be tried")
	case !r.Privilege.InitialNamespace:
		add(Warning, "user_namespace", "run it outside of the container",
			"the capabilities are those of a container's user namespace: what belongs to the machine can't be marked")
	case !r.Privilege.effective("CAP_DAC_READ_SEARCH"):
		add(Warning, "no_handles", "give it CAP_DAC_READ_SEARCH", "handles can't be opened without CAP_DAC_READ_SEARCH: paths stay unknown")
	}
	if hidden && !r.Privilege.effective("CAP_SYS_PTRACE") {
		add(Warning, "proc_hidden", "run it as root, or in the group of the option gid=",
			"/proc is mounted with hidepid: processes of others, and their groups, aren't seen")
	}
	if admin && r.Connector.Answer == No {
		add(Note, "no_connector", r.Connector.Remedy, "no process connector (%s): processes that end at once may be known by their pid alone",
			r.Connector.Reason)
	}
	r.judgeFeatures(add)
	r.judgeLimits(add)
	r.judgeListeners(add)
	r.judgeMounts(add)
	order := []Level{Problem, Warning, Note}
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Compare(slices.Index(order, a.Level), slices.Index(order, b.Level))
	})
	return found
}

// adder adds a finding.
type adder func(level Level, code, remedy, format string, args ...any)

// needed are the features without which watching doesn't work, or with less.
var needed = []fanotify.Feature{
	fanotify.FeatureFID, fanotify.FeatureDirFID, fanotify.FeatureName, fanotify.FeatureTargetFID, fanotify.FeatureRename,
	fanotify.FeatureFilesystemMark,
}

func (r *Report) judgeFeatures(add adder) {
	for _, f := range r.Features {
		if f.Answer == No && slices.Contains(needed, fanotify.Feature(f.Name)) {
			add(Problem, "old_kernel", "use Linux "+f.Since+" or later", "the kernel has no %s: %s", f.Name, f.For)
		}
	}
}

// limit returns the limit of that name, or -1.
func (r *Report) limit(name string) int {
	i := slices.IndexFunc(r.Limits, func(l Limit) bool { return l.Name == name })
	if i < 0 {
		return -1
	}
	return r.Limits[i].Value
}

// Nearly is the share of a limit, in percent, from which on its use is worth a warning.
const Nearly = 80

// defaultQueue is the kernel's default of fs.fanotify.max_queued_events.
const defaultQueue = 16384

func (r *Report) judgeLimits(add adder) {
	for _, u := range r.Users {
		for _, use := range []struct {
			what, code string
			used       int
			names      []string
		}{
			{"groups", "groups_used_up", u.Groups, []string{"fs.fanotify.max_user_groups", "user.max_fanotify_groups"}},
			{"marks", "marks_used_up", u.Marks, []string{"fs.fanotify.max_user_marks", "user.max_fanotify_marks"}},
		} {
			name := slices.MinFunc(use.names, func(a, b string) int { return cmp.Compare(r.limit(a), r.limit(b)) })
			limit := r.limit(name)
			if limit < 0 || use.used*100 < limit*Nearly {
				continue
			}
			add(Warning, use.code, fmt.Sprintf("sysctl %s=%d", name, max(2*limit, 128)),
				"%s has %d of %d %s", u.called(), use.used, limit, use.what)
		}
	}
	if n := r.limit("fs.fanotify.max_queued_events"); n >= 0 && n < defaultQueue {
		add(Warning, "small_queue", fmt.Sprintf("sysctl fs.fanotify.max_queued_events=%d", defaultQueue),
			"queues of groups without privilege, and of many other programs, hold only %d events", n)
	}
}

// called returns the name of a user, or his number.
func (u User) called() string { return cmp.Or(u.Name, fmt.Sprintf("user %d", u.UID)) }

func (r *Report) judgeListeners(add adder) {
	blocking := 0
	for _, l := range r.Listeners {
		if !l.CanBlock {
			continue
		}
		blocking++
		who := fmt.Sprintf("%s[%d]", cmp.Or(l.Comm, "?"), l.PID)
		if l.Stopped {
			add(Problem, "listener_stopped", fmt.Sprintf("kill -CONT %d, or end it: the kernel then allows", l.PID),
				"%s decides about files and is stopped: whoever opens one waits for it", who)
		}
		if !l.UnlimitedQueue {
			add(Warning, "listener_queue", "", "%s decides about files with a bounded queue: when that is full, the kernel allows without asking", who)
		}
	}
	if blocking > 0 && r.limit("fs.fanotify.watchdog_timeout") == 0 {
		add(Note, "no_watchdog", "sysctl fs.fanotify.watchdog_timeout=10, before the listener starts",
			"if a listener that decides about files hangs, the kernel doesn't log it (processes: %d)", blocking)
	}
	if r.ListenersError != "" {
		add(Warning, "listeners", "", "who else listens is not known: %s", r.ListenersError)
	}
}

func (r *Report) judgeMounts(add adder) {
	marks := r.limit("fs.fanotify.max_user_marks")
	if n := r.limit("user.max_fanotify_marks"); n >= 0 {
		marks = min(marks, n)
	}
	for _, m := range r.Mounts {
		where := cmp.Or(m.Asked, m.MountPoint)
		switch {
		case m.NoAnswer:
			add(Problem, "no_answer", m.Watch.Remedy, "%s (%s) doesn't answer", where, m.FSType)
		case !m.Watchable():
			add(Problem, "not_watchable", m.Watch.Remedy, "%s (%s) can't be watched: %s", where, m.FSType, m.Watch.Reason)
		case m.Asked != "" && filepath.Clean(m.Asked) != m.MountPoint: // how much of the filesystem is below isn't known
		case m.Watch.Form == FormInodes && marks >= 0 && m.Inodes*100 > uint64(marks)*Nearly:
			raise := fmt.Sprintf("sysctl fs.fanotify.max_user_marks=%d user.max_fanotify_marks=%[1]d", m.Inodes*100/Nearly+1)
			if m.Watch.Remedy != "" {
				raise = m.Watch.Remedy + ", or " + raise
			}
			add(Warning, "many_directories", raise,
				"%s (%s) can only be watched directory by directory, and may have more of them than marks: "+
					"%d files and directories, %d marks a user", where, m.FSType, m.Inodes, marks)
		}
	}
}
