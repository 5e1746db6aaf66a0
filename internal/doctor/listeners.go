package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"

	"fanlight/fanotify"
)

// permissionEvents are the events whose process waits for an answer.
const permissionEvents = fanotify.OpenPerm | fanotify.AccessPerm | fanotify.OpenExecPerm | fanotify.PreAccess

// listeners returns the groups that others have open, and which processes may not be asked.
func (t table) listeners() (all []Listener, unreadable []int, err error) {
	all, unreadable = []Listener{}, []int{}
	for g, err := range fanotify.AllGroups() {
		switch {
		case errors.Is(err, fs.ErrPermission):
			unreadable = append(unreadable, g.PID)
		case err != nil:
			return all, unreadable, err
		case g.PID != os.Getpid():
			all = append(all, t.listener(g))
		}
	}
	return all, unreadable, nil
}

func (t table) listener(g fanotify.OpenGroup) Listener {
	l := Listener{
		PID: g.PID, FD: g.FD, UID: -1, Class: g.Info.Config.Class.String(), UnlimitedQueue: g.Info.Config.UnlimitedQueue,
		Marks: t.marks(g.Info.Marks),
	}
	l.CanBlock = slices.ContainsFunc(g.Info.Marks, func(m fanotify.MarkInfo) bool { return m.Mask&permissionEvents != 0 })
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", g.PID)); err == nil {
		l.Exe, l.ExeRaw = exe, raw(exe)
	}
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", g.PID)); err == nil {
		l.Comm = strings.TrimSuffix(string(comm), "\n")
		l.CommRaw = raw(l.Comm)
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.PID)) // it may have ended
	// Name comes first and has its newlines escaped, so that no process can pretend.
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		switch {
		case key == "State" && len(fields) > 0:
			l.Stopped = fields[0] == "T" || fields[0] == "t"
		case key == "Uid" && len(fields) > 1: // real, effective, ...
			if uid, err := strconv.Atoi(fields[1]); err == nil {
				l.UID, l.User = uid, userName(uid)
			}
		}
	}
	return l
}

// marks puts the marks together that are of one target in one place.
func (t table) marks(infos []fanotify.MarkInfo) []Mark {
	type masks struct{ events, ignored fanotify.Mask }
	all := []Mark{}
	var sums []masks
	for _, info := range infos {
		m := t.mark(info)
		i := slices.IndexFunc(all, func(old Mark) bool {
			return old.Target == m.Target && old.MountPoint == m.MountPoint && old.Device == m.Device
		})
		if i < 0 {
			i = len(all)
			all, sums = append(all, m), append(sums, masks{})
		}
		all[i].Count++
		if info.Target != fanotify.TargetInode {
			info.Mask &^= fanotify.EventOnChild // the kernel's own addition, which means nothing there
		}
		sums[i].events |= info.Mask
		sums[i].ignored |= info.Ignored
	}
	for i, s := range sums {
		all[i].Events = s.events.String()
		if s.ignored != 0 {
			all[i].Ignored = s.ignored.String()
		}
	}
	return all
}

// mark says where a mark is, as this process sees it.
func (t table) mark(info fanotify.MarkInfo) Mark {
	m := Mark{Target: info.Target.String()}
	i := -1
	switch info.Target {
	case fanotify.TargetMount:
		i = slices.IndexFunc(t, func(at *mountinfo.Info) bool { return at.ID == info.MountID })
	case fanotify.TargetInode, fanotify.TargetFilesystem:
		m.Device = info.Device.String()
		for j, at := range t {
			d := fanotify.Device{Major: uint32(at.Major), Minor: uint32(at.Minor)}
			if d == info.Device && (i < 0 || len(at.Root) < len(t[i].Root)) {
				i = j
			}
		}
	case fanotify.TargetMountNamespace:
		m.Device = fmt.Sprintf("mnt:[%d]", info.Namespace)
	}
	if i >= 0 {
		m.MountPoint, m.MountPointRaw, m.FSType = t[i].Mountpoint, raw(t[i].Mountpoint), t[i].FSType
		m.Device = mount{Info: t[i]}.device()
	}
	return m
}

// hiddenProcesses reports whether /proc shows a user only his own processes (hidepid, proc(5)).
func (t table) hiddenProcesses() bool {
	hides := func(at *mountinfo.Info) bool {
		if at.Mountpoint != "/proc" || at.FSType != "proc" {
			return false
		}
		for option := range strings.SplitSeq(at.VFSOptions, ",") {
			switch option {
			case "hidepid=1", "hidepid=2", "hidepid=4", "hidepid=noaccess", "hidepid=invisible", "hidepid=ptraceable":
				return true
			}
		}
		return false
	}
	return slices.ContainsFunc(t, hides)
}
