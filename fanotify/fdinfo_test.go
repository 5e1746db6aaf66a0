package fanotify

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

// TestInfoOfGroup makes groups of every kind and lets the kernel say what they are.
//
// Proves FAN_UNLIMITED_MARKS, FAN_UNLIMITED_QUEUE, event_f_flags, fdinfo.
func TestInfoOfGroup(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureMnt))
	always, err := newGroup(t, Config{}).Info() // O_LARGEFILE of the kernel, which in package unix is 0
	check(t, err)
	if always.Config.EventFlags&unix.O_CLOEXEC == 0 {
		t.Errorf("%+v", always)
	}
	for _, config := range []Config{
		{Class: ClassContent, EventFlags: unix.O_RDWR | unix.O_NOATIME},
		{Class: ClassPreContent, UnlimitedQueue: true},
		{Report: ReportDFIDNameTarget | ReportPIDFD, UnlimitedMarks: true},
		{Report: ReportTID | ReportFDError},
		{Report: ReportMnt},
	} {
		info, err := newGroup(t, config).Info()
		check(t, err)
		want := config
		want.EventFlags |= always.Config.EventFlags
		if config.Report&ReportFDError != 0 {
			want.EventFlags |= unix.O_NONBLOCK
		}
		if diff := cmp.Diff(GroupInfo{Config: want}, info); diff != "" {
			t.Errorf("%+v: %s", config, diff)
		}
	}
}

// TestInfoOfMarks compares what the kernel shows of marks with what else it says of their objects.
//
// Proves fdinfo.
func TestInfoOfMarks(t *testing.T) {
	fstest.NeedKernel(t, Supports(FeatureStatMount))
	fstest.NeedKernel(t, Supports(FeatureMnt))
	for _, kind := range []string{fstest.Tmpfs, fstest.Ext4, fstest.XFS, fstest.Btrfs, fstest.Subvolume, fstest.Overlay, fstest.FUSE} {
		t.Run(kind, func(t *testing.T) {
			dir := fstest.New(t, kind)
			name := file(t, dir, "f")
			id, err := MountIDAt(unix.AT_FDCWD, dir)
			check(t, err)
			mount, err := StatMount(OwnNamespace, id)
			check(t, err)
			var st unix.Stat_t
			check(t, unix.Stat(name, &st))
			handle := handleAt(t, name)

			g := newGroup(t, Config{})
			mark(t, g, TargetInode, name, Open, 0)
			mark(t, g, TargetInode, name, Access|Modify, IgnoreSurv)
			mark(t, g, TargetMount, dir, Access, 0)
			mark(t, g, TargetFilesystem, dir, Modify|OnDir, 0)
			info, err := g.Info()
			check(t, err)
			want := []MarkInfo{
				{Target: TargetFilesystem, Device: mount.Device, Mask: Modify | OnDir},
				{Target: TargetMount, MountID: mount.OldID, Mask: Access},
				{
					Target: TargetInode, Device: mount.Device, Inode: st.Ino, HandleType: handle.Type(), Handle: handle.Bytes(),
					Mask: Open, Ignored: Access | Modify, Flags: IgnoreSurv,
				},
			}
			if diff := cmp.Diff(want, info.Marks); diff != "" {
				t.Error(diff)
			}
			subvolume := strings.HasPrefix(kind, "btrfs")
			if same := mount.Device == (Device{unix.Major(st.Dev), unix.Minor(st.Dev)}); same == subvolume {
				t.Errorf("stat says device %d:%d, the kernel's is %s", unix.Major(st.Dev), unix.Minor(st.Dev), mount.Device)
			}
		})
	}

	g := newGroup(t, Config{Report: ReportMnt})
	mark(t, g, TargetMountNamespace, "/proc/self/ns/mnt", MntAttach, 0)
	info, err := g.Info()
	check(t, err)
	var st unix.Stat_t
	check(t, unix.Stat("/proc/self/ns/mnt", &st))
	if want := []MarkInfo{{Target: TargetMountNamespace, Namespace: uint32(st.Ino), Mask: MntAttach}}; !cmp.Equal(info.Marks, want) {
		t.Errorf("got %+v, want %+v", info.Marks, want)
	}
}

// TestInfoOfManyMarks reads more than fits into any buffer, the newest first.
func TestInfoOfManyMarks(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	g := newGroup(t, Config{})
	var want []uint64
	for i := range 5000 {
		name := file(t, dir, fmt.Sprint(i))
		mark(t, g, TargetInode, name, Open, 0)
		var st unix.Stat_t
		check(t, unix.Stat(name, &st))
		want = append(want, st.Ino)
	}
	slices.Reverse(want)
	info, err := g.Info()
	check(t, err)
	var got []uint64
	for _, m := range info.Marks {
		got = append(got, m.Inode)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d marks", len(got))
	}
}

// duplicate returns another descriptor of a group, to be inherited.
func duplicate(t *testing.T, g *Group) *os.File {
	t.Helper()
	var fd int
	var err error
	check(t, g.conn.Control(func(group uintptr) { fd, err = unix.Dup(int(group)) }), err)
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "fanotify")
	t.Cleanup(func() { f.Close() })
	return f
}

// TestGroupsOfOthers looks at a group that another process has open too.
func TestGroupsOfOthers(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	g := newGroup(t, Config{Report: ReportFID})
	mark(t, g, TargetInode, dir, Create, 0)
	want, err := g.Info()
	check(t, err)
	cat := exec.Command("cat")
	cat.ExtraFiles = []*os.File{duplicate(t, g)}
	in, err := cat.StdinPipe()
	check(t, err, cat.Start())
	defer func() { check(t, in.Close(), cat.Wait()) }()
	pid := cat.Process.Pid

	var got []OpenGroup
	for g, err := range GroupsOf(pid) {
		check(t, err)
		got = append(got, g)
	}
	if diff := cmp.Diff([]OpenGroup{{pid, 3, want}}, got); diff != "" {
		t.Error(diff)
	}
	seen := map[int]int{}
	for g, err := range AllGroups() {
		if err == nil && cmp.Equal(g.Info, want) {
			seen[g.PID]++
		}
		if g.PID == pid {
			break // and nothing more is asked
		}
	}
	if own := os.Getpid(); seen[pid] != 1 || own < pid && seen[own] != 2 {
		t.Errorf("%d: %v", pid, seen)
	}
	for _, err := range GroupsOf(os.Getpid()) {
		check(t, err) // not even of the descriptor that the listing itself had
	}
	for fd, target := range map[int]error{0: ErrNotGroup, 99: fs.ErrNotExist} {
		if _, err := ReadGroupInfo(pid, fd); !errors.Is(err, target) {
			t.Errorf("descriptor %d: %v", fd, err)
		}
	}
	for g, err := range GroupsOf(1 << 30) {
		if !errors.Is(err, fs.ErrNotExist) || g.PID != 1<<30 || g.FD != -1 {
			t.Errorf("a process that is not there: %+v, %v", g, err)
		}
	}
}

// TestUnprivilegedInfo tells what it may see, and of whom it may not.
func TestUnprivilegedInfo(t *testing.T) {
	fstest.Unprivileged(t, prepareUnprivileged, func(t *testing.T, dir string) {
		g := newGroup(t, Config{Report: ReportFID})
		mark(t, g, TargetInode, dir, Create, 0)
		want, err := g.Info()
		check(t, err)
		if len(want.Marks) != 1 || want.Marks[0].Handle == nil {
			t.Errorf("%+v", want)
		}
		own, refused := 0, map[int]int{}
		for g, err := range AllGroups() {
			switch {
			case errors.Is(err, fs.ErrPermission) && g.FD == -1:
				refused[g.PID]++
			case err != nil:
				t.Error(err)
			case g.PID == os.Getpid() && cmp.Equal(g.Info, want):
				own++
			}
		}
		if own != 1 || refused[os.Getppid()] != 1 {
			t.Errorf("%d groups of our own, refused by %v", own, refused)
		}
		if _, err := ReadGroupInfo(os.Getppid(), 0); !errors.Is(err, fs.ErrPermission) {
			t.Error(err)
		}
	})
}

// TestGroupsThatMayOnlyBeListed is told once that it may not look, not for each descriptor: with CAP_DAC_READ_SEARCH,
// but not CAP_SYS_PTRACE.
func TestGroupsThatMayOnlyBeListed(t *testing.T) {
	const less = "FANLIGHT_TEST_LESS"
	if os.Getenv(less) == "" {
		fstest.New(t, fstest.Tmpfs) // says that this needs root
		cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^TestGroupsThatMayOnlyBeListed$")
		cmd.Env = append(os.Environ(), less+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: fstest.Nobody, Gid: fstest.Nobody},
			AmbientCaps: []uintptr{unix.CAP_DAC_READ_SEARCH},
		}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestGroupsThatMayOnlyBeListed") {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	if fds, err := numbersIn(fmt.Sprintf("/proc/%d/fd", os.Getppid())); len(fds) < 2 || err != nil {
		t.Fatal(fds, err)
	}
	n := 0
	for g, err := range GroupsOf(os.Getppid()) {
		if n++; !errors.Is(err, fs.ErrPermission) || g.FD != -1 || g.PID != os.Getppid() {
			t.Errorf("%+v, %v", g, err)
		}
	}
	if n != 1 {
		t.Errorf("%d times", n)
	}
}

func TestInfoOfClosedGroup(t *testing.T) {
	g := newGroup(t, Config{})
	check(t, g.Close())
	if _, err := g.Info(); err != os.ErrClosed {
		t.Error(err)
	}
}

// TestParseGroupInfo parses what this kernel doesn't write: what is yet to come, and what can't be.
func TestParseGroupInfo(t *testing.T) {
	const head = "pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1038\n"
	got, err := parseGroupInfo([]byte(head + "fanotify flags:8001e33 event-flags:8000 colour:blue\n" +
		"fanotify galaxy:7 mflags:0 mask:1 ignored_mask:0\n" +
		"lock:\t1: FLOCK  ADVISORY  WRITE 1 00:01:1 0 EOF\n" +
		"fanotify ino:ffffffffffffffff sdev:fff00001 mflags:80000640 mask:8000000000000001 ignored_mask:20 colour:blue \n" +
		"fanotify mnt_id:7fffffff mflags:0 mask:20 ignored_mask:0"))
	want := GroupInfo{
		Config:     Config{Report: ReportDFIDNameTarget | 0x8000000, EventFlags: 0x8000, UnlimitedQueue: true, UnlimitedMarks: true},
		OtherMarks: 1,
		Marks: []MarkInfo{
			{
				Target: TargetInode, Device: Device{4095, 1}, Inode: 1<<64 - 1, Mask: 1<<63 | Access, Ignored: Open,
				Flags: IgnoreSurv | Evictable | 1<<31,
			},
			{Target: TargetMount, MountID: 1<<31 - 1, Mask: Open},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}

	const group = head + "fanotify flags:3 event-flags:0\n"
	for text, want := range map[string]string{
		"":                            ErrNotGroup.Error(),
		head + "inotify wd:1 ino:2\n": ErrNotGroup.Error(),
		head + "fanotify ino:2 sdev:1 mflags:0 mask:1 ignored_mask:0\n": ErrNotGroup.Error(),
		"fanotify flags:x event-flags:0\n":                              `line 1: flags: strconv.ParseUint: parsing "x": invalid syntax`,
		"fanotify flags:3 event-flags:-1\n":                             `line 1: event-flags: strconv.ParseUint: parsing "-1": invalid syntax`,
		group + "fanotify ino:12 sd":                                    "line 6: a mark without a mask",
		group + "fanotify ino: mask:1":                                  `line 6: ino: strconv.ParseUint: parsing "": invalid syntax`,
		group + "fanotify sdev:100000000 mask:1":                        `line 6: sdev: strconv.ParseUint: parsing "100000000": value out of range`,
		group + "fanotify mnt_id:80000000 mask:1":                       `line 6: mnt_id: strconv.ParseUint: parsing "80000000": value out of range`,
		group + "fanotify mnt_ns:ff mask:1":                             `line 6: mnt_ns: strconv.ParseUint: parsing "ff": invalid syntax`,
		group + "fanotify mnt_id:1 mflags mask:1":                       `line 6: mflags: strconv.ParseUint: parsing "": invalid syntax`,
		group + "fanotify galaxy:1 mask:10000000000000000":              `line 6: mask: strconv.ParseUint: parsing "10000000000000000": value out of range`,
		group + "fanotify ino:1 mask:1 ignored_mask:.":                  `line 6: ignored_mask: strconv.ParseUint: parsing ".": invalid syntax`,
		group + "fanotify ino:1 mask:1 fhandle-bytes:2 f_handle:ab":     "line 6: f_handle: 1 bytes, not 2",
		group + "fanotify ino:1 mask:1 fhandle-bytes:2":                 "line 6: f_handle: 0 bytes, not 2",
		group + "fanotify ino:1 mask:1 fhandle-bytes:1 f_handle:a":      "line 6: f_handle: encoding/hex: odd length hex string",
		group + "fanotify ino:1 mask:1 fhandle-type:100000000":          `line 6: fhandle-type: strconv.ParseUint: parsing "100000000": value out of range`,
	} {
		if info, err := parseGroupInfo([]byte(text)); err == nil || err.Error() != want || !cmp.Equal(info, GroupInfo{}) {
			t.Errorf("%q\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func BenchmarkParseGroupInfo(b *testing.B) {
	line := "fanotify ino:a2b91 sdev:800001 mflags:640 mask:8000020 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 " +
		"f_handle:912b0a00f112464d\n"
	for _, marks := range []int{2000, 200_000} {
		b.Run(fmt.Sprint(marks), func(b *testing.B) {
			text := []byte("fanotify flags:3 event-flags:0\n" + strings.Repeat(line, marks))
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if info, err := parseGroupInfo(text); err != nil || len(info.Marks) != marks {
					b.Fatal(len(info.Marks), err)
				}
			}
		})
	}
}
