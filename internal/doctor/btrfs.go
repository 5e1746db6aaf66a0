package doctor

import (
	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/mounts"
)

// markTop tries a mark on a btrfs through its top level, which is mounted for that where nobody sees it.
func markTop(device string) error {
	top, err := mounts.BtrfsTop(device)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	return directory{fd: top}.mark(fanotify.TargetFilesystem)
}
