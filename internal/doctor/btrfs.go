package doctor

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
)

// markTop tries a mark on a btrfs through its top level, which is mounted for that where nobody sees it.
func markTop(device string) error {
	top, err := mountTop(device, false)
	if errors.Is(err, unix.EBUSY) {
		top, err = mountTop(device, true) // a filesystem that is mounted read-only must be so each time
	}
	if err != nil {
		return err
	}
	defer unix.Close(top)
	return directory{fd: top}.mark(fanotify.TargetFilesystem)
}

// mountTop returns a detached mount (O_PATH) of the top level of the btrfs on a device, which ends with it.
func mountTop(device string, readOnly bool) (int, error) {
	fs, err := unix.Fsopen("btrfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	err = errors.Join(unix.FsconfigSetString(fs, "source", device), unix.FsconfigSetString(fs, "subvolid", "5"))
	if err == nil && readOnly {
		err = unix.FsconfigSetFlag(fs, "ro")
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return -1, fmt.Errorf("fsconfig %s: %w", device, err)
	}
	top, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return -1, fmt.Errorf("fsmount %s: %w", device, err)
	}
	return top, nil
}
