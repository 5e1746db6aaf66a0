package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/internal/fstest"
)

// childVariable makes this test binary a process that does what it is told instead of running its tests.
const childVariable = "FANLIGHT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		obey()
		return
	}
	fstest.Main(m)
}

// obey does what the lines on standard input say and answers each.
func obey() {
	runtime.LockOSThread() // the thread whose name is the process's
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		var err error
		switch word {
		case "chdir":
			err = os.Chdir(rest)
		case "comm":
			var name string
			if name, err = strconv.Unquote(rest); err == nil {
				err = os.WriteFile("/proc/self/comm", []byte(name), 0)
			}
		case "uid":
			var uid int
			if uid, err = strconv.Atoi(rest); err == nil {
				err = syscall.Setuid(uid)
			}
		case "exec":
			fmt.Println("execs")
			err = syscall.Exec(rest, []string{"argument zero"}, nil)
		}
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("ok")
	}
}

// child is a process that obeys.
type child struct {
	*exec.Cmd
	t     *testing.T
	in    io.WriteCloser
	out   *bufio.Reader
	ended bool
}

func newChild(t *testing.T, attr *syscall.SysProcAttr) *child {
	t.Helper()
	c := &child{Cmd: exec.Command("/proc/self/exe"), t: t}
	c.Env = append(os.Environ(), childVariable+"=1")
	c.SysProcAttr = attr
	in, err := c.StdinPipe()
	must(t, err)
	out, err := c.StdoutPipe()
	must(t, err)
	c.in, c.out = in, bufio.NewReader(out)
	must(t, c.Start())
	t.Cleanup(c.end)
	c.tell("hello", "ok")
	return c
}

func (c *child) pid() int32 { return int32(c.Process.Pid) }

// tell says something and waits for the answer.
func (c *child) tell(what, answer string) {
	c.t.Helper()
	_, err := fmt.Fprintln(c.in, what)
	must(c.t, err)
	line, err := c.out.ReadString('\n')
	if err != nil || line != answer+"\n" {
		c.t.Fatalf("%s: %q, %v", what, line, err)
	}
}

// end ends the process and waits for it.
func (c *child) end() {
	if c.ended {
		return
	}
	c.ended = true
	c.in.Close()
	c.Process.Kill() // it may have ended
	c.Wait()         //nolint:errcheck // It was killed.
}

// die lets the process end and leaves it a zombie.
func (c *child) die() {
	c.t.Helper()
	must(c.t, c.Process.Kill())
	must(c.t, unix.Waitid(unix.P_PID, c.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newTable returns a table that is closed in the end.
func newTable(t *testing.T) *Table {
	table := new(Table)
	t.Cleanup(table.Close)
	table.NextRound()
	return table
}

// later begins a round in which every fact is due to be checked.
func (t *Table) later() {
	t.Idle()
	t.NextRound()
	t.now = t.now.Add(time.Duration(t.round) * time.Hour)
}

func check(t *testing.T, got *event.Process, want event.Process) {
	t.Helper()
	if len(want.AncestorComms) == 0 && got.Ancestors != nil {
		want.AncestorComms = got.AncestorComms // what of each is another test's
		if len(got.AncestorComms) != len(got.Ancestors) {
			t.Errorf("%d ancestors, %q", len(got.Ancestors), got.AncestorComms)
		}
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
}

func TestLife(t *testing.T) {
	exe, err := os.Readlink("/proc/self/exe")
	must(t, err)
	cwd, err := os.Getwd()
	must(t, err)
	c := newChild(t, nil)
	table := newTable(t)
	want := event.Process{
		PID: c.pid(), PPID: int32(os.Getpid()), UID: 0, Comm: "exe", Exe: exe, Cwd: cwd, State: event.ProcessLive,
		Ancestors: ancestorsOf(t, c.pid()), AncestorComms: commsOf(t, ancestorsOf(t, c.pid())),
	}
	first := table.Lookup(c.pid())
	check(t, first, want)

	table.later()
	if table.Lookup(c.pid()) != first {
		t.Error("equal facts are another pointer")
	}

	dir := t.TempDir()
	c.tell("chdir "+dir, "ok")
	if table.Lookup(c.pid()) != first {
		t.Error("asked twice in a round")
	}
	table.later()
	want.Cwd = dir
	check(t, table.Lookup(c.pid()), want)

	for _, name := range []string{"a\nb", "x) R 1 (y", "\xff", "", "fifteen bytes.."} {
		c.tell("comm "+strconv.Quote(name), "ok")
		table.later()
		want.Comm = name
		check(t, table.Lookup(c.pid()), want)
	}

	c.tell("uid 12345", "ok")
	table.later()
	want.UID = 12345
	check(t, table.Lookup(c.pid()), want)

	c.tell("exec /bin/cat", "execs")
	c.tell("echo", "echo")
	table.later()
	want.Exe, err = os.Readlink("/proc/" + strconv.Itoa(c.Process.Pid) + "/exe")
	must(t, err)
	want.Comm = "cat"
	if !strings.HasSuffix(want.Exe, "/cat") && !strings.HasSuffix(want.Exe, "/coreutils") {
		t.Errorf("the child is %s", want.Exe)
	}
	check(t, table.Lookup(c.pid()), want)
	if first.Comm != "exe" || first.Exe != exe || first.State != event.ProcessLive {
		t.Errorf("facts that were handed out changed: %+v", first)
	}

	c.die()
	table.later()
	want.State = event.ProcessExited
	check(t, table.Lookup(c.pid()), want) // a zombie

	c.end()
	table.NextRound()
	check(t, table.Lookup(c.pid()), want)
	table.Idle()
	table.NextRound()
	check(t, table.Lookup(c.pid()), event.Process{PID: c.pid(), UID: event.NoUID})
}

// ancestorsOf reads the chain of parents in another way.
func ancestorsOf(t *testing.T, pid int32) []int32 {
	t.Helper()
	var chain []int32
	for {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		must(t, err)
		_, rest, _ := strings.Cut(string(status), "\nPPid:\t")
		line, _, _ := strings.Cut(rest, "\n")
		ppid, err := strconv.Atoi(line)
		must(t, err)
		if ppid == 0 {
			return chain
		}
		chain = append(chain, int32(ppid))
		pid = int32(ppid)
	}
}

func TestAnotherUser(t *testing.T) {
	c := newChild(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: fstest.Nobody, Gid: fstest.Nobody}})
	if got := newTable(t).Lookup(c.pid()); got.UID != fstest.Nobody || got.State != event.ProcessLive || got.Exe == "" {
		t.Errorf("%+v", got)
	}
}

// A parent's name must not be taken for the fields behind it.
func TestAncestors(t *testing.T) {
	c := newChild(t, nil)
	c.tell(`comm "x) R 1 (y"`, "ok")
	table := newTable(t)
	pids, comms := table.ancestors(c.pid())
	if want := append([]int32{c.pid()}, ancestorsOf(t, c.pid())...); !slices.Equal(pids, want) {
		t.Errorf("%v, want %v", pids, want)
	}
	if want := commsOf(t, pids); !slices.Equal(comms, want) || comms[0] != "x) R 1 (y" {
		t.Errorf("%q, want %q", comms, want)
	}
	table.Lookup(int32(os.Getpid()))
	got := table.Lookup(c.pid())
	if want := ancestorsOf(t, c.pid()); !slices.Equal(got.Ancestors, want) || !slices.Equal(got.AncestorComms, commsOf(t, want)) {
		t.Errorf("by what is known: %v %q, want %v", got.Ancestors, got.AncestorComms, want)
	}
}

// commsOf returns the names of processes.
func commsOf(t *testing.T, pids []int32) []string {
	t.Helper()
	var comms []string
	for _, pid := range pids {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		must(t, err)
		comms = append(comms, strings.TrimSuffix(string(comm), "\n"))
	}
	return comms
}

func TestDiesBetweenRounds(t *testing.T) {
	c := newChild(t, nil)
	table := newTable(t)
	want := *table.Lookup(c.pid())
	c.end()
	if got := table.Lookup(c.pid()); got.State != event.ProcessLive {
		t.Errorf("asked in the same round: %+v", got)
	}
	table.NextRound() // not idle: what is queued may still be from it
	want.State = event.ProcessExited
	for range 3 {
		check(t, table.Lookup(c.pid()), want)
		table.NextRound()
	}
}

func TestMetAsZombie(t *testing.T) {
	c := newChild(t, nil)
	c.die()
	got := newTable(t).Lookup(c.pid())
	if got.State != event.ProcessExited || got.Comm != "exe" || got.PPID != int32(os.Getpid()) || got.Exe != "" {
		t.Errorf("%+v", got)
	}
}

func TestNobodyThere(t *testing.T) {
	c := newChild(t, nil)
	c.end()
	table := newTable(t)
	for _, pid := range []int32{0, -1, c.pid(), 1 << 30} {
		check(t, table.Lookup(pid), event.Process{PID: pid, UID: event.NoUID})
	}
}

func TestKernelThread(t *testing.T) {
	status, err := os.ReadFile("/proc/2/status")
	if err != nil || !strings.Contains(string(status), "\nKthread:\t1\n") {
		fstest.NeedKernel(t, fmt.Errorf("no kernel thread is seen in this pid namespace: %w", errors.ErrUnsupported))
	}
	table := newTable(t)
	want := event.Process{PID: 2, Comm: "kthreadd", Cwd: "/", State: event.ProcessLive}
	check(t, table.Lookup(2), want)
	table.later()
	check(t, table.Lookup(2), want)
}

// ownPIDs runs a test in a pid namespace of its own, where it may choose the pids of its children. It has to be the
// first thing that the test does, because the other process comes through the same lines.
func ownPIDs(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	if os.Getpid() == 1 {
		must(t, unix.Mount("proc", "/proc", "proc", 0, ""))
		t.Cleanup(func() { must(t, unix.Unmount("/proc", 0)) })
		test(t)
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig means the thread
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" (") {
		t.Fatalf("in a pid namespace of its own: %v\n%s", err, out)
	}
}

// startAs starts a process of the wanted pid: the kernel gives the pid behind the last one, unless a thread of our own is
// faster.
func startAs(t *testing.T, pid int32) *child {
	t.Helper()
	for range 1000 {
		must(t, os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(int(pid-1))), 0))
		if c := newChild(t, nil); c.pid() == pid {
			return c
		} else {
			c.end()
		}
	}
	t.Fatalf("never got pid %d", pid)
	return nil
}

// A pid that another process got never shows the old facts, whenever that is noticed.
func TestReusedPID(t *testing.T) { ownPIDs(t, testReusedPID) }

func testReusedPID(t *testing.T) {
	unknown := func(t *testing.T, got *event.Process, pid int32) {
		t.Helper()
		check(t, got, event.Process{PID: pid, UID: event.NoUID})
	}
	found := func(t *testing.T, table *Table, c *child) {
		t.Helper()
		table.Idle()
		table.NextRound()
		if got := table.Lookup(c.pid()); got.State != event.ProcessLive || got.Comm != "second" {
			t.Errorf("%+v", got)
		}
	}
	t.Run("noticed with its end", func(t *testing.T) {
		old, table := newChild(t, nil), newTable(t)
		table.Lookup(old.pid())
		old.end()
		new := startAs(t, old.pid())
		new.tell(`comm "second"`, "ok")
		table.Idle()
		for range 3 {
			table.NextRound()
			unknown(t, table.Lookup(new.pid()), new.pid())
		}
		found(t, table, new)
	})
	t.Run("noticed later", func(t *testing.T) {
		old, table := newChild(t, nil), newTable(t)
		table.Lookup(old.pid())
		old.end()
		table.NextRound()
		if got := table.Lookup(old.pid()); got.State != event.ProcessExited || got.Comm != "exe" {
			t.Errorf("%+v", got)
		}
		new := startAs(t, old.pid())
		new.tell(`comm "second"`, "ok")
		table.NextRound()
		unknown(t, table.Lookup(new.pid()), new.pid())
		table.NextRound()
		found(t, table, new)
	})
	t.Run("both are gone", func(t *testing.T) {
		old, table := newChild(t, nil), newTable(t)
		table.Lookup(old.pid())
		old.end()
		new := startAs(t, old.pid())
		new.die() // a zombie has its pid
		table.NextRound()
		unknown(t, table.Lookup(new.pid()), new.pid())
	})
}

// However many processes there are, the descriptors are bounded, and facts are right.
func TestManyProcesses(t *testing.T) {
	before := countDescriptors(t)
	table := newTable(t)
	const n = MaxProcesses + 50
	var children []*exec.Cmd
	for range n {
		cmd := exec.Command("/bin/sleep", "1000")
		must(t, cmd.Start())
		children = append(children, cmd)
		defer func() {
			cmd.Process.Kill() // it sleeps
			cmd.Wait()         //nolint:errcheck // It was killed.
		}()
	}
	pidfds := countDescriptors(t) - before // those of package os
	for round := range 3 {
		for _, cmd := range children {
			pid := int32(cmd.Process.Pid)
			if got := table.Lookup(pid); got.PID != pid || got.PPID != int32(os.Getpid()) || got.State != event.ProcessLive {
				t.Fatalf("%+v", got)
			}
			if round > 0 && pid%2 == 0 {
				table.NextRound()
			}
		}
		if open := countDescriptors(t) - before - pidfds; open > 2*MaxProcesses {
			t.Errorf("%d descriptors are open", open)
		}
		table.later()
	}
	table.Close()
	if open := countDescriptors(t) - before - pidfds; open != 0 {
		t.Errorf("%d descriptors are open after Close", open)
	}
}

func countDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(entries)
}

// A known process costs no allocation.
func TestLookupAllocates(t *testing.T) {
	table := newTable(t)
	pid := int32(os.Getpid())
	table.Lookup(pid)
	table.later()
	table.Lookup(pid)
	if n := testing.AllocsPerRun(100, func() { table.Lookup(pid) }); n != 0 {
		t.Errorf("%v allocations in a round", n)
	}
}
