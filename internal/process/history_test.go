package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fanlight/event"
)

// connected returns a table that the kernel tells of processes.
func connected(t *testing.T, bufferSize int) *Table {
	t.Helper()
	table := newTable(t)
	if s := table.connect(bufferSize); s.Connector != nil || s.Accounting != nil {
		t.Fatalf("%+v", s)
	}
	return table
}

// settle lets everything settle that was told.
func (t *Table) settle() {
	for range settledAfter + 1 {
		t.Drain()
		t.NextRound()
		t.Idle()
	}
}

func TestConnectedLife(t *testing.T) {
	table := connected(t, connectorBuffer)
	c := newChild(t, nil)
	exe, err := os.Readlink("/proc/self/exe")
	must(t, err)
	cwd, err := os.Getwd()
	must(t, err)
	table.settle()
	want := event.Process{
		PID: c.pid(), PPID: int32(os.Getpid()), UID: 0, Comm: "exe", Exe: exe, Cwd: cwd, State: event.ProcessLive,
		Ancestors: ancestorsOf(t, c.pid()),
	}
	first := table.Lookup(c.pid())
	check(t, first, want)
	table.settle()
	if table.Lookup(c.pid()) != first {
		t.Error("equal facts are another pointer")
	}
	c.tell(`comm "another"`, "ok")
	table.settle()
	want.Comm = "another"
	check(t, table.Lookup(c.pid()), want)

	c.tell("uid 12345", "ok")
	table.Drain()
	want.UID = event.NoUID // nobody knows when
	check(t, table.Lookup(c.pid()), want)
	table.settle()
	want.UID = 12345
	check(t, table.Lookup(c.pid()), want)

	c.tell("exec /bin/cat", "execs")
	c.tell("echo", "echo")
	table.settle()
	want.Comm = "cat"
	want.Exe, err = os.Readlink(fmt.Sprintf("/proc/%d/exe", c.pid()))
	must(t, err)
	check(t, table.Lookup(c.pid()), want)

	c.end()
	table.Drain()
	want.State = event.ProcessExited
	check(t, table.Lookup(c.pid()), want)
	table.settle()
	check(t, table.Lookup(c.pid()), event.Process{PID: c.pid(), UID: event.NoUID})
}

// What nobody looked at before it ended is known from its records and its end.
func TestConnectedGone(t *testing.T) {
	table := connected(t, connectorBuffer)
	path, err := exec.LookPath("true")
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	cmd := exec.Command(path)
	must(t, cmd.Run())
	table.Drain()
	pid := int32(cmd.Process.Pid)
	major, minor := unix.Major(st.Dev), unix.Minor(st.Dev)
	want := event.Process{
		PID: pid, PPID: int32(os.Getpid()), State: event.ProcessExited, Ancestors: ancestorsOf(t, int32(os.Getpid())),
	}
	want.Ancestors = append([]int32{want.PPID}, want.Ancestors...)
	check(t, table.Lookup(pid), want) // before execve or after it
	table.Opened(pid, path, major, minor, st.Ino)
	want.Comm, want.Exe = "true", path
	check(t, table.Lookup(pid), want)
	table.Lost()
	want.Comm, want.Exe = "", ""
	check(t, table.Lookup(pid), want)
	if table.history.known[pid] == nil {
		t.Fatal("it is forgotten before it is settled")
	}
	table.settle()
	if table.history.known[pid] != nil || len(table.history.dirty) > 0 || len(table.history.endings) > 0 {
		t.Error("it is not forgotten")
	}
}

// The kernel tells of an exit after the pid is free: whatever the order, one process is never the other.
func TestConnectedReuse(t *testing.T) {
	const pid, parent = 1 << 22, 1<<22 + 1 // above every pid
	say := func(h *history, messages ...message) {
		for _, m := range messages {
			h.apply(&m)
		}
	}
	fork := message{kind: kindFork, pid: pid, tgid: pid, parent: parent, forker: parent}
	comm := func(s string) message { return message{kind: kindComm, pid: pid, tgid: pid, comm: []byte(s)} }
	exit := message{kind: kindExit, pid: pid, tgid: pid}
	unknown := event.Process{PID: pid, UID: event.NoUID}
	for name, test := range map[string]struct {
		messages []message
		state    event.ProcessState
	}{
		"the exit first": {[]message{fork, comm("first"), exit, fork, comm("second")}, event.ProcessLive},
		"the fork first": {[]message{fork, comm("first"), fork, exit, comm("second")}, event.ProcessLive},
		"both are gone":  {[]message{fork, comm("first"), exit, fork, comm("second"), exit}, event.ProcessExited},
	} {
		t.Run(name, func(t *testing.T) {
			table := connected(t, connectorBuffer)
			say(table.history, test.messages...)
			check(t, table.Lookup(pid), unknown)
			table.history.idle()
			table.NextRound()
			check(t, table.Lookup(pid), unknown)
			if test.state == event.ProcessExited {
				return
			}
			table.history.idle()
			table.NextRound()
			if got := table.Lookup(pid); got.Comm != "second" || got.State != test.state || got.PPID != parent {
				t.Errorf("%+v", got)
			}
		})
	}
}

// When messages were lost, nothing is said that they could have changed; and then all is known again.
func TestConnectedOverrun(t *testing.T) {
	table := connected(t, 1)
	c := newChild(t, nil)
	table.settle()
	for range 50 {
		must(t, exec.Command("/bin/true").Run())
	}
	table.Drain()
	if n := table.Stats().Overruns; n == 0 {
		t.Fatal("no overrun")
	}
	check(t, table.Lookup(c.pid()), event.Process{PID: c.pid(), UID: event.NoUID})
	table.settle()
	if got := table.Lookup(c.pid()); got.Comm != "exe" || got.State != event.ProcessLive {
		t.Errorf("%+v", got)
	}
}

// In a pid namespace of its own, the kernel doesn't tell; /proc does.
func TestRefused(t *testing.T) { ownPIDs(t, testRefused) }

func testRefused(t *testing.T) {
	table := newTable(t)
	s := table.Connect()
	if !errors.Is(s.Connector, errNamespace) || table.Connected() {
		t.Errorf("%v", s.Connector)
	}
	if got := table.Lookup(1); got.State != event.ProcessLive || got.Comm == "" {
		t.Errorf("%+v", got)
	}
}

func TestDrainAllocates(t *testing.T) {
	table := connected(t, connectorBuffer)
	pid := int32(os.Getpid())
	table.Lookup(pid)
	if n := testing.AllocsPerRun(100, func() { table.NextRound(); table.Drain(); table.Lookup(pid) }); n != 0 {
		t.Errorf("%v allocations in a round", n)
	}
}

func TestDetails(t *testing.T) {
	for _, connect := range []bool{false, true} {
		table := newTable(t)
		table.Details = true
		if connect {
			table.Connect()
		}
		got := table.Lookup(int32(os.Getpid())).Details
		if got == nil {
			t.Fatal("no details")
		}
		if diff := cmp.Diff(os.Args, got.Cmdline); diff != "" {
			t.Error(diff)
		}
		if login := readSmall("/proc/self/loginuid"); got.GID != uint32(os.Getgid()) || fmt.Sprint(got.LoginUID) != login && login != "" {
			t.Errorf("%+v", got)
		}
		if cgroup := readSmall("/proc/self/cgroup"); !strings.Contains(cgroup, got.Cgroup) {
			t.Errorf("%q in %q", got.Cgroup, cgroup)
		}
		var st unix.Stat_t
		must(t, unix.Stat("/proc/self/stat", &st))
		if got.Start.IsZero() {
			t.Error("no start")
		}
	}
}

// A process that is about to end, of which /proc has half, stays known until its exit is told and settled.
func TestAboutToEnd(t *testing.T) {
	table := connected(t, connectorBuffer)
	c := newChild(t, nil)
	table.settle()
	table.Lookup(c.pid())
	task := table.history.known[c.pid()]
	table.history.ends(task)
	table.history.changed(task)
	table.settle()
	if table.history.known[c.pid()] != task || table.Lookup(c.pid()).State != event.ProcessExited {
		t.Error("it is forgotten")
	}
	c.end()
	table.settle()
	if table.history.known[c.pid()] != nil {
		t.Error("it is not forgotten")
	}
}
