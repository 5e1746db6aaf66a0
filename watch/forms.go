package watch

import (
	"errors"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
)

// Form is how a filesystem is watched.
type Form string

// The forms, the richest first.
const (
	// FormFilesystem is one mark on the filesystem, whatever its size.
	FormFilesystem Form = "filesystem"
	// FormSubvolume is the same on a btrfs of which a subvolume is to be watched, through its top level.
	FormSubvolume Form = "subvolume"
	// FormInodes is a mark on each directory, which are followed as they are made, moved and removed. Every directory
	// is in memory, about 200 bytes here and 1 KiB in the kernel, and is walked at the start.
	FormInodes Form = "inodes"
)

// Unseen is something that a form of watching can't see.
type Unseen string

// What can't be seen.
const (
	// UnseenNew is what came and went in a new directory before it had its mark, and who made what was found in it:
	// that comes as create with Found, and without a process.
	UnseenNew Unseen = "new_directories"
	// UnseenBorder is the other side of a rename into or out of what is watched.
	UnseenBorder Unseen = "other_side"
	// UnseenSelf are delete_self and move_self of files; those of directories are seen.
	UnseenSelf Unseen = "self_events"
	// UnseenProcesses are the processes of events, other than this one's own.
	UnseenProcesses Unseen = "processes"
	// UnseenErrors are fs_error events, where they are asked for and the filesystem can't be marked for them.
	UnseenErrors Unseen = "errors"
	// UnseenBehind is what changes a filesystem without this kernel's files: the server of a network filesystem or of
	// FUSE, and for overlayfs who writes to its layers.
	UnseenBehind Unseen = "behind"
)

// unseenByInodes returns what can't be seen of a place whose directories are marked.
func unseenByInodes(at place, unprivileged bool) []Unseen {
	unseen := []Unseen{UnseenNew, UnseenBorder, UnseenSelf}
	if unprivileged {
		unseen = append(unseen, UnseenProcesses)
	}
	return append(unseen, unseenBehind(at.mount.FSType)...)
}

func unseenBehind(fsType string) []Unseen {
	kind, _, _ := strings.Cut(fsType, ".")
	if slices.Contains([]string{"fuse", "fuseblk", "overlay", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "virtiofs"}, kind) {
		return []Unseen{UnseenBehind}
	}
	return nil
}

// Coverage is one filesystem under the roots: how it is watched, or why not.
type Coverage struct {
	Root       string // the root that was asked for, or the mount point that was found below one
	MountPoint string // where the filesystem is mounted
	FSType     string // such as "ext4"
	Namespace  uint64 // the mount namespace in which these are such, if it is not the own one; see event.Event
	Err        error  // why it is not watched; nil when it is

	Form   Form     // how it is watched
	Reason error    // why not in a richer form; nil for the richest
	Unseen []Unseen // what this form can't see; shared, not to be changed

	// With FormInodes: how many directories have marks, and how many should have one and could not be marked, so that
	// what happens in them, or below them, isn't seen; and for what reason the first of those.
	Marked, Missed int
	MissedReason   error
}

// form is how a place is watched.
type form struct {
	kind   Form
	reason error
	unseen []Unseen
	id     fanotify.FSID // of a btrfs in events, with FormSubvolume
	inodes *inodes       // with FormInodes
	part   *part         // the reader of its own that watches it; nil without one
}

// coverage is what is known about a place, with its form, from which the counts come.
type coverage struct {
	Coverage
	form *form // nil when it isn't watched
}

// now returns the coverage with the counts as they are.
func (c coverage) now() Coverage {
	now := c.Coverage
	if c.form == nil {
		return now
	}
	now.Form, now.Reason, now.Unseen = c.form.kind, c.form.reason, c.form.unseen
	if in := c.form.inodes; in != nil {
		now.Marked, now.Missed = int(in.marked.Load()), int(in.missed.Load())
		if reason := in.reason.Load(); now.Missed > 0 && reason != nil {
			now.MissedReason = *reason
		}
	}
	return now
}

// needsInodes reports whether a filesystem that refuses a mark of its own for this error may have marks on its
// directories: because its handles can't be opened (EOPNOTSUPP), because it has no id (ENODEV), because it is a part
// that has an id of its own (EXDEV), or for want of privilege.
func needsInodes(err error) bool {
	return slices.ContainsFunc([]unix.Errno{unix.EOPNOTSUPP, unix.ENODEV, unix.EXDEV, unix.EPERM}, func(errno unix.Errno) bool {
		return errors.Is(err, errno)
	})
}

// weak reports whether the kernel takes the id of a place's filesystem for weak. Marks on such a one go with no others
// in a group (EXDEV in fanotify_mark(2)): the id is zero, or perhaps a btrfs subvolume's.
func (at place) weak() bool { return at.id() == fanotify.FSID{} || at.mount.FSType == "btrfs" }

// markInodes marks the directories of a place, with a reader of their own where that must be.
func (p *plan) markInodes(at *place) error {
	if err := at.identify(); err != nil {
		return err
	}
	if at.weak() || p.twin(*at) != nil {
		return p.apart(at)
	}
	return p.takeInodes(at)
}

// takeInodes marks the directories of a place in this group.
func (p *plan) takeInodes(at *place) error {
	if fs := p.tree.systems[at.id()]; fs != nil && fs.inodes != nil {
		at.form.inodes = fs.inodes // of another place on it
	} else {
		at.form.inodes = &inodes{group: p.group, mask: p.mask | fanotify.DeleteSelf | fanotify.EventOnChild, budget: p.budget}
	}
	if err := p.tree.plant(*at, p.stateOf()); err != nil {
		return err
	}
	return p.tree.prime(*at)
}

// identify finds the handles of a place.
func (at *place) identify() (err error) {
	if at.top, err = at.handleAt(at.mount.Point); err == nil && at.isDir {
		if at.handle, err = at.handleAt(at.path); errors.Is(err, unix.ENOENT) {
			err = nil
		}
	}
	return err
}

// twin returns a place in this group on another filesystem with the same id.
func (p *plan) twin(at place) *place {
	i := slices.IndexFunc(p.places, func(old place) bool {
		return !old.apart() && old.id() == at.id() && old.mount.Device != at.mount.Device
	})
	if i < 0 {
		return nil
	}
	return &p.places[i]
}
