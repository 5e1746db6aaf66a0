package doctor

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
)

// within returns what f returns if it does so in time. Otherwise f is left behind, and ends when the kernel lets it.
func within[T any](patience time.Duration, f func() T) (result T, inTime bool) {
	done := make(chan T, 1)
	go func() { done <- f() }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case result = <-done:
		return result, true
	case <-timer.C:
		return result, false
	}
}

// atOnce is how many mounts are tried at the same time: each takes a group, of which a user has 128.
const atOnce = 8

// tryAll tries the mounts, each for as long as patience is.
func tryAll(all []mount, patience time.Duration) []Mount {
	type numbered struct {
		i int
		m Mount
	}
	results := make(chan numbered)
	slots := make(chan struct{}, atOnce)
	for i, m := range all {
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			tried := m.noAnswer(patience)
			if !m.stuck {
				if answer, inTime := within(patience, m.try); inTime {
					tried = answer
				}
			}
			results <- numbered{i, tried}
		}()
	}
	tried := make([]Mount, len(all))
	for range all {
		r := <-results
		tried[r.i] = r.m
	}
	return tried
}

// known returns what is known of a mount before it is tried.
func (m mount) known() Mount {
	return Mount{
		MountPoint: m.Mountpoint, MountPointRaw: raw(m.Mountpoint), Asked: m.asked, AskedRaw: raw(m.asked), AlsoAt: m.alsoAt,
		FSType: m.FSType, Source: m.Source, SourceRaw: raw(m.Source), Device: m.device(),
	}
}

func (m mount) noAnswer(patience time.Duration) Mount {
	why := fmt.Sprintf("it did not answer within %v", patience)
	r := m.known()
	r.NoAnswer = true
	r.Handles = HandlesUnknown
	r.Permission = Ability{Answer: Unknown, Reason: why}
	r.PreContent = r.Permission
	r.Watch = Watch{Form: FormUnknown, Reason: why, Remedy: "see whether its server or its process still lives, or unmount it"}
	return r
}

// try finds out what works on a mount. It blocks for as long as the filesystem does.
func (m mount) try() Mount {
	r := m.known()
	fd, err := unix.Open(m.path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return m.unknown(r, err)
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_MNT_ID|unix.STATX_TYPE, &st)
	if err != nil {
		return m.unknown(r, err)
	}
	if int(st.Mnt_id) != m.ID {
		return m.unknown(r, errors.New("something else is mounted there by now"))
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) == nil && fs.Files > fs.Ffree {
		r.Inodes = fs.Files - fs.Ffree
	}
	r.Handles = handlesOf(fd)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		const file = "a single file is mounted there, without its directory"
		r.Watch = Watch{Form: FormNone, Reason: file, Remedy: "watch where it is from"}
		r.Permission = Ability{Answer: Unknown, Reason: file}
		r.PreContent = r.Permission
		return r
	}
	d := directory{fd: fd, fsType: m.FSType, source: m.Source}
	r.Watch = d.form()
	r.Permission = d.ask(fanotify.ClassContent, fanotify.OpenPerm)
	r.PreContent = d.ask(fanotify.ClassPreContent, fanotify.PreAccess)
	return r
}

// unknown fills in that a mount can't be tried.
func (m mount) unknown(r Mount, err error) Mount {
	a := refused(err)
	a.Answer = Unknown
	switch {
	case errors.Is(err, unix.EACCES) && strings.HasPrefix(m.FSType, "fuse"):
		a.Reason = "FUSE lets in only the user who mounted it"
		a.Remedy = "mount it with the option allow_other or allow_root"
	case errors.Is(err, unix.EACCES):
		a.Reason = "no permission to reach it"
		a.Remedy = runAsRoot
	}
	r.Handles = HandlesUnknown
	r.Permission, r.PreContent = a, a
	r.Watch = Watch{FormNone, a.Errno, a.Reason, a.Remedy}
	return r
}

const runAsRoot = "run it as root (sudo fanlight doctor)"

// refused says of an error that nothing better is known of what the system says.
func refused(err error) Ability {
	a := Ability{Answer: No, Reason: err.Error()}
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		a.Errno, a.Reason = errnoName(errno), errno.Error()
	}
	return a
}

func errnoName(errno unix.Errno) string {
	if errno == unix.EOPNOTSUPP {
		return "EOPNOTSUPP" // ErrnoName has the other name of the number
	}
	return unix.ErrnoName(errno)
}

// handlesOf says what the handles of a filesystem are good for. name_to_handle_at(2) gives a handle only where the
// filesystem could open it again; AT_HANDLE_FID is content with less (do_sys_name_to_handle in fs/fhandle.c).
func handlesOf(fd int) string {
	switch _, _, err := unix.NameToHandleAt(fd, "", unix.AT_EMPTY_PATH); {
	case err == nil:
		return HandlesOpen
	case err != unix.EOPNOTSUPP:
		return HandlesUnknown
	}
	if _, err := fanotify.HandleAt(fd, ""); err != nil {
		return HandlesNone
	}
	return HandlesIdentify
}

// directory is a directory on which marks are tried.
type directory struct {
	fd     int // O_PATH
	fsType string
	source string
}

// watched is a part of what fanlight watch asks for. Where one event with handles is refused, all are.
const watched = fanotify.Create | fanotify.OnDir

// form finds the richest form in which the directory can be watched.
func (d directory) form() Watch {
	refusal := d.mark(fanotify.TargetFilesystem)
	if refusal == nil {
		return Watch{Form: FormFilesystem}
	}
	w := d.explain(refusal)
	if errors.Is(refusal, unix.EXDEV) && d.fsType == "btrfs" {
		err := markTop(d.source)
		if err == nil {
			w.Form, w.Remedy = FormSubvolume, ""
			return w
		}
		w.Reason = fmt.Sprintf("%s, and its top level can't be marked: %v", w.Reason, err)
	}
	if err := d.mark(fanotify.TargetInode); err != nil {
		w = d.explain(err)
		w.Form = FormNone
		return w
	}
	w.Form = FormInodes
	return w
}

// mark tries a mark for a moment, in a group of its own that nobody reads.
func (d directory) mark(target fanotify.Target) error {
	g, err := newWatchGroup()
	if err != nil {
		return err
	}
	defer g.Close()
	return g.MarkAt(target, d.fd, ".", watched, 0)
}

// newWatchGroup makes the best group that the kernel has for watching.
func newWatchGroup() (*fanotify.Group, error) {
	g, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportDFIDNameTarget})
	if errors.Is(err, unix.EINVAL) { // before Linux 5.17
		g, err = fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportDFIDName})
	}
	return g, err
}

// explain says why a mark is refused, and what to do.
func (d directory) explain(err error) Watch {
	var w Watch
	a := refused(err)
	w.Errno, w.Reason = a.Errno, a.Reason
	if e, ok := errors.AsType[*fanotify.InitError](err); ok {
		w.Reason = e.Error()
		return w
	}
	switch {
	case errors.Is(err, unix.EOPNOTSUPP) && d.fsType == "overlay":
		w.Reason = "overlayfs opens no file handles by default"
		w.Remedy = "mount it with index=on,nfs_export=on, or watch its upper directory"
	case errors.Is(err, unix.EOPNOTSUPP):
		w.Reason = d.fsType + " can't open its file handles"
	case errors.Is(err, unix.ENODEV):
		w.Reason = d.fsType + " has no filesystem id, which handles need to be told from others"
		if strings.HasPrefix(d.fsType, "fuse") {
			w.Remedy = "watch the directory that it shows, where that is local"
		}
	case errors.Is(err, unix.EXDEV):
		w.Reason = "a btrfs subvolume refuses the mark, its top level takes it"
		w.Remedy = "mount the top level (subvolid=5) somewhere"
	case errors.Is(err, unix.EPERM):
		w.Reason = "a mark on a whole filesystem needs CAP_SYS_ADMIN"
		w.Remedy = runAsRoot
	case errors.Is(err, unix.EACCES):
		w.Reason = "no permission to read the directory"
		w.Remedy = runAsRoot
	default:
		if e, ok := errors.AsType[*fanotify.MarkError](err); ok && e.Reason != "" {
			w.Reason += ": " + e.Reason
		}
	}
	return w
}

// ask finds out whether the filesystem has permission events.
func (d directory) ask(class fanotify.Class, mask fanotify.Mask) Ability {
	if err := fanotify.Supports(fanotify.FeatureIgnore); err != nil {
		return Ability{Answer: Unknown, Reason: "only Linux 6.0 and later can be asked without a mark that could make others wait"}
	}
	g, err := fanotify.NewGroup(fanotify.Config{Class: class})
	if err != nil {
		a := refused(err)
		a.Answer = Unknown
		if errors.Is(err, unix.EPERM) {
			a.Reason, a.Remedy = "it needs CAP_SYS_ADMIN", runAsRoot
		}
		return a
	}
	defer g.Close()
	err = d.offer(g, mask)
	if err == nil || errors.Is(err, unix.EISDIR) {
		return Ability{Answer: Yes}
	}
	a := refused(err)
	switch {
	case errors.Is(err, unix.EACCES):
		a.Answer, a.Reason = Unknown, "no permission to read the directory"
	case mask == fanotify.PreAccess && fanotify.Supports(fanotify.FeaturePreAccess) != nil:
		a.Reason = "the kernel has no pre-content events: Linux 6.14 and later have"
	case fanotify.Supports(fanotify.FeaturePermission) != nil:
		a.Reason = "the kernel has no permission events"
		a.Remedy = "use one that is built with CONFIG_FANOTIFY_ACCESS_PERMISSIONS"
	case errors.Is(err, unix.EOPNOTSUPP):
		a.Reason = "this type of filesystem has none: ext4, xfs and btrfs have"
	case errors.Is(err, unix.EINVAL):
		a.Reason = d.fsType + " has none"
	}
	return a
}

// offer has the kernel look whether the filesystem has permission events, without a mark for which anybody could have
// to wait: an ignore mask that ends with a modification is refused on a directory (EISDIR), and only after that look
// (do_fanotify_mark in fs/notify/fanotify/fanotify_user.c). If a kernel took it, it would still ask nobody.
func (d directory) offer(g *fanotify.Group, mask fanotify.Mask) error {
	return g.MarkAt(fanotify.TargetInode, d.fd, ".", mask, fanotify.Ignore)
}
