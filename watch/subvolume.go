package watch

import (
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
	return mounts.BtrfsTop(device)
}
