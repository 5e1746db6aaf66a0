package doctor

import (
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
	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

func TestMain(m *testing.M) { fstest.Main(m) }

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// examine returns what is found out about dir, which has one mount.
func examine(t *testing.T, dir string) (*Report, Mount) {
	t.Helper()
	r, err := Examine(Config{Paths: []string{dir}})
	check(t, err)
	if len(r.Mounts) != 1 {
		t.Fatalf("%d mounts, want 1: %+v", len(r.Mounts), r.Mounts)
	}
	return r, r.Mounts[0]
}

// supportTable reads the table of filesystems in docs/kernel.md: cells by filesystem and column.
func supportTable(t *testing.T) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/kernel.md")
	check(t, err)
	_, part, _ := strings.Cut(string(text), "<!-- filesystems:")
	part, _, _ = strings.Cut(part, "<!-- end of filesystems")
	table := map[string]map[string]string{}
	var heads []string
	for line := range strings.Lines(part) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "| "), " | ")
		if heads == nil {
			heads = cells
			continue
		}
		row := map[string]string{}
		for i, cell := range cells {
			row[heads[i]] = cell
		}
		table[cells[0]] = row
	}
	return table
}

// What is found on each kind of filesystem is what docs/kernel.md says, which other means have found.
func TestMountsAsDocumented(t *testing.T) {
	fstest.NeedKernel(t, fanotify.Supports(fanotify.FeaturePreAccess))
	table := supportTable(t)
	for _, c := range []struct{ name, dir string }{
		{"tmpfs", fstest.New(t, fstest.Tmpfs)},
		{"ext2", fstest.New(t, fstest.Ext2)},
		{"ext4", fstest.New(t, fstest.Ext4)},
		{"xfs", fstest.New(t, fstest.XFS)},
		{"btrfs, top level", fstest.New(t, fstest.Btrfs)},
		{"btrfs, subvolume", fstest.New(t, fstest.Subvolume)},
		{"overlayfs", fstest.New(t, fstest.Overlay)},
		{"overlayfs, `index=on,nfs_export=on`", fstest.New(t, fstest.OverlayExport)},
		{"FUSE (bindfs)", fstest.New(t, fstest.FUSE)},
		{"proc", "/proc/self"},
	} {
		t.Run(c.name, func(t *testing.T) {
			row := table[c.name]
			if row == nil {
				t.Fatal("docs/kernel.md has no such row")
			}
			_, m := examine(t, c.dir)
			ability := func(a Ability) string {
				if a.Answer == Yes {
					return "yes"
				}
				return a.Errno
			}
			form := map[string]Form{"yes": FormFilesystem, "EXDEV": FormSubvolume}[row["filesystem, with handles"]]
			if form == "" {
				form = FormInodes
			}
			refusal := m.Watch.Errno
			if refusal == "" {
				refusal = "yes"
			}
			want := []string{row["handles"], row["permission"], row["pre-content"], row["filesystem, with handles"], string(form)}
			got := []string{m.Handles, ability(m.Permission), ability(m.PreContent), refusal, string(m.Watch.Form)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("handles, permission, pre-content, filesystem mark, form (-want +got):\n%s", diff)
			}
			for what, a := range map[string]Ability{"permission": m.Permission, "pre-content": m.PreContent} {
				if (a.Answer == Yes) != (a.Reason == "") {
					t.Errorf("%s: answer %s, reason %q", what, a.Answer, a.Reason)
				}
			}
			if (m.Watch.Form == FormFilesystem) != (m.Watch.Reason == "") {
				t.Errorf("form %s, reason %q", m.Watch.Form, m.Watch.Reason)
			}
		})
	}
}

// The examination sets no mark that anybody has to wait for, opens nothing that others decide about, and is not heard.
func TestNothingIsDisturbed(t *testing.T) {
	dir := fstest.New(t, fstest.Ext4)
	decides, err := fanotify.NewGroup(fanotify.Config{Class: fanotify.ClassPreContent})
	check(t, err)
	defer decides.Close() // which allows
	check(t, decides.Mark(fanotify.TargetFilesystem, dir, fanotify.OpenPerm|fanotify.AccessPerm|fanotify.OnDir, 0))
	hears, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportFID})
	check(t, err)
	defer hears.Close()
	const all = fanotify.Open | fanotify.Access | fanotify.Close | fanotify.Modify | fanotify.Attrib | fanotify.Create |
		fanotify.Delete | fanotify.OnDir
	check(t, hears.Mark(fanotify.TargetFilesystem, dir, all, 0))

	_, m := examine(t, dir)
	if m.NoAnswer || m.Watch.Form != FormFilesystem || m.Permission.Answer != Yes || m.PreContent.Answer != Yes {
		t.Errorf("a group that never answers holds it up: %+v", m)
	}
	for name, g := range map[string]*fanotify.Group{"asked": decides, "heard": hears} {
		if n, err := g.Backlog(); n != 0 || err != nil {
			t.Errorf("%s of %d bytes of events, %v", name, n, err)
		}
	}
}

// A directory that is asked about has no permission mark, not even for a moment: the kernel refuses it.
func TestOfferSetsNoMark(t *testing.T) {
	fd, err := unix.Open(fstest.New(t, fstest.Ext4), unix.O_PATH|unix.O_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(fd)
	for class, mask := range map[fanotify.Class]fanotify.Mask{
		fanotify.ClassContent: fanotify.OpenPerm, fanotify.ClassPreContent: fanotify.PreAccess,
	} {
		g, err := fanotify.NewGroup(fanotify.Config{Class: class})
		check(t, err)
		if err := (directory{fd: fd}).offer(g, mask); !errors.Is(err, unix.EISDIR) {
			t.Errorf("%s: %v, want EISDIR", mask, err)
		}
		info, err := g.Info()
		check(t, err, g.Close())
		if len(info.Marks) != 0 {
			t.Errorf("%s: %+v", mask, info.Marks)
		}
	}
}

func TestSingleFile(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	from := filepath.Join(fstest.New(t, fstest.Tmpfs), "from")
	file := filepath.Join(dir, "file")
	check(t, os.WriteFile(from, nil, 0o600), os.WriteFile(file, nil, 0o600))
	_, m := examine(t, file) // a file of a directory: that of its mount
	if m.Watch.Form != FormFilesystem || m.MountPoint != dir {
		t.Errorf("a file: %+v", m)
	}
	fstest.Bind(t, from, file)
	r, m := examine(t, file)
	if m.Watch.Form != FormNone || m.Permission.Answer != Unknown {
		t.Errorf("a file that is mounted: %+v", m)
	}
	wantFinding(t, r, "not_watchable")
}

func wantFinding(t *testing.T, r *Report, code string) {
	t.Helper()
	if !slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Code == code }) {
		t.Errorf("no finding %s: %+v", code, r.Findings)
	}
}

func TestMissingPath(t *testing.T) {
	_, err := Examine(Config{Paths: []string{filepath.Join(t.TempDir(), "none")}})
	if err == nil || !strings.HasSuffix(err.Error(), "/none: no such file or directory") {
		t.Errorf("%v", err)
	}
}

// Each feature is explained.
func TestUses(t *testing.T) {
	for _, f := range features() {
		if f.Since == "" || f.For == "" {
			t.Errorf("%+v", f)
		}
	}
}

// A group that another process holds is seen, with what it marks, that it can block, and that it is stopped.
func TestListenerOfAnotherProcess(t *testing.T) {
	dir := fstest.New(t, fstest.Tmpfs)
	file := filepath.Join(dir, "file")
	check(t, os.WriteFile(file, nil, 0o600))
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	check(t, err)
	group := os.NewFile(uintptr(fd), "group")
	for _, m := range []struct {
		flags uint
		mask  uint64
		path  string
	}{
		{unix.FAN_MARK_FILESYSTEM, unix.FAN_MODIFY, dir},
		{unix.FAN_MARK_MOUNT, unix.FAN_CLOSE_WRITE, dir},
		{0, unix.FAN_OPEN_PERM, file},
		{0, unix.FAN_ACCESS, dir},
	} {
		check(t, unix.FanotifyMark(fd, unix.FAN_MARK_ADD|m.flags, m.mask, -1, m.path))
	}
	holder := exec.Command("cat")
	holder.ExtraFiles = []*os.File{group}
	stdin, err := holder.StdinPipe()
	check(t, err)
	check(t, holder.Start())
	defer func() { check(t, stdin.Close(), holder.Wait()) }()
	check(t, group.Close())

	var status syscall.WaitStatus
	check(t, holder.Process.Signal(unix.SIGSTOP))
	_, err = syscall.Wait4(holder.Process.Pid, &status, syscall.WUNTRACED, nil)
	check(t, err)
	defer holder.Process.Signal(unix.SIGCONT) //nolint:errcheck // Wait would tell.

	r, _ := examine(t, dir)
	i := slices.IndexFunc(r.Listeners, func(l Listener) bool { return l.PID == holder.Process.Pid })
	if i < 0 {
		t.Fatalf("process %d is not among %+v", holder.Process.Pid, r.Listeners)
	}
	got := r.Listeners[i]
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", holder.Process.Pid))
	check(t, err)
	device := got.Marks[0].Device
	want := Listener{
		PID: holder.Process.Pid, FD: 3, Comm: "cat", Exe: exe, User: "root", Class: "class_content", CanBlock: true, Stopped: true,
		Marks: []Mark{
			{Target: "inode", MountPoint: dir, FSType: "tmpfs", Device: device, Count: 2, Events: "access|open_perm"},
			{Target: "mount", MountPoint: dir, FSType: "tmpfs", Device: device, Count: 1, Events: "close_write"},
			{Target: "filesystem", MountPoint: dir, FSType: "tmpfs", Device: device, Count: 1, Events: "modify"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listener (-want +got):\n%s", diff)
	}
	wantFinding(t, r, "listener_stopped")
	wantFinding(t, r, "listener_queue")
}

func TestUnprivileged(t *testing.T) {
	fstest.NeedKernel(t, fanotify.Supports(fanotify.FeatureUnprivileged))
	fstest.Unprivileged(t, func(t *testing.T) string { return fstest.New(t, fstest.Tmpfs) }, func(t *testing.T, dir string) {
		r, m := examine(t, dir)
		if m.Watch.Form != FormInodes || m.Watch.Errno != "EPERM" || m.Permission.Answer != Unknown || m.Handles != HandlesOpen {
			t.Errorf("%+v", m)
		}
		if len(r.Unreadable) == 0 {
			t.Error("nobody was unreadable")
		}
		if diff := cmp.Diff([]string{}, r.Privilege.Has); diff != "" {
			t.Errorf("capabilities (-want +got):\n%s", diff)
		}
		wantFinding(t, r, "no_privilege")
	})
}

// A directory that this user may not read can't be watched, and that is said.
func TestUnreadableDirectory(t *testing.T) {
	prepare := func(t *testing.T) string {
		dir := fstest.New(t, fstest.Tmpfs)
		check(t, os.Chmod(dir, 0o711))
		return dir
	}
	fstest.Unprivileged(t, prepare, func(t *testing.T, dir string) {
		r, m := examine(t, dir)
		if m.Watch.Form != FormNone || m.Watch.Errno != "EACCES" {
			t.Errorf("%+v", m.Watch)
		}
		wantFinding(t, r, "not_watchable")
	})
}
