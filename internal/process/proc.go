package process

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fanlight/event"
)

// reading reads /proc. Its results are borrowed until the next call.
type reading struct {
	path [48]byte
	buf  [4096]byte
	boot time.Time
}

// file returns the beginning of a file of a process, nil when it can't be read.
func (r *reading) file(pid int32, name string) []byte {
	fd, err := unix.Open(string(r.pathOf(pid, name)), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	n, err := unix.Read(fd, r.buf[:])
	unix.Close(fd)
	if err != nil {
		return nil
	}
	return r.buf[:n]
}

// link returns where a symbolic link of a process leads, nil when it can't be read.
func (r *reading) link(pid int32, name string) []byte {
	n, err := unix.Readlink(string(r.pathOf(pid, name)), r.buf[:])
	if err != nil || n == len(r.buf) {
		return nil
	}
	return r.buf[:n]
}

func (r *reading) pathOf(pid int32, name string) []byte {
	b := strconv.AppendInt(append(r.path[:0], "/proc/"...), int64(pid), 10)
	return append(append(b, '/'), name...)
}

// stat is what /proc/PID/stat says (proc_pid_stat(5)).
type stat struct {
	comm    string
	state   byte
	ppid    int32
	threads int32
	start   uint64 // in ticks since the machine started
	kernel  bool   // it is the kernel's own
	loaded  bool   // it executes a program that is in place: not in the middle of execve
}

// kernelThread is the flag of the kernel's own threads (PF_KTHREAD in include/linux/sched.h).
const kernelThread = 0x00200000

func (r *reading) stat(pid int32) (s stat, ok bool) {
	line := r.file(pid, "stat")
	// The name in parentheses may hold anything; the fields behind it don't hold parentheses.
	from, to := bytes.IndexByte(line, '('), bytes.LastIndexByte(line, ')')
	if from < 0 || to < from {
		return s, false
	}
	s.comm = string(line[from+1 : to])
	i := 3 // fields as the manual page numbers them
	for field := range bytes.FieldsSeq(line[to+1:]) {
		switch i {
		case 3:
			s.state = field[0]
		case 4:
			s.ppid = int32(number(field))
		case 9:
			s.kernel = number(field)&kernelThread != 0
		case 20:
			s.threads = int32(number(field))
		case 22:
			s.start = number(field)
		case 28:
			s.loaded = number(field) != 0
		}
		i++
	}
	return s, i > 28
}

// number returns a decimal number, 0 for anything else.
func number(b []byte) uint64 {
	n := uint64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0
		}
		n = 10*n + uint64(c-'0')
	}
	return n
}

// stateOf returns the state of a process and how many threads it has; zeros when there is none of that pid.
func (r *reading) stateOf(pid int32) (state byte, threads int32) {
	s, _ := r.stat(pid)
	return s.state, s.threads
}

// ids returns the real user and group of a process.
func (r *reading) ids(pid int32) (i ids, ok bool) {
	status := r.file(pid, "status")
	uid, ok1 := field(status, "Uid:")
	gid, ok2 := field(status, "Gid:")
	return ids{uint32(uid), uint32(gid)}, ok1 && ok2
}

// details reads what costs more.
func (r *reading) details(pid int32, s *stat) *event.Details {
	d := &event.Details{GID: event.NoUID, LoginUID: event.NoUID}
	if line := r.file(pid, "cmdline"); len(line) > 0 {
		d.Cmdline = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	}
	if login, err := strconv.ParseUint(string(r.file(pid, "loginuid")), 10, 32); err == nil {
		d.LoginUID = uint32(login)
	}
	d.Cgroup = cgroupOf(r.file(pid, "cgroup"))
	if r.boot.IsZero() {
		r.boot = bootTime()
	}
	if !r.boot.IsZero() && s.start != 0 {
		d.Start = r.boot.Add(time.Duration(s.start) * (time.Second / ticksPerSecond)).UTC()
	}
	return d
}

// ticksPerSecond is the unit of times in /proc, USER_HZ, the same on every architecture that Linux has left but alpha.
const ticksPerSecond = 100

// bootTime returns when the machine started, as the clock is set now.
func bootTime() time.Time {
	var up unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &up) != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(up.Nano())).Round(10 * time.Millisecond)
}

// readSmall returns a small file without the line break at its end, empty when it can't be read.
func readSmall(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSuffix(string(b), "\n")
}
