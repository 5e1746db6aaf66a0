package fanotify

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Feature is something that not every kernel's fanotify can do. Its value is its name.
type Feature string

// The features, each with the Linux version that brought it; distributions carry some back.
const (
	FeatureTID                Feature = "report_tid"          // ReportTID (4.20)
	FeatureFID                Feature = "report_fid"          // ReportFID, and the events that come with handles (5.1)
	FeatureDirFID             Feature = "report_dir_fid"      // ReportDirFID (5.9)
	FeatureName               Feature = "report_name"         // ReportDFIDName (5.9)
	FeatureTargetFID          Feature = "report_target_fid"   // ReportDFIDNameTarget (5.17)
	FeaturePIDFD              Feature = "report_pidfd"        // ReportPIDFD (5.15)
	FeatureThreadPIDFD        Feature = "report_pidfd_tid"    // ReportPIDFD with ReportTID (7.2)
	FeatureFDError            Feature = "report_fd_error"     // ReportFDError (6.13)
	FeatureMnt                Feature = "report_mnt"          // ReportMnt and TargetMountNamespace (6.15)
	FeatureAudit              Feature = "audit"               // Config.Audit (4.15 with CONFIG_AUDITSYSCALL)
	FeatureUnprivileged       Feature = "unprivileged"        // groups without CAP_SYS_ADMIN (5.13)
	FeaturePermission         Feature = "permission_events"   // OpenPerm, AccessPerm (CONFIG_FANOTIFY_ACCESS_PERMISSIONS)
	FeatureOpenExecPerm       Feature = "open_exec_perm"      // OpenExecPerm (5.0)
	FeaturePreAccess          Feature = "pre_access"          // PreAccess and errnos as answers (6.14)
	FeatureAuditRule          Feature = "audit_rule"          // Response.Rule (6.3)
	FeatureOpenExec           Feature = "open_exec"           // OpenExec (5.0)
	FeatureFSError            Feature = "fs_error"            // FSError (5.16)
	FeatureRename             Feature = "rename"              // Rename (5.17)
	FeatureFilesystemMark     Feature = "filesystem_mark"     // TargetFilesystem (4.20)
	FeatureEvictable          Feature = "evictable"           // Evictable (5.19)
	FeatureIgnore             Feature = "ignore"              // Ignore (6.0)
	FeatureIdentifyingHandles Feature = "identifying_handles" // HandleAt where handles can't be opened (6.5)
	FeatureStatMount          Feature = "statmount"           // StatMount, ListMounts, MountIDAt (6.8)
)

// probe is a group to make and, unless mask is 0, a mark that it should take, or an answer.
type probe struct {
	config Config
	target Target
	mask   Mask
	flags  MarkFlags
	answer *Response // to nobody; nil for none
}

// probes say how to try each feature that is a group or a mark.
var probes = map[Feature]probe{
	FeatureTID:            {config: Config{Report: ReportTID}},
	FeatureFID:            {config: Config{Report: ReportFID}, target: TargetInode, mask: Attrib | Create | DeleteSelf},
	FeatureDirFID:         {config: Config{Report: ReportDirFID}},
	FeatureName:           {config: Config{Report: ReportDFIDName}},
	FeatureTargetFID:      {config: Config{Report: ReportDFIDNameTarget}},
	FeaturePIDFD:          {config: Config{Report: ReportPIDFD}},
	FeatureThreadPIDFD:    {config: Config{Report: ReportPIDFD | ReportTID}},
	FeatureFDError:        {config: Config{Report: ReportFDError}},
	FeatureMnt:            {config: Config{Report: ReportMnt}, target: TargetMountNamespace, mask: MntAttach},
	FeatureAudit:          {config: Config{Audit: true}},
	FeatureAuditRule:      {config: Config{Report: ReportFID}, answer: &Response{Rule: new(AuditRule)}},
	FeaturePermission:     {config: Config{Class: ClassContent}, target: TargetInode, mask: OpenPerm | AccessPerm},
	FeatureOpenExecPerm:   {config: Config{Class: ClassContent}, target: TargetInode, mask: OpenExecPerm},
	FeaturePreAccess:      {config: Config{Class: ClassPreContent}, target: TargetInode, mask: PreAccess},
	FeatureOpenExec:       {config: Config{}, target: TargetInode, mask: OpenExec},
	FeatureFSError:        {config: Config{Report: ReportFID}, target: TargetFilesystem, mask: FSError},
	FeatureRename:         {config: Config{Report: ReportDFIDName}, target: TargetInode, mask: Rename},
	FeatureFilesystemMark: {config: Config{}, target: TargetFilesystem, mask: Open},
	FeatureEvictable:      {config: Config{Report: ReportFID}, target: TargetInode, mask: Open, flags: Evictable},
	FeatureIgnore:         {config: Config{Report: ReportFID}, target: TargetInode, mask: Open, flags: IgnoreSurv},
}

// Features returns all features, sorted by name.
func Features() []Feature {
	all := []Feature{FeatureUnprivileged, FeatureIdentifyingHandles, FeatureStatMount}
	for f := range probes {
		all = append(all, f)
	}
	slices.Sort(all)
	return all
}

// conclusive remembers what the kernel said of a feature: it will not say otherwise.
var conclusive sync.Map // of error by Feature

// Supports says whether the running kernel has a feature, by trying it, never by the version. The answer is about the
// kernel; whether this process may use it is another matter.
//
// It returns nil when the kernel has it and an error that is errors.ErrUnsupported when it doesn't. Any other error is
// inconclusive: the kernel refuses to tell, for want of privilege (EPERM) or of a free group (EMFILE). Nothing is
// marked, so it can't be noticed from outside, except that for a moment there is one group more.
func Supports(f Feature) error {
	if answer, ok := conclusive.Load(f); ok {
		err, _ := answer.(error)
		return err
	}
	err := f.try()
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		err = fmt.Errorf("fanotify feature %s: %w by this kernel", f, errors.ErrUnsupported)
	case err != nil:
		return fmt.Errorf("fanotify feature %s: can't be tried: %w", f, err)
	}
	conclusive.Store(f, err)
	return err
}

// noMount is the id of no mount: the kernel counts from 2^31, and will not come so far.
const noMount = 1 << 62

// try returns nil if the kernel knows the feature, EINVAL if it doesn't, or another errno.
func (f Feature) try() error {
	switch f {
	case FeatureUnprivileged:
		err := withoutAdmin(probe{config: Config{Report: ReportFID}}.try)
		if err == unix.EPERM { // to all who lack the privilege
			return unix.EINVAL
		}
		return err
	case FeatureIdentifyingHandles:
		_, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/", atHandleFID)
		if err == unix.EOPNOTSUPP { // the root's filesystem has none, but the flag is known
			return nil
		}
		return err
	case FeatureStatMount:
		_, err := StatMount(OwnNamespace, noMount)
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return err
	}
	p, ok := probes[f]
	if !ok {
		return errors.New("no such feature")
	}
	return p.try()
}

func (p probe) try() error {
	fd, err := unix.FanotifyInit(p.config.initFlags(), unix.O_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if p.answer != nil { // the kernel takes it for nobody's request if it knows its parts
		_, err := unix.Write(fd, p.answer.append(nil, unix.FAN_NOFD))
		return err
	}
	if p.mask == 0 {
		return nil
	}
	// The kernel checks all bits before it looks at the object: with none, a mark that it knows is refused by EBADF.
	err = unix.FanotifyMark(fd, unix.FAN_MARK_ADD|uint(p.target)|uint(p.flags), uint64(p.mask), -1, "")
	if err == unix.EBADF {
		return nil
	}
	return err
}

// withoutAdmin runs try on a thread that has no CAP_SYS_ADMIN for the moment.
func withoutAdmin(try func() error) error {
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var own [2]unix.CapUserData
	err := unix.Capget(&header, &own[0])
	if err == nil {
		less := own
		less[unix.CAP_SYS_ADMIN/32].Effective &^= 1 << (unix.CAP_SYS_ADMIN % 32)
		err = unix.Capset(&header, &less[0])
	}
	if err == nil {
		err = try()
		if unix.Capset(&header, &own[0]) != nil {
			return err // the thread stays locked and ends with its goroutine
		}
	}
	runtime.UnlockOSThread()
	return err
}
