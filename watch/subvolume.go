package watch

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/mounts"
)

// The kernel refuses to mark a btrfs through one of its subvolumes, and takes the same mark through the top level. That
// is rarely mounted. So it is mounted for a moment, where nobody sees it: the mark stays on the filesystem. Events from
// all subvolumes then carry the top level's id.

// sameBtrfs reports whether two ids, as statfs(2) tells them, are those of subvolumes of one btrfs: they differ in the
// bits of the subvolume's number, the lower 32 of which are in the second half (btrfs_statfs in fs/btrfs/super.c).
func sameBtrfs(a, b fanotify.FSID) bool { return [4]byte(a[:4]) == [4]byte(b[:4]) }

// markTop marks the btrfs that a place in a subvolume belongs to. Where the top level can't be mounted, the error is the
// refusal that led here, and says why.
func (p *plan) markTop(at *place, refusal error) error {
	top, err := mountTop(at.mount.Device)
	if err != nil {
		return fmt.Errorf("%w (its top level can't be mounted: %w)", refusal, err)
	}
	defer unix.Close(top)
	if err := p.group.MarkAt(fanotify.TargetFilesystem, top, ".", p.mask, 0); err != nil {
		return err
	}
	h, err := fanotify.HandleAt(top, "")
	if err != nil {
		return rootError(at.path, err)
	}
	at.form.kind, at.form.reason, at.form.id = FormSubvolume, refusal, h.FSID()
	return nil
}

// unmarkTop takes the mark of markTop away.
func (p *plan) unmarkTop(at place) {
	if top, err := mountTop(at.mount.Device); err == nil {
		_ = p.group.UnmarkAt(fanotify.TargetFilesystem, top, ".", p.mask, 0)
		unix.Close(top)
	}
}

// mountTop mounts the top level of a btrfs, detached: the mount ends with the descriptor (O_PATH) that is returned.
func mountTop(of mounts.Device) (int, error) {
	device, err := mounts.Source(of)
	if err != nil {
		return -1, err
	}
	top, err := mountTopAs(device, false)
	if errors.Is(err, unix.EBUSY) {
		top, err = mountTopAs(device, true) // a filesystem that is mounted read-only must be so each time
	}
	return top, err
}

func mountTopAs(device string, readOnly bool) (int, error) {
	fs, err := unix.Fsopen("btrfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", device); err != nil {
		return -1, fmt.Errorf("fsconfig source %s: %w", device, err)
	}
	if err := unix.FsconfigSetString(fs, "subvolid", "5"); err != nil {
		return -1, fmt.Errorf("fsconfig subvolid: %w", err)
	}
	if readOnly {
		if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
			return -1, fmt.Errorf("fsconfig ro: %w", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("fsconfig create %s: %w", device, err)
	}
	top, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return -1, fmt.Errorf("fsmount %s: %w", device, err)
	}
	return top, nil
}
