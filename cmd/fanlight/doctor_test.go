package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"fanlight/internal/doctor"
	"fanlight/internal/fstest"
)

var update = flag.Bool("update", false, "write the expected output of fanlight doctor anew")

// report has something of everything.
func report() *doctor.Report {
	yes := doctor.Ability{Answer: doctor.Yes}
	noPre := doctor.Ability{Answer: doctor.No, Errno: "EOPNOTSUPP", Reason: "this type of filesystem has none: ext4, xfs and btrfs have"}
	stuck := doctor.Ability{Answer: doctor.Unknown, Reason: "it did not answer within 2s"}
	return &doctor.Report{
		Kernel:    "6.18.44",
		Privilege: doctor.Privilege{InitialNamespace: true, Has: []string{"CAP_SYS_ADMIN"}, Lacks: []string{"CAP_AUDIT_WRITE"}},
		Findings: []doctor.Finding{
			{Level: doctor.Problem, Code: "no_answer", Text: "/mnt/sshfs\x1b[2J (fuse.sshfs) doesn't answer", Remedy: "see whether its server or its process still lives, or unmount it"},
			{Level: doctor.Note, Code: "no_watchdog", Text: "if a listener that decides about files hangs, the kernel doesn't log it (processes: 1)"},
		},
		Mounts: []doctor.Mount{
			{MountPoint: "/", FSType: "ext4", Source: "/dev/sda1", Device: "8:1", Watch: doctor.Watch{Form: doctor.FormFilesystem},
				Permission: yes, PreContent: yes, Handles: doctor.HandlesOpen, Inodes: 1000, AlsoAt: []string{"/a", "/b", "/c", "/d", "/e"}},
			{MountPoint: "/run", FSType: "tmpfs", Source: "tmpfs", Device: "0:21", Watch: doctor.Watch{Form: doctor.FormFilesystem},
				Permission: yes, PreContent: noPre, Handles: doctor.HandlesOpen},
			{MountPoint: "/tmp", FSType: "tmpfs", Source: "tmpfs", Device: "0:22", Watch: doctor.Watch{Form: doctor.FormFilesystem},
				Permission: yes, PreContent: noPre, Handles: doctor.HandlesOpen},
			{MountPoint: "/mnt/\xff\n", MountPointRaw: []byte("/mnt/\xff\n"), FSType: "overlay", Source: "overlay", Device: "0:30",
				Watch: doctor.Watch{Form: doctor.FormInodes, Errno: "EOPNOTSUPP", Reason: "overlayfs opens no file handles by default",
					Remedy: "mount it with index=on,nfs_export=on, or watch its upper directory"},
				Permission: yes, PreContent: noPre, Handles: doctor.HandlesIdentify},
			{MountPoint: "/mnt/sshfs\x1b[2J", Asked: "x", FSType: "fuse.sshfs", Source: "h:/", Device: "0:31", NoAnswer: true,
				Watch: doctor.Watch{Form: doctor.FormUnknown, Reason: "it did not answer within 2s"}, Permission: stuck, PreContent: stuck,
				Handles: doctor.HandlesUnknown},
		},
		Features: []doctor.Feature{
			{Name: "audit", Answer: doctor.Unknown, Since: "4.15", For: "decisions in the audit log", Reason: "it needs CAP_SYS_ADMIN"},
			{Name: "rename", Answer: doctor.Yes, Since: "5.17", For: "renames with both names in one event"},
			{Name: "report_pidfd_tid", Answer: doctor.No, Since: "7.2", For: "pidfds of threads"},
		},
		Connector: doctor.Ability{Answer: doctor.No, Reason: "it needs CAP_NET_ADMIN"},
		Limits: []doctor.Limit{
			{Name: "fs.fanotify.max_queued_events", Value: 16384, For: "events in a queue"},
			{Name: "fs.fanotify.max_user_groups", Value: 128, For: "groups of a user"},
			{Name: "fs.fanotify.max_user_marks", Value: 204992, For: "marks of a user"},
		},
		Users: []doctor.User{{UID: 0, Name: "root", Groups: 2, Marks: 1234}, {UID: 1000, Groups: 120}},
		Listeners: []doctor.Listener{
			{PID: 812, FD: 5, Comm: "scan", Exe: "/usr/sbin/scan", User: "root", Class: "class_content", CanBlock: true, Stopped: true,
				Marks: []doctor.Mark{
					{Target: "filesystem", MountPoint: "/", FSType: "ext4", Device: "8:1", Count: 1, Events: "open_perm|access_perm"},
					{Target: "inode", MountPoint: "/run", FSType: "tmpfs", Device: "0:21", Count: 1200, Events: "0", Ignored: "open_perm"},
					{Target: "inode", Device: "0:99", Count: 1, Events: "create"},
					{Target: "mntns", Device: "mnt:[4026531841]", Count: 1, Events: "mnt_attach|mnt_detach"},
				}},
			{PID: 900, FD: 3, UID: 1000, Class: "class_notif", Marks: []doctor.Mark{}},
		},
		Unreadable: []int{1, 2},
	}
}

func TestDoctorOutput(t *testing.T) {
	var asJSON bytes.Buffer
	if err := writeReportJSON(&asJSON, report()); err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{
		"report.txt":  newReportText(false).append(nil, report()),
		"report.json": asJSON.Bytes(),
	} {
		file := filepath.Join("testdata", "doctor", name)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got; -update writes it):\n%s", name, diff)
		}
	}
}

// No name drives the terminal, and the lines are no longer than they have to be.
func TestDoctorTextIsSafe(t *testing.T) {
	text := string(newReportText(false).append(nil, report()))
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > reportWidth {
			t.Errorf("%d columns: %s", n, line)
		}
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == utf8.RuneError }) {
			t.Errorf("not printable: %q", line)
		}
		if line != strings.TrimRight(line, " ") {
			t.Errorf("blanks at the end: %q", line)
		}
	}
	// Color changes nothing but the color.
	colored := string(newReportText(true).append(nil, report()))
	for _, color := range []string{noColor, lossColor, goneColor, newColor, movedColor, changeColor, readColor, headColor} {
		colored = strings.ReplaceAll(colored, color, "")
	}
	if diff := cmp.Diff(text, colored); diff != "" {
		t.Errorf("without its colors (-want +got):\n%s", diff)
	}
}

// A FUSE filesystem whose process is stopped holds nothing up.
func TestDoctorLeavesAHangingFilesystem(t *testing.T) {
	dir := fstest.New(t, fstest.FUSE)
	fuse := processOf(t, "bindfs", dir)
	if err := unix.Kill(fuse, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(fuse, unix.SIGCONT) //nolint:errcheck // The end of the filesystem would tell.
	var out bytes.Buffer
	cmd := newCommand("doctor", "--json", dir)
	cmd.Stdout = &out
	p, err := startProgram(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	status, err := p.wait()
	if err != nil {
		t.Fatal(err)
	}
	if status != exitFailed || !strings.Contains(out.String(), `"no_answer": true`) {
		t.Errorf("status %d: %s", status, out.String())
	}
}

// processOf returns the process whose command line begins with that program and has that argument.
func processOf(t *testing.T, program, argument string) int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, _ := os.ReadFile(file) // it may have ended
		args := strings.Split(string(line), "\x00")
		if args[0] == program && slices.Contains(args, argument) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no process %s ... %s", program, argument)
	return 0
}
