// Package mounts lists what is mounted in this mount namespace.
package mounts

import (
	"fmt"
	"os"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Mount is one mount (proc_pid_mountinfo(5)).
type Mount struct {
	ID     int
	Device Device // of the filesystem; all mounts and subvolumes of it have the same
	Root   string // the directory of the filesystem that is mounted
	Point  string // where it is mounted
	FSType string // such as "ext4" or "fuse.sshfs"
	Source string // what is mounted, such as "/dev/sda1", as whoever mounted it wrote it
}

// Device is a device number as mountinfo shows it.
type Device struct{ Major, Minor int }

// List returns the mounts in the order of mounting: a later mount covers an earlier one at the same point.
func List() ([]Mount, error) {
	infos, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	mounts := make([]Mount, len(infos))
	for i, info := range infos {
		mounts[i] = Mount{info.ID, Device{info.Major, info.Minor}, info.Root, info.Mountpoint, info.FSType, info.Source}
	}
	return mounts, nil
}

// IDAt returns the mount that path leads to, by the ID of Mount. A symbolic link is followed.
func IDAt(path string) (int, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &st); err != nil {
		return 0, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return int(st.Mnt_id), nil
}

// Below reports whether path is dir or below it. Both are absolute and clean.
func Below(path, dir string) bool {
	return dir == "/" || path == dir || strings.HasPrefix(path, dir) && path[len(dir)] == '/'
}

// Pseudo reports whether a filesystem of this type holds no files of users: the kernel makes up what is in it.
func Pseudo(fsType string) bool {
	switch fsType {
	case "autofs", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "cpuset", "debugfs", "devpts",
		"devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue", "nfsd", "nsfs", "proc", "pstore", "resctrl",
		"rpc_pipefs", "securityfs", "selinuxfs", "smackfs", "sysfs", "tracefs":
		return true
	}
	return false
}
