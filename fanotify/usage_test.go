package fanotify

import (
	"bufio"
	"cmp"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"fanlight/internal/fstest"
)

// holdVariable makes the test binary run the other process of TestReadUsage.
const holdVariable = "FANLIGHT_TEST_HOLD"

// stranger is a user that nobody else is.
const stranger = 54322

// TestReadUsage counts the groups of a user that nobody else is: one whose marks count, one that a child has open too,
// one whose marks don't count, and one that its maker handed to root and to this process.
func TestReadUsage(t *testing.T) {
	if dir := os.Getenv(holdVariable); dir != "" {
		holdGroups(t, dir)
		return
	}
	dir := fstest.New(t, fstest.Tmpfs)
	for _, name := range []string{"a", "b", "c"} {
		file(t, dir, name)
	}
	unlimited := newGroup(t, Config{Report: ReportFID, UnlimitedMarks: true})
	mark(t, unlimited, TargetInode, dir, Create, 0)

	usage := func() UserUsage {
		t.Helper()
		all, err := ReadUsage()
		check(t, err)
		if !slices.IsSortedFunc(all.Users, func(a, b UserUsage) int { return cmp.Compare(a.UID, b.UID) }) || all.Doubtful != 0 {
			t.Errorf("%+v", all)
		}
		for _, user := range all.Users {
			if user.UID == stranger {
				return user
			}
		}
		return UserUsage{}
	}
	if got := usage(); got != (UserUsage{}) {
		t.Fatal("somebody is the stranger:", got)
	}

	holder := exec.Command("/proc/self/exe", "-test.run=^TestReadUsage$")
	holder.Env = append(os.Environ(), holdVariable+"="+dir)
	holder.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: stranger, Gid: stranger}}
	holder.Stderr = os.Stderr
	holder.ExtraFiles = []*os.File{duplicate(t, unlimited)}
	in, err := holder.StdinPipe()
	check(t, err)
	out, err := holder.StdoutPipe()
	check(t, err, holder.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Errorf("%q, %v", line, err)
	}
	want := UserUsage{UID: stranger, Groups: 2, Marks: 4}
	if holder.Process.Pid < os.Getpid() { // the group that was handed over goes to the lower id, which most often is ours
		want.Groups++
	}
	if got := usage(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if _, err := io.WriteString(in, "\n"); err != nil {
		t.Error(err)
	}
	check(t, in.Close(), holder.Wait())
	if got := usage(); got != (UserUsage{}) {
		t.Error("still there:", got)
	}
}

// holdGroups keeps groups open until a line comes. What it can't see itself, it says.
func holdGroups(t *testing.T, dir string) {
	first := newGroup(t, Config{Report: ReportFID})
	second := newGroup(t, Config{Report: ReportDFIDName})
	mark(t, first, TargetInode, dir, Create, 0)
	for _, name := range []string{"a", "b", "c"} {
		mark(t, second, TargetInode, dir+"/"+name, Open, 0)
	}
	child := exec.Command("cat")
	child.ExtraFiles = []*os.File{duplicate(t, second), duplicate(t, second)}
	in, err := child.StdinPipe()
	check(t, err, child.Start())

	usage, err := ReadUsage()
	check(t, err)
	// The inherited group is not known to be root's here: its first process may not be asked.
	if want := []UserUsage{{UID: stranger, Groups: 3, Marks: 4}}; !slices.Equal(usage.Users, want) || usage.Unreadable == 0 {
		t.Errorf("got %+v", usage)
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(os.Stdin); err != nil {
		t.Error(err)
	}
	check(t, in.Close(), child.Wait())
}

func TestEffectiveUser(t *testing.T) {
	if uid, err := effectiveUser(os.Getpid()); int(uid) != os.Geteuid() || err != nil {
		t.Error(uid, err)
	}
	if _, err := effectiveUser(1 << 30); !gone(err) {
		t.Error(err)
	}
}
