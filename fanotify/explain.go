package fanotify

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// newInitError explains why the kernel made no group, with the limits as they are now.
func newInitError(c Config, err error) *InitError {
	return &InitError{Config: c, Err: err, Reason: c.explain(err)}
}

// explain says what an errno of fanotify_init(2) means for c. It follows the order of the kernel's checks
// (fanotify_init in fs/notify/fanotify/fanotify_user.c).
func (c Config) explain(err error) string {
	handles := c.Report & reportHandles
	switch err {
	case unix.ENOSYS:
		return "this kernel is built without CONFIG_FANOTIFY, or a system call filter hides it"
	case unix.EPERM:
		return c.explainPrivilege()
	case unix.EMFILE:
		fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
		if err == nil {
			unix.Close(fd)
			return "the limit of groups of this user is reached: " + raise(sysctlUserGroups, sysctlNamespaceGroups)
		}
		var limit unix.Rlimit
		unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) //nolint:errcheck // It knows RLIMIT_NOFILE.
		return fmt.Sprintf("the limit of open descriptors of this process is reached: raise RLIMIT_NOFILE (now %d)", limit.Cur)
	case unix.ENFILE:
		return "the limit of open files of the system is reached: " + raise("fs.file-max")
	case unix.EINVAL:
	default:
		return ""
	}
	switch {
	case c.Class != ClassNotif && c.Class != ClassContent && c.Class != ClassPreContent:
		return fmt.Sprintf("%s is none of class_notif, class_content, class_pre_content", c.Class)
	case c.EventFlags&unix.O_ACCMODE == unix.O_ACCMODE, c.EventFlags&^eventFlags != 0:
		return fmt.Sprintf("event flags %#x hold more than an access mode, O_APPEND, O_NONBLOCK, O_DSYNC, O_SYNC, O_NOATIME, "+
			"O_LARGEFILE, O_CLOEXEC", c.EventFlags)
	case c.Report&ReportMnt != 0 && (handles != 0 || c.Class != ClassNotif || c.Report&ReportFDError != 0):
		return "report_mnt goes with class_notif, and not with handles or report_fd_error: use a group of its own for mounts"
	case handles != 0 && c.Class != ClassNotif:
		return fmt.Sprintf("a group of %s reports descriptors, not handles: use a second group for %s", c.Class, handles)
	case handles&ReportName != 0 && handles&ReportDirFID == 0:
		return "report_name needs report_dir_fid"
	case handles&ReportTargetFID != 0 && handles != ReportDFIDNameTarget:
		return "report_target_fid needs report_fid, report_dir_fid and report_name"
	case c.Report&ReportPIDFD != 0 && c.Report&ReportTID != 0:
		return "this kernel has no pidfds of threads: choose one of report_pidfd and report_tid"
	case c.Audit:
		return "this kernel knows not all of these flags, or is built without CONFIG_AUDITSYSCALL: ask Supports"
	}
	return fmt.Sprintf("this kernel doesn't know all of %s, %s: ask Supports", c.Class, c.Report)
}

// eventFlags are the flags that fanotify_init(2) takes for the descriptors of events.
const eventFlags = unix.O_ACCMODE | unix.O_APPEND | unix.O_NONBLOCK | unix.O_SYNC | unix.O_DSYNC | unix.O_NOATIME |
	unix.O_LARGEFILE | unix.O_CLOEXEC

// explainPrivilege says which settings of c ask for which capability.
func (c Config) explainPrivilege() string {
	var privileged []string
	if c.Class != ClassNotif {
		privileged = append(privileged, c.Class.String())
	}
	if c.UnlimitedQueue {
		privileged = append(privileged, "unlimited_queue")
	}
	if c.UnlimitedMarks {
		privileged = append(privileged, "unlimited_marks")
	}
	if r := c.Report & (ReportPIDFD | ReportTID | ReportFDError); r != 0 {
		privileged = append(privileged, strings.Split(r.String(), "|")...)
	}
	if c.Report&(reportHandles|ReportMnt) == 0 {
		privileged = append(privileged, "events without handles")
	}
	const wayOut = "without it, groups that report handles may mark files and directories"
	switch {
	case len(privileged) > 0 && c.Audit:
		return fmt.Sprintf("needs CAP_SYS_ADMIN in the initial user namespace for %s, and CAP_AUDIT_WRITE for audit: %s",
			strings.Join(privileged, ", "), wayOut)
	case len(privileged) > 0:
		return fmt.Sprintf("needs CAP_SYS_ADMIN in the initial user namespace for %s: %s",
			strings.Join(privileged, ", "), wayOut)
	case c.Audit:
		return "needs CAP_AUDIT_WRITE for audit"
	}
	return "before Linux 5.13 every group needs CAP_SYS_ADMIN"
}

// Bits of marks that the kernel ties to something.
const (
	direntEvents = Create | Delete | Move | Rename // on a directory about its entries
	// handleEvents come with handles only, and from an inode or the whole filesystem, not from a mount.
	handleEvents = Attrib | direntEvents | DeleteSelf | MoveSelf | FSError
	mountEvents  = MntAttach | MntDetach
	// strictBits make sense for a directory only; some marks insist on it.
	strictBits = direntEvents | OnDir | EventOnChild
	knownBits  = Access | Modify | Close | Open | OpenExec | handleEvents | permissionEvents | mountEvents |
		Overflow | OnDir | EventOnChild
	knownFlags  = DontFollow | OnlyDir | Ignore | IgnoredMask | IgnoredSurvModify | Evictable | Unverified
	ignoreFlags = Ignore | IgnoredMask
)

// explain says what an errno of fanotify_mark(2) means for e.
func (e *MarkError) explain() string {
	handles := e.config.Report&reportHandles != 0
	inode := e.Target == TargetInode
	switch e.Err {
	case unix.EINVAL:
		return e.explainInvalid(handles)
	case unix.ENOSYS:
		return "this kernel is built without CONFIG_FANOTIFY"
	case unix.EPERM:
		if inode {
			return "a security module refuses"
		}
		return fmt.Sprintf("a %s mark needs CAP_SYS_ADMIN in the user namespace that owns it: inode marks do without", e.Target)
	case unix.EMFILE, unix.ENFILE:
		return "an ignore mask is set and looked for with a descriptor: raise RLIMIT_NOFILE, or use ignored_surv_modify"
	case unix.ETXTBSY:
		return "the ignore mask isn't there: it doesn't hold while the file is open for writing, and ends when it is modified: " +
			"try again, or use ignored_surv_modify"
	case unix.EACCES:
		return "a mark needs permission to read the object and to search the way to it"
	case unix.EBADF:
		if e.Path == "" {
			return "an open descriptor is needed that is not O_PATH"
		}
		return fmt.Sprintf("the path is relative to descriptor %d, which is not an open directory", e.dirfd)
	case unix.ENOENT:
		return e.explainMissing()
	case unix.ENOTDIR:
		switch {
		case unix.Fstatat(e.dirfd, e.Path, new(unix.Stat_t), unix.AT_SYMLINK_NOFOLLOW) == unix.ENOTDIR:
			return "the way to it leads through a file"
		case e.Flags&OnlyDir != 0:
			return "onlydir asks for a directory"
		}
		return fmt.Sprintf("%s are for directories, which this mark insists on", e.Mask&strictBits)
	case unix.EISDIR:
		return "the ignore mask of a directory has to survive modification: use ignore|ignored_surv_modify"
	case unix.EEXIST:
		switch {
		case e.Flags&Evictable != 0:
			return "the object has a mark that is not evictable: unmark it first"
		case e.Flags&IgnoredMask != 0:
			return "the mark's ignore mask was set with ignore: use that, or unmark it first"
		case e.Flags&Ignore != 0:
			return "the mark's ignore mask survives modification: use ignore|ignored_surv_modify, or unmark it first"
		}
		return "pre_access and ondir exclude each other on one mark: unmark the other first"
	case unix.ENOSPC:
		return "the limit of marks of this user is reached: " + raise(sysctlUserMarks, sysctlNamespaceMarks)
	case unix.ENODEV:
		if handles && !inode {
			return e.fsType() + " has no filesystem id to report: use inode marks, or a group without handles"
		}
	case unix.EXDEV:
		if !inode {
			return e.fsType() + ": a subvolume's filesystem id is not the filesystem's: mark a mount of the top level " +
				"(subvolid=5), or use inode marks or a group without handles"
		}
		return e.fsType() + ": handles of filesystems without an id of their own (FUSE, btrfs subvolumes) can't be told " +
			"from others: use a group for this filesystem alone"
	case unix.EOPNOTSUPP:
		return e.explainUnsupported(inode)
	}
	return ""
}

func (e *MarkError) explainMissing() string {
	err := unix.Fstatat(e.dirfd, e.Path, new(unix.Stat_t), unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case e.Path == "":
		return "the path is empty"
	case err != nil:
		return ""
	case e.Op == opUnmark:
		return "there is no such mark in this group: it was never set, or ended with its object or by eviction"
	}
	return "the symbolic link leads nowhere: dont_follow marks the link itself"
}

func (e *MarkError) explainUnsupported(inode bool) string {
	fsType := e.fsType()
	switch {
	case e.Mask&PreAccess != 0:
		return fsType + " has no pre-content events: ext4, xfs and btrfs have"
	case inode:
		return fsType + " has no file handles: use a group without handles"
	case fsType == "overlay":
		return fsType + " can't open its file handles: use inode marks, mount it with index=on,nfs_export=on, or mark the " +
			"filesystem below"
	}
	return fsType + " can't open its file handles: use inode marks, or a group without handles"
}

// explainInvalid says what EINVAL means. It follows the order of the kernel's checks (do_fanotify_mark,
// fanotify_events_supported and fanotify_may_update_existing_mark in fs/notify/fanotify/fanotify_user.c).
func (e *MarkError) explainInvalid(handles bool) string {
	class, report := e.config.Class, e.config.Report
	switch {
	case strings.IndexByte(e.Path, 0) >= 0:
		return "no path holds a NUL"
	case e.Target != TargetInode && e.Target != TargetMount && e.Target != TargetFilesystem && e.Target != TargetMountNamespace:
		return "the target is none of inode, mount, filesystem, mntns"
	case e.Flags&^knownFlags != 0:
		return fmt.Sprintf("unknown flags: %s", e.Flags&^knownFlags)
	case e.Mask == 0 && e.Op != opFlush:
		return "the mask is empty: name an event"
	case e.Mask&^knownBits != 0:
		return fmt.Sprintf("unknown events: %s", e.Mask&^knownBits)
	case e.Mask&Overflow != 0:
		return "overflow comes unasked and can't be in a mask"
	case e.Flags&ignoreFlags == ignoreFlags:
		return "ignore and ignored_mask exclude each other"

	case report&ReportMnt != 0 && e.Target != TargetMountNamespace:
		return "a group with report_mnt has mntns marks only"
	case report&ReportMnt != 0 && e.Mask&^mountEvents != 0:
		return fmt.Sprintf("a group with report_mnt has no %s, only mnt_attach and mnt_detach", e.Mask&^mountEvents)
	case report&ReportMnt == 0 && (e.Target == TargetMountNamespace || e.Mask&mountEvents != 0):
		return "mount namespaces need a group with report_mnt"

	case e.Mask&permissionEvents != 0 && class == ClassNotif:
		return fmt.Sprintf("%s needs a group of class_content or class_pre_content", e.Mask&permissionEvents)
	case e.Mask&PreAccess != 0 && class != ClassPreContent:
		return "pre_access needs a group of class_pre_content"
	case e.Mask&handleEvents != 0 && !handles:
		return fmt.Sprintf("%s needs a group that reports handles (report_fid, report_dir_fid)", e.Mask&handleEvents)
	case e.Mask&FSError != 0 && e.Target != TargetFilesystem:
		return "fs_error needs a filesystem mark"
	case e.Flags&Evictable != 0 && e.Target != TargetInode:
		return "only inode marks are evictable"
	case e.Mask&handleEvents != 0 && e.Target == TargetMount:
		return fmt.Sprintf("a mount mark has no %s: mark the filesystem, or inodes", e.Mask&handleEvents)
	case e.Mask&Rename != 0 && report&ReportName == 0:
		return "rename needs a group with report_name"
	case e.Mask&(PreAccess|OnDir) == PreAccess|OnDir:
		return "pre_access and ondir exclude each other"

	case e.Target == TargetMountNamespace:
		return "not a mount namespace: mark /proc/PID/ns/mnt, and without dont_follow"
	case e.Flags&IgnoreSurv == Ignore && e.Target != TargetInode:
		return fmt.Sprintf("the ignore mask of a %s mark has to survive modification: use ignore|ignored_surv_modify", e.Target)
	case e.Mask&permissionEvents != 0:
		return e.fsType() + " has no " + (e.Mask & permissionEvents).String() + ", or the object is neither file nor directory, " +
			"or the kernel is built without CONFIG_FANOTIFY_ACCESS_PERMISSIONS"
	case e.Target != TargetInode:
		return "a filesystem inside the kernel (pipe, socket, memfd) has inode marks only, or this kernel is too old: ask Supports"
	}
	return "this kernel is too old for these events or flags: ask Supports"
}

// fsType returns the name of the type of the filesystem that the object of e is on.
func (e *MarkError) fsType() string {
	fd := e.dirfd
	if e.Path != "" {
		flags := unix.O_PATH | unix.O_CLOEXEC
		if e.Flags&DontFollow != 0 {
			flags |= unix.O_NOFOLLOW
		}
		var err error
		if fd, err = unix.Openat(e.dirfd, e.Path, flags, 0); err != nil {
			return "the filesystem"
		}
		defer unix.Close(fd)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return "the filesystem"
	}
	if name, ok := fsTypes[uint32(fs.Type)]; ok {
		return name
	}
	return fmt.Sprintf("the filesystem (type %#x)", uint32(fs.Type))
}

// fsTypes has the names, as in mount(8), of the filesystem types that refuse something, by their f_type (statfs(2)).
var fsTypes = map[uint32]string{
	unix.AUTOFS_SUPER_MAGIC:    "autofs",
	unix.BINFMTFS_MAGIC:        "binfmt_misc",
	unix.BPF_FS_MAGIC:          "bpf",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.CGROUP2_SUPER_MAGIC:   "cgroup2",
	unix.DEBUGFS_MAGIC:         "debugfs",
	unix.DEVPTS_SUPER_MAGIC:    "devpts",
	unix.EXT4_SUPER_MAGIC:      "ext4",
	unix.FUSE_SUPER_MAGIC:      "fuse",
	unix.HUGETLBFS_MAGIC:       "hugetlbfs",
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.NSFS_MAGIC:            "nsfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.PROC_SUPER_MAGIC:      "proc",
	unix.PSTOREFS_MAGIC:        "pstore",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.SECURITYFS_MAGIC:      "securityfs",
	unix.SMB2_SUPER_MAGIC:      "smb",
	unix.SQUASHFS_MAGIC:        "squashfs",
	unix.SYSFS_MAGIC:           "sysfs",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.TRACEFS_MAGIC:         "tracefs",
	unix.V9FS_MAGIC:            "9p",
	unix.XFS_SUPER_MAGIC:       "xfs",
	0x19800202:                 "mqueue", // MQUEUE_MAGIC in ipc/mqueue.c
}
