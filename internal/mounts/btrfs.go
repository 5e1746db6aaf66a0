package mounts

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// BtrfsTop mounts the top level of the btrfs on a device where nobody sees it, and returns a descriptor of that (O_PATH)
// for the caller to close: the mount ends with it. The filesystem has to be mounted already, so that nothing is read but
// its tree of subvolumes (since Linux 5.2; fsopen(2), CAP_SYS_ADMIN).
func BtrfsTop(device string) (int, error) {
	top, err := btrfsTop(device, false)
	if errors.Is(err, unix.EBUSY) {
		top, err = btrfsTop(device, true) // a filesystem that is mounted read-only must be so each time
	}
	return top, err
}

func btrfsTop(device string, readOnly bool) (int, error) {
	fs, err := unix.Fsopen("btrfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	err = unix.FsconfigSetString(fs, "source", device)
	if err == nil {
		err = unix.FsconfigSetString(fs, "subvolid", "5")
	}
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
