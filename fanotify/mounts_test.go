package fanotify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

const ownMountNamespace = "/proc/self/ns/mnt"

// watchMounts returns a group that reports what is mounted and unmounted in the tests' own namespace.
func watchMounts(t *testing.T) *Group {
	t.Helper()
	fstest.NeedKernel(t, Supports(FeatureMnt))
	fstest.NeedKernel(t, Supports(FeatureStatMount))
	g := newGroup(t, Config{Report: ReportMnt})
	mark(t, g, TargetMountNamespace, ownMountNamespace, MntAttach|MntDetach, 0)
	return g
}

// mountAt returns the mount that path leads to.
func mountAt(t *testing.T, path string) Mount {
	t.Helper()
	id, err := MountIDAt(unix.AT_FDCWD, path)
	check(t, err)
	m, err := StatMount(OwnNamespace, id)
	check(t, err)
	return m
}

// TestMountsInTheirLife follows mounts by their events and asks for each what the event doesn't say. The mounts are
// named by the directories that they are on.
//
// Proves FAN_REPORT_MNT, FAN_MNT_ATTACH, FAN_MNT_DETACH.
func TestMountsInTheirLife(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a", "b", "moved", "tree", "peer"} {
		mkdir(t, at(name))
	}
	mkdir(t, at("a"), "inside")
	// What moves must not be below a shared mount; ours is private.
	mount := func(source, target string, flags uintptr) func() error {
		return func() error { return unix.Mount(source, target, "tmpfs", flags, "") }
	}
	unmount := func(name string, flags int) func() error {
		return func() error { return unix.Unmount(at(name), flags) }
	}
	names := map[uint64]string{} // of the mounts that were attached, as the step says
	g := watchMounts(t)
	for _, step := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"mount", mount("tmpfs", at("a"), 0), []string{"mnt_attach a"}},
		{"remount", mount("", at("a"), unix.MS_REMOUNT|unix.MS_RDONLY), nil},
		{"bind", mount(at("tree"), at("b"), unix.MS_BIND), []string{"mnt_attach b"}},
		{"remount the bind mount", mount("", at("b"), unix.MS_REMOUNT|unix.MS_BIND|unix.MS_NOEXEC), nil},
		{"move", mount(at("b"), at("moved"), unix.MS_MOVE), []string{"mnt_attach|mnt_detach moved"}},
		{"unmount what moved", unmount("moved", 0), []string{"mnt_detach moved"}},
		{"unmount", unmount("a", 0), []string{"mnt_detach a"}},

		{"mount a tree", mount("tmpfs", at("tree"), 0), []string{"mnt_attach tree"}},
		{"make it shared", mount("", at("tree"), unix.MS_SHARED), nil},
		{"bind its peer", mount(at("tree"), at("peer"), unix.MS_BIND), []string{"mnt_attach peer"}},
		{"make a directory", func() error { return os.Mkdir(at("tree/x"), 0o755) }, nil},
		{"mount for both", mount("tmpfs", at("tree/x"), 0), []string{"mnt_attach peer/x", "mnt_attach tree/x"}},
		{"unmount for both", unmount("peer/x", 0), []string{"mnt_detach peer/x", "mnt_detach tree/x"}},
		{"mount for both again", mount("tmpfs", at("peer/x"), 0), []string{"mnt_attach peer/x", "mnt_attach tree/x"}},
		{"unmount the peer alone", mount("", at("peer"), unix.MS_PRIVATE), nil},
		{"unmount lazily", unmount("tree", unix.MNT_DETACH), []string{"mnt_detach tree", "mnt_detach tree/x"}},
		{"unmount the rest lazily", unmount("peer", unix.MNT_DETACH), []string{"mnt_detach peer", "mnt_detach peer/x"}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		got := queued(t, g, func(e *Event) string {
			id, ok := e.MountID()
			m, err := StatMount(OwnNamespace, id)
			switch {
			case !ok || e.Mask&MntAttach != 0 && err != nil:
				t.Errorf("%s: %v", step.what, err)
			case e.Mask&MntAttach != 0:
				names[id] = strings.TrimPrefix(m.Point, dir+"/")
				if here := mountAt(t, m.Point); here.ID != id || m.ID != id {
					t.Errorf("%s: mount %d, event of %d", step.what, here.ID, id)
				}
			case !errors.Is(err, unix.ENOENT):
				t.Errorf("%s: of a mount that is gone: %+v, %v", step.what, m, err)
			}
			return e.Mask.String() + " " + names[id]
		})
		slices.Sort(got)
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s: %s", step.what, diff)
		}
	}
}

// TestStatMount compares with /proc/self/mountinfo, statfs(2) and what was asked for.
//
// Proves statmount.
func TestStatMount(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureStatMount))
	odd := mkdir(t, fstest.New(t, fstest.Tmpfs, "size=1m"), "a b,c\nd\\e\xff")
	for _, name := range []string{"lower", "upper", "work", "on"} {
		mkdir(t, odd, name)
	}
	escaped := strings.NewReplacer(`\`, `\\`, ",", `\,`).Replace(odd)
	source := strings.Repeat("so\nur,ce ", 400) // so that not all of it fits into the first buffer
	on := filepath.Join(odd, "on")
	check(t, unix.Mount(source, on, "overlay", unix.MS_NOEXEC,
		fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", escaped)))
	t.Cleanup(func() { check(t, unix.Unmount(on, 0)) })
	sub := mkdir(t, on, "sub")
	fstest.Bind(t, sub, mkdir(t, on, "target"))
	target := filepath.Join(on, "target")

	infos, err := mountinfo.GetMounts(nil)
	check(t, err)
	byID := map[int]*mountinfo.Info{}
	for _, info := range infos {
		byID[info.ID] = info
	}
	namespace, err := MountNamespaceID(ownMountNamespace)
	check(t, err)
	overlay, bind := mountAt(t, on), mountAt(t, target)
	for _, tt := range []struct {
		m           Mount
		root, point string
		attributes  uint64
	}{
		{overlay, "/", on, unix.MOUNT_ATTR_NOEXEC},
		{bind, "/sub", target, unix.MOUNT_ATTR_NOEXEC},
	} {
		var fs unix.Statfs_t
		check(t, unix.Statfs(tt.point, &fs))
		info := byID[tt.m.OldID]
		if info == nil {
			t.Fatalf("no mount %d", tt.m.OldID)
		}
		want := Mount{
			Fields: mountFields &^ (mountOptionLine | MountSubtype | MountSecurityOptions),
			ID:     tt.m.ID, Parent: mountAt(t, filepath.Dir(tt.point)).ID, OldID: info.ID, OldParent: info.Parent,
			Device: Device{uint32(info.Major), uint32(info.Minor)}, Magic: uint64(fs.Type), Type: "overlay", Source: source,
			Options: []string{"lowerdir=" + escaped + "/lower", "upperdir=" + escaped + "/upper", "workdir=" + escaped + "/work", "uuid=on"},
			Root:    tt.root, Point: tt.point, Attributes: tt.attributes | unix.MOUNT_ATTR_RELATIME, Propagation: unix.MS_PRIVATE,
			Namespace: namespace,
		}
		if diff := cmp.Diff(want, tt.m); diff != "" {
			t.Errorf("%s: %s", tt.point, diff)
		}
		if again, err := StatMount(namespace, tt.m.ID); err != nil || !cmp.Equal(again, tt.m) {
			t.Errorf("by the namespace's id: %+v, %v", again, err)
		}
	}

	// A slave, and peers.
	check(t, unix.Mount("", on, "", unix.MS_SHARED, ""))
	shared := mountAt(t, on)
	check(t, unix.Mount(on, sub, "", unix.MS_BIND, ""), unix.Mount("", sub, "", unix.MS_SLAVE, ""))
	slave := mountAt(t, sub)
	if shared.Propagation != unix.MS_SHARED || shared.PeerGroup == 0 || shared.Master != 0 ||
		slave.Propagation != unix.MS_SLAVE || slave.PeerGroup != 0 || slave.Master != shared.PeerGroup {
		t.Errorf("%+v\n%+v", shared, slave)
	}
	check(t, unix.Unmount(sub, 0), unix.Mount("", on, "", unix.MS_PRIVATE, ""))

	for _, tt := range []struct {
		namespace, id uint64
		want          error
	}{
		{OwnNamespace, slave.ID, unix.ENOENT}, // gone
		{OwnNamespace, 0, unix.EINVAL},
		{1 << 62, overlay.ID, unix.ENOENT},
	} {
		if m, err := StatMount(tt.namespace, tt.id); !errors.Is(err, tt.want) {
			t.Errorf("%+v: %+v, %v", tt, m, err)
		}
		for id, err := range ListMounts(tt.namespace, tt.id) {
			if !errors.Is(err, tt.want) {
				t.Errorf("below %+v: %d, %v", tt, id, err)
			}
		}
	}
	readOnly := fstest.New(t, fstest.Tmpfs, "ro")
	if m := mountAt(t, readOnly); m.SuperFlags != unix.MS_RDONLY || !slices.Contains(m.Options, "mode=755") {
		t.Errorf("%+v", m)
	}
}

// TestListMounts compares with /proc/self/mountinfo; what it mounts takes more than one call.
//
// Proves listmount.
func TestListMounts(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureStatMount))
	dir := fstest.New(t, fstest.Tmpfs)
	many := mkdir(t, dir, "many")
	defer func() { check(t, unix.Unmount(many, unix.MNT_DETACH)) }()
	check(t, unix.Mount("tmpfs", many, "tmpfs", 0, ""))
	bottom := mountAt(t, many)
	const binds = 600
	target := ""
	for i := range binds {
		target = mkdir(t, many, fmt.Sprint(i))
		check(t, unix.Mount(target, target, "", unix.MS_BIND, ""))
	}
	infos, err := mountinfo.GetMounts(nil)
	check(t, err)
	namespace, err := MountNamespaceID(ownMountNamespace)
	check(t, err)
	var want []int
	for _, info := range infos {
		want = append(want, info.ID)
	}
	list := func(namespace, parent uint64) (ids []uint64, old []int) {
		for id, err := range ListMounts(namespace, parent) {
			check(t, err)
			m, err := StatMount(namespace, id)
			check(t, err)
			ids, old = append(ids, id), append(old, m.OldID)
		}
		return ids, old
	}
	slices.Sort(want)
	for _, namespace := range []uint64{OwnNamespace, namespace} {
		ids, got := list(namespace, WholeNamespace)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" || !slices.IsSorted(ids) {
			t.Error(namespace, diff)
		}
	}
	below, _ := list(OwnNamespace, bottom.ID)
	if len(below) != binds || below[0] <= bottom.ID || slices.Max(below) != mountAt(t, target).ID {
		t.Errorf("%d mounts below %d", len(below), bottom.ID)
	}
	n := 0
	for _, err := range ListMounts(OwnNamespace, bottom.ID) {
		check(t, err)
		if n++; n == 3 {
			break
		}
	}
}

// TestMountIDAt asks for the mount of each kind of path.
//
// Proves STATX_MNT_ID_UNIQUE.
func TestMountIDAt(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureStatMount))
	dir, other := fstest.New(t, fstest.Tmpfs), fstest.New(t, fstest.Tmpfs)
	check(t, os.Symlink(other, filepath.Join(dir, "link")))
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(fd)
	id := func(dirfd int, path string) uint64 {
		t.Helper()
		id, err := MountIDAt(dirfd, path)
		check(t, err)
		return id
	}
	here, there := id(unix.AT_FDCWD, dir), id(unix.AT_FDCWD, other)
	if here == there || id(fd, "") != here || id(fd, ".") != here || id(fd, "link") != there {
		t.Errorf("%d and %d", here, there)
	}
	if _, err := MountIDAt(fd, "nothing"); !errors.Is(err, unix.ENOENT) || err.Error() != "statx nothing: no such file or directory" {
		t.Error(err)
	}
	for path, want := range map[string]error{
		"/proc/self/ns/pid": unix.EINVAL, dir: unix.ENOTTY, filepath.Join(dir, "nothing"): unix.ENOENT,
	} {
		if id, err := MountNamespaceID(path); !errors.Is(err, want) {
			t.Errorf("%s: %d, %v", path, id, err)
		}
	}
}

// TestOtherMountNamespace watches and lists the namespace of another process, which is in a user namespace of its own.
//
// Proves NS_GET_MNTNS_ID, statmount, listmount.
func TestOtherMountNamespace(t *testing.T) {
	const inside = "FANLIGHT_TEST_NAMESPACE"
	if os.Getenv(inside) != "" {
		// Root of a user namespace may watch its own mounts, and ask for them.
		g := watchMounts(t)
		dir := t.TempDir()
		check(t, unix.Mount("tmpfs", dir, "tmpfs", 0, ""))
		m := mountAt(t, dir)
		check(t, unix.Unmount(dir, 0))
		if _, err := StatMount(OwnNamespace, m.ID); !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		got := queued(t, g, func(e *Event) string {
			if id, _ := e.MountID(); id != m.ID {
				t.Errorf("mount %d, not %d", id, m.ID)
			}
			return e.Mask.String()
		})
		if !slices.Equal(got, []string{"mnt_attach", "mnt_detach"}) {
			t.Error(got)
		}
		err := g.Mark(TargetMountNamespace, fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()), MntAttach, 0)
		if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EPERM) {
			t.Error("the namespace outside:", err)
		}
		return
	}
	fstest.NeedKernel(t, Supports(FeatureMnt))
	namespaces := &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^TestOtherMountNamespace$")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = namespaces
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestOtherMountNamespace") {
		t.Errorf("%v\n%s", err, out)
	}

	dir := fstest.New(t, fstest.Tmpfs)
	cat := exec.Command("cat")
	cat.SysProcAttr = namespaces
	in, err := cat.StdinPipe()
	check(t, err, cat.Start())
	g := newGroup(t, Config{Report: ReportMnt})
	other := fmt.Sprintf("/proc/%d/ns/mnt", cat.Process.Pid)
	check(t, g.Mark(TargetMountNamespace, other, MntDetach, 0))
	namespace, err := MountNamespaceID(other)
	check(t, err)
	var ids []uint64
	var points []string
	for id, err := range ListMounts(namespace, WholeNamespace) {
		check(t, err)
		m, err := StatMount(namespace, id)
		check(t, err)
		if m.Namespace != namespace {
			t.Errorf("%+v is not in %d", m, namespace)
		}
		ids, points = append(ids, id), append(points, m.Point)
		if _, err := StatMount(OwnNamespace, id); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s is in our namespace too: %v", m.Point, err)
		}
	}
	if !slices.Contains(points, dir) || slices.Contains(ids, mountAt(t, dir).ID) {
		t.Errorf("%q", points)
	}
	check(t, in.Close(), cat.Wait())
	// With its last process the namespace ends, and so does each of its mounts; below the root there may be one more.
	detached := map[uint64]bool{}
	for slices.ContainsFunc(ids, func(id uint64) bool { return !detached[id] }) {
		check(t, g.Wait(withPatience(t)))
		queued(t, g, func(e *Event) string {
			id, _ := e.MountID()
			if detached[id] || e.Mask != MntDetach {
				t.Errorf("%s of %d, again: %v", e.Mask, id, detached[id])
			}
			detached[id] = true
			return ""
		})
	}
	if _, err := StatMount(namespace, ids[0]); !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
}

// TestUnprivilegedMounts may ask for what it can reach.
func TestUnprivilegedMounts(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureStatMount))
	fstest.Unprivileged(t, func(t *testing.T) string { return fstest.New(t, fstest.Tmpfs) }, func(t *testing.T, dir string) {
		m := mountAt(t, dir)
		if m.Point != dir {
			t.Errorf("%+v", m)
		}
		found := false
		for id, err := range ListMounts(OwnNamespace, WholeNamespace) {
			check(t, err)
			found = found || id == m.ID
		}
		if !found {
			t.Error("not in the list")
		}
		if _, err := StatMount(m.Namespace, m.ID); err != nil {
			t.Error(err)
		}
	})
}

// statmountBytes is what an older kernel says: options in one line, no namespace.
func statmountBytes(told MountFields, strings string) []byte {
	b := append(make([]byte, statmountSize), strings...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint64(b[8:], uint64(told))
	return b
}

func TestParseMount(t *testing.T) {
	old := statmountBytes(MountType|mountOptionLine|1<<40, "tmpfs\x00size=4k,mode=755\x00")
	binary.NativeEndian.PutUint32(old[4:], 6)
	binary.NativeEndian.PutUint64(old[112:], 7) // not told
	got, err := parseMount(append(old, "trailing"...))
	want := Mount{Fields: MountType | MountOptions, Type: "tmpfs", Options: []string{"size=4k", "mode=755"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}

	beyond := statmountBytes(MountType, "x\x00")
	binary.NativeEndian.PutUint32(beyond[36:], 1<<32-1)
	more := statmountBytes(MountOptions, "a\x00b\x00")
	binary.NativeEndian.PutUint32(more[128:], 1<<32-1)
	long := statmountBytes(0, "")
	binary.NativeEndian.PutUint32(long, statmountSize+1)
	for name, b := range map[string][]byte{
		"nothing": nil, "cut off": old[:statmountSize-1], "too long": long, "short": make([]byte, statmountSize),
		"a string beyond": beyond, "a string without an end": statmountBytes(MountRoot, "/"), "fewer strings": more,
	} {
		if m, err := parseMount(b); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
}
