package watch

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// operation is what somebody does to files, and what is reported of it.
type operation struct {
	name   string
	before string                 // a line for the shell, before the watch
	shell  string                 // a line for the shell
	do     func(dir string) error // or a function
	all    []string               // with every event asked for
	usual  []string               // with Changes
	only   []string               // the filesystems that can do it; all of them when empty
	differ map[string][2][]string // all and usual on filesystems of other habits
}

// operations are the rows of the kernel's table of what each operation reports.
var operations = []operation{
	{
		name: "make empty", shell: ": > new",
		all:   []string{"close_write|open|create new"},
		usual: []string{"close_write|create new"},
	},
	{
		name: "make", shell: "echo x > new",
		all:   []string{"modify|close_write|open|create new"},
		usual: []string{"modify|close_write|create new"},
	},
	{
		name: "append", before: "echo x > f", shell: "echo x >> f",
		all:   []string{"modify|close_write|open f"},
		usual: []string{"modify|close_write f"},
	},
	{
		name: "empty", before: "echo x > f", shell: ": > f",
		all:   []string{"modify|close_write|open f"},
		usual: []string{"modify|close_write f"},
	},
	{
		name: "touch", before: ": > f", shell: "touch f",
		all:   []string{"attrib|close_write|open f"},
		usual: []string{"attrib|close_write f"},
	},
	{
		name: "read", before: "echo x > f", shell: "cat f",
		all: []string{"access|close_nowrite|open f"},
	},
	{
		name: "read nothing", before: ": > f", shell: "cat f",
		all: []string{"close_nowrite|open f"},
	},
	{
		name: "look", before: "echo x > f; ln -s f l",
		shell: "stat f; test -e f; readlink l; cat absent; mv absent b; ls -d f",
	},
	{
		name: "open a path only", before: ": > f",
		do: func(dir string) error {
			fd, err := unix.Open(dir+"/f", unix.O_PATH|unix.O_CLOEXEC, 0)
			if err == nil {
				err = unix.Close(fd)
			}
			return err
		},
	},
	{
		name: "attributes", before: ": > f",
		do: func(dir string) error {
			f := dir + "/f"
			times := []unix.Timespec{{Sec: 1}, {Sec: 1}}
			return first(
				unix.Chmod(f, 0o600),
				unix.Chown(f, 1, 1),
				unix.UtimesNanoAt(unix.AT_FDCWD, f, times, 0),
				unix.Setxattr(f, "trusted.x", []byte("y"), 0),
				unix.Removexattr(f, "trusted.x"),
			)
		},
		all:   []string{"attrib f"},
		usual: []string{"attrib f"},
	},
	{
		name: "link", before: ": > a", shell: "ln a b",
		all:   []string{"create b"},
		usual: []string{"create b"},
	},
	{
		name: "unlink one of two", before: ": > a; ln a b", shell: "rm b",
		all:   []string{"delete b"},
		usual: []string{"delete b"},
	},
	{
		name: "unlink", before: ": > f", shell: "rm f",
		all:   []string{"attrib|delete_self f", "delete f"},
		usual: []string{"delete f"},
	},
	{
		name: "special files", shell: "ln -s x l; mkfifo p; mknod d c 1 3",
		all:   []string{"create l", "create p", "create d"},
		usual: []string{"create l", "create p", "create d"},
	},
	{
		name: "bind a socket",
		do: func(dir string) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/s"})
		},
		all:   []string{"create s"},
		usual: []string{"create s"},
	},
	{
		name: "mkdir -p", shell: "mkdir -p a/b",
		all:   []string{"create|ondir a", "close_nowrite|open|ondir a", "create|ondir a/b"},
		usual: []string{"create|ondir a", "create|ondir a/b"},
	},
	{
		name: "rmdir", before: "mkdir d", shell: "rmdir d",
		all:   []string{"delete_self|ondir d", "delete|ondir d"},
		usual: []string{"delete|ondir d"},
	},
	{
		name: "rename", before: ": > a", shell: "mv a b",
		all:   []string{"rename a -> b", "moved_from a", "moved_to b", "move_self b"},
		usual: []string{"rename a -> b"},
	},
	{
		name: "rename over", before: ": > a; : > b", shell: "mv a b",
		all:   []string{"rename a -> b", "moved_from a", "moved_to b", "move_self b"},
		usual: []string{"rename a -> b"},
	},
	{
		name: "rename a directory", before: "mkdir -p d1/e; : > d1/e/f", shell: "mv d1 d2",
		all:   []string{"rename|ondir d1 -> d2", "moved_from|ondir d1", "moved_to|ondir d2", "move_self|ondir d2"},
		usual: []string{"rename|ondir d1 -> d2"},
	},
	{
		name: "exchange", before: ": > a; : > b",
		do: func(dir string) error {
			return unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/b", unix.RENAME_EXCHANGE)
		},
		all: []string{
			"rename a -> b", "moved_from a", "moved_to b", "move_self b",
			"rename b -> a", "moved_from b", "moved_to a", "move_self a",
		},
		usual: []string{"rename a -> b", "rename b -> a"},
	},
	{
		name: "whiteout", before: ": > a",
		do: func(dir string) error {
			return unix.Renameat2(unix.AT_FDCWD, dir+"/a", unix.AT_FDCWD, dir+"/b", unix.RENAME_WHITEOUT)
		},
		all:   []string{"rename a -> b", "moved_from a", "moved_to b", "move_self b"},
		usual: []string{"rename a -> b"},
	},
	{
		// The removal merges into what the copy did, and so comes before the self event.
		name: "to another filesystem", before: "echo x > f", shell: "mv f $OTHER",
		all:   []string{"access|close_nowrite|open|delete f"},
		usual: []string{"delete f"},
	},
	{
		name: "copy", before: "echo x > f", shell: "cp f g",
		all:   []string{"access|close_nowrite|open f", "modify|close_write|open|create g"},
		usual: []string{"modify|close_write|create g"},
	},
	{
		// cp clones where the filesystem can, and tells no empty file from another then.
		name: "copy nothing", before: ": > f", shell: "cp f g",
		all:   []string{"close_nowrite|open f", "close_write|open|create g"},
		usual: []string{"close_write|create g"},
		differ: map[string][2][]string{
			fstest.XFS: {
				{"access|close_nowrite|open f", "modify|close_write|open|create g"},
				{"modify|close_write|create g"},
			},
			fstest.Btrfs: {
				{"access|close_nowrite|open f", "modify|close_write|open|create g"},
				{"modify|close_write|create g"},
			},
		},
	},
	{
		name: "clone", before: "echo x > f; : > g", shell: "cp --reflink=always f g", only: []string{fstest.XFS, fstest.Btrfs},
		all:   []string{"access|close_nowrite|open f", "modify|close_write|open g"},
		usual: []string{"modify|close_write g"},
	},
	{
		name: "edit", before: "echo x > f", shell: "sed -i s/x/y/ f",
		all: []string{
			"access|close_nowrite|open f", "modify|attrib|close_write|open|moved_from|create sedXXXXXX",
			"rename sedXXXXXX -> f", "moved_to f", "move_self f",
		},
		usual: []string{"modify|attrib|close_write|create sedXXXXXX", "rename sedXXXXXX -> f"},
	},
	{
		name: "execute", before: "cp /bin/true t", shell: "exec ./t",
		all: []string{"access|close_nowrite|open|open_exec t"},
	},
	{
		name: "execute a script", before: "printf '#!/bin/true\n' > s; chmod +x s", shell: "exec ./s",
		all: []string{"access|close_nowrite|open|open_exec s"},
	},
	{
		name: "have a script read", before: "printf 'exit 0\n' > s", shell: "exec sh s",
		all: []string{"access|close_nowrite|open s"},
	},
	{
		name: "map", before: "printf 12345678 > f", do: writeThroughMapping,
		all:   []string{"close_write|open f"},
		usual: []string{"close_write f"},
	},
	{
		name: "allocate", before: ": > f", shell: "fallocate -l 8192 f",
		all:   []string{"modify|close_write|open f"},
		usual: []string{"modify|close_write f"},
	},
	{
		name: "truncate", before: "echo x > f",
		do:    func(dir string) error { return unix.Truncate(dir+"/f", 1) },
		all:   []string{"modify f"},
		usual: []string{"modify f"},
	},
	{
		name: "copy in the kernel", before: "echo x > f; : > g; : > h", do: copyInKernel,
		all: []string{
			"access|close_nowrite|open f", "modify|close_write|open g", "modify|close_write|open h",
		},
		usual: []string{"modify|close_write g", "modify|close_write h"},
	},
	{
		name: "write nothing", before: ": > f",
		do: func(dir string) error {
			fd, err := unix.Open(dir+"/f", unix.O_WRONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			_, err = unix.Write(fd, nil)
			return first(err, unix.Flock(fd, unix.LOCK_EX), unix.Fsync(fd), unix.Close(fd))
		},
		all:   []string{"close_write|open f"},
		usual: []string{"close_write f"},
	},
	{
		name: "list", before: "mkdir d; : > d/f", shell: "ls d",
		all: []string{"access|close_nowrite|open|ondir d"},
	},
	{
		name:  "make without a name",
		do:    func(dir string) error { return makeNameless(dir, "") },
		all:   []string{"modify|close_write|open #"},
		usual: []string{"modify|close_write #"},
	},
	{
		name:  "make, then name",
		do:    func(dir string) error { return makeNameless(dir, "f") },
		all:   []string{"modify|close_write|open #", "create f"},
		usual: []string{"modify|close_write #", "create f"},
	},
	{
		name: "write after unlink", before: ": > f",
		do: func(dir string) error {
			fd, err := unix.Open(dir+"/f", unix.O_WRONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			err = unix.Unlink(dir + "/f")
			_, werr := unix.Write(fd, []byte("x"))
			return first(err, werr, unix.Close(fd))
		},
		all:   []string{"modify|close_write|open|delete f"},
		usual: []string{"modify|close_write|delete f"},
	},
}

func TestOperations(t *testing.T) {
	for _, kind := range fstest.Kinds {
		t.Run(kind, func(t *testing.T) {
			dir := fstest.New(t, kind)
			t.Setenv("OTHER", fstest.New(t, fstest.Tmpfs))
			for i, op := range operations {
				if op.only != nil && !slices.Contains(op.only, kind) {
					continue
				}
				t.Run(op.name, func(t *testing.T) {
					all, usual := op.all, op.usual
					if d, ok := op.differ[kind]; ok {
						all, usual = d[0], d[1]
					}
					test := func(name string, mask fanotify.Mask, want []string) {
						at := ground(t, dir, filepath.Join(string(rune('a'+i/26))+string(rune('a'+i%26)), name))
						shell(t, at, op.before)
						w := late(t, at, Config{Roots: []string{at}, Events: mask})
						if op.do != nil {
							must(t, op.do(at))
						} else {
							shell(t, at, op.shell)
						}
						compare(t, want, anonymous(w.tell(w.stop())))
					}
					test("all", everything, all)
					test("usual", 0, usual)
				})
			}
		})
	}
}

// chosen are the parts of a name that the kernel or a program chose.
var chosen = regexp.MustCompile(`#[0-9]+|sed[A-Za-z0-9]{6}`)

// anonymous takes out what is chosen at random.
func anonymous(lines []string) []string {
	for i, line := range lines {
		lines[i] = chosen.ReplaceAllStringFunc(line, func(name string) string {
			if name[0] == '#' {
				return "#"
			}
			return "sedXXXXXX"
		})
	}
	return lines
}

// shell runs a line in a directory, whatever becomes of it.
func shell(t *testing.T, dir, line string) {
	t.Helper()
	if line == "" {
		return
	}
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if failed := new(exec.ExitError); err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	t.Logf("%s: %s%v", line, out, err)
}

// first returns the first error.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func writeThroughMapping(dir string) error {
	f, err := os.OpenFile(dir+"/f", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	b[0] = 'x'
	return first(unix.Msync(b, unix.MS_SYNC), unix.Munmap(b), f.Close())
}

// makeNameless makes a file without a name, writes to it, and gives it the name unless that is empty.
func makeNameless(dir, name string) error {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte("x")); err != nil || name == "" {
		return err
	}
	return unix.Linkat(fd, "", unix.AT_FDCWD, dir+"/"+name, unix.AT_EMPTY_PATH)
}

// copyInKernel copies f by sendfile(2) to g and by copy_file_range(2) to h.
func copyInKernel(dir string) error {
	from, err := unix.Open(dir+"/f", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	g, err := unix.Open(dir+"/g", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(g)
	h, err := unix.Open(dir+"/h", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(h)
	_, sent := unix.Sendfile(g, from, new(int64), 2)
	_, copied := unix.CopyFileRange(from, new(int64), h, nil, 2, 0)
	return first(sent, copied)
}
