package fanotify

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Usage says how much of the limits is used.
type Usage struct {
	Users []UserUsage // who has groups, by UID
	// Unreadable is the number of processes that may not be asked: their groups are not counted.
	Unreadable int
	// Doubtful is the number of groups that may have been counted before, as another process's: the kernel refuses to
	// compare (kcmp(2), EPERM, or ENOSYS without CONFIG_KCMP).
	Doubtful int
}

// UserUsage is what counts against the limits of one user.
type UserUsage struct {
	UID    uint32 // in the caller's user namespace
	Groups int
	Marks  int // in groups without UnlimitedMarks: the others' don't count
}

// ReadUsage counts the groups of all processes that may be asked, and their marks; root may ask all of its pid
// namespace. A group that several processes have open is counted once, for the one with the lowest id.
//
// It is a look from outside and comes near. The kernel counts a group and its marks for the user who made the group,
// and doesn't tell who that was: here it is the effective user of the process that has it open. What AllGroups doesn't
// see is missing, and what is made or closed meanwhile may be. The cost is that of AllGroups.
func ReadUsage() (Usage, error) {
	var usage Usage
	var seen []OpenGroup
	users := map[uint32]*UserUsage{}
	for g, err := range AllGroups() {
		if errors.Is(err, fs.ErrPermission) {
			usage.Unreadable++
			continue
		}
		if err != nil {
			return Usage{}, err
		}
		uid, err := effectiveUser(g.PID)
		if gone(err) {
			continue
		}
		if err != nil {
			return Usage{}, err
		}
		known, refused := g.among(seen)
		if known {
			continue
		}
		if refused {
			usage.Doubtful++
		}
		user := users[uid]
		if user == nil {
			user = &UserUsage{UID: uid}
			users[uid] = user
		}
		user.Groups++
		if !g.Info.Config.UnlimitedMarks {
			user.Marks += len(g.Info.Marks) + g.Info.OtherMarks
		}
		seen = append(seen, OpenGroup{PID: g.PID, FD: g.FD})
	}
	for _, user := range users {
		usage.Users = append(usage.Users, *user)
	}
	slices.SortFunc(usage.Users, func(a, b UserUsage) int { return cmp.Compare(a.UID, b.UID) })
	return usage, nil
}

// among reports whether g is one of seen, or else whether the kernel refused to say so of some.
func (g OpenGroup) among(seen []OpenGroup) (known, refused bool) {
	for _, other := range seen {
		const kcmpFile = 0 // KCMP_FILE in linux/kcmp.h
		order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(g.PID), uintptr(other.PID), kcmpFile, uintptr(g.FD),
			uintptr(other.FD), 0)
		switch errno {
		case 0:
			if order == 0 {
				return true, false
			}
		case unix.ESRCH, unix.EBADF: // one of the two is closed by now
		default:
			refused = true
		}
	}
	return false, refused
}

// effectiveUser returns the effective user of a process. The owner of its directory in /proc would be root where the
// process is not dumpable (proc(5)).
func effectiveUser(pid int) (uint32, error) {
	name := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			if fields := strings.Fields(ids); len(fields) > 1 { // real, effective, saved, for files
				uid, err := strconv.ParseUint(fields[1], 10, 32)
				return uint32(uid), err
			}
		}
	}
	return 0, fmt.Errorf("%s: no user", name)
}
