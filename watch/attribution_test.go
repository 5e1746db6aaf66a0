package watch

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/fstest"
	"fanlight/internal/mounts"
)

// install copies a program of the system onto a filesystem of the test.
func install(t testing.TB, program, dir string) string {
	t.Helper()
	from, err := exec.LookPath(program)
	must(t, err)
	content, err := os.ReadFile(from)
	must(t, err)
	to := filepath.Join(dir, program)
	must(t, os.WriteFile(to, content, 0o755))
	return to
}

// doers tells who did what to files below a directory, one line for each event and process: "comm exe state: path".
func doers(base string, events []event.Event) []string {
	var lines []string
	for _, e := range events {
		if e.Mask&^executes == 0 || e.PID == int32(os.Getpid()) {
			continue
		}
		line := "nobody"
		if p := e.Process; p != nil {
			line = fmt.Sprintf("%s %s", orNone(p.Comm), orNone(relative(base, p.Exe)))
		}
		if line += ": " + relative(base, e.Path); len(lines) == 0 || lines[len(lines)-1] != line {
			lines = append(lines, line)
		}
	}
	return lines
}

func orNone(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// script is run by a shell that stands on the watched filesystem, in its directory.
func (w *watching) run(script string) {
	w.t.Helper()
	cmd := exec.Command(filepath.Join(w.base, "sh"), "-c", script)
	cmd.Dir = w.base
	cmd.Env = []string{"PATH=" + w.base}
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

func TestAttribution(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		for _, program := range []string{"sh", "touch", "env", "cp"} {
			install(t, program, dir)
		}
		must(t, os.Symlink("touch", dir+"/other"))
		must(t, os.WriteFile(dir+"/script", []byte("#!"+dir+"/sh\n: > by-script\n"), 0o755))
		must(t, os.WriteFile(dir+"/nothing", []byte(": > by-nothing\n"), 0o755))
		for _, test := range []struct {
			name, script string
			want         []string
		}{
			{"a short life", "touch f", []string{"touch touch: f"}},
			{"another name", "other f; :", []string{"other touch: f"}},
			{"a fork that writes", "(: > f); :", []string{"sh sh: f"}},
			{"before execve and after", "touch f > out; :", []string{"sh sh: out", "touch touch: f"}},
			{"script", "./script; :", []string{"script sh: by-script"}},
			{"without #!", "./nothing; :", []string{"sh -: by-nothing"}},
			{"chain", "exec env touch f", []string{"touch touch: f"}},
			{"failed execs", "PATH=$PATH/no:$PATH; no-such-program; touch f; :", []string{"touch touch: f"}},
		} {
			t.Run(test.name, func(t *testing.T) {
				for _, name := range []string{"f", "out", "by-script", "by-nothing"} {
					os.Remove(dir + "/" + name)
				}
				for _, mask := range []fanotify.Mask{fanotify.Create, everything} {
					w := late(t, dir, Config{Roots: []string{dir}, Events: mask})
					w.run(test.script)
					got := doers(dir, w.step())
					if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
						t.Errorf("mask %v: got %q, want %q", mask, got, test.want)
					}
					for _, name := range []string{"f", "out", "by-script", "by-nothing"} {
						os.Remove(dir + "/" + name)
					}
				}
			})
		}
	})
}

// Short-lived processes at full speed, beside each other: every file has the program and the parent that made it.
func TestAttributionAtFullSpeed(t *testing.T) {
	dir := fstest.New(t, "tmpfs")
	for _, program := range []string{"sh", "touch"} {
		install(t, program, dir)
	}
	const touches, forks, shells = 1000, 300, 3
	w := start(t, dir, Config{Roots: []string{dir}, Events: fanotify.Create})
	pids := map[string]int32{}
	var running []*exec.Cmd
	for i := range shells {
		name := string(rune('a' + i))
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		script := fmt.Sprintf(`i=0; while [ $i -lt %d ]; do touch t$i; i=$((i+1)); [ $i -gt %d ] || (: > f$i); done`, touches, forks)
		cmd := exec.Command(filepath.Join(dir, "sh"), "-c", script)
		cmd.Dir, cmd.Env = filepath.Join(dir, name), []string{"PATH=" + dir}
		must(t, cmd.Start())
		pids[name] = int32(cmd.Process.Pid)
		running = append(running, cmd)
	}
	go func() {
		for _, cmd := range running {
			cmd.Wait() //nolint:errcheck // What it did is counted.
		}
		w.Stop()
	}()
	seen, wrong, absent := 0, 0, 0
	for batch, err := range w.Events(t.Context()) {
		must(t, err)
		for _, e := range batch {
			shell, name, ok := strings.Cut(relative(dir, e.Path), "/")
			if !ok {
				continue
			}
			seen++
			want := event.Process{PID: e.PID, PPID: pids[shell], Comm: "touch", Exe: dir + "/touch"}
			if name[0] == 'f' {
				want.Comm, want.Exe = "sh", dir+"/sh"
			}
			p := e.Process
			if got := (event.Process{PID: p.PID, PPID: p.PPID, Comm: p.Comm, Exe: p.Exe}); got.PPID != want.PPID ||
				got.Comm != want.Comm || got.Exe != want.Exe || p.UID != 0 || p.State == event.ProcessUnknown {
				if wrong++; wrong < 10 {
					t.Errorf("%s: %+v, want %+v", e.Path, *p, want)
				}
				if p.Exe == "" {
					absent++
				}
			}
		}
	}
	if want := shells * (touches + forks); seen != want || wrong > 0 {
		t.Errorf("%d of %d files seen, %d with a wrong process, of these %d without a program; %+v", seen, want, wrong, absent, w.Stats())
	}
}

// compile builds a program of testdata into a directory.
func compile(t *testing.T, name, dir string) {
	t.Helper()
	out, err := exec.Command("cc", "-Wall", "-Werror", "-O1", "-pthread", "-o", filepath.Join(dir, name), "testdata/"+name+".c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// truth says what is wrong about the process of an event of a file whose name says who makes it. What is absent is not
// wrong.
func truth(dir string, e *event.Event) string {
	if e.Mask&^executes == 0 || e.Process == nil {
		return ""
	}
	parts := strings.Split(filepath.Base(e.Path), ".")
	if len(parts) < 3 {
		return ""
	}
	comm, exe, p := parts[1], strings.Join(parts[2:], "."), e.Process
	if p.Comm != "" && comm != "-" && p.Comm != comm || p.Exe != "" && exe != "-" && p.Exe != dir+"/"+exe {
		return fmt.Sprintf("%s: made by %q of %q, state %v", relative(dir, e.Path), p.Comm, p.Exe, p.State)
	}
	var st unix.Stat_t
	if err := unix.Lstat(e.Path, &st); err != nil || p.UID != event.NoUID && p.UID != st.Uid {
		return fmt.Sprintf("%s: of user %d, made by %d (%v)", relative(dir, e.Path), st.Uid, p.UID, err)
	}
	return ""
}

// However a process becomes another, its files are never another's. What stays open is known.
func TestShapes(t *testing.T) {
	dir := fstest.New(t, "ext4")
	for _, program := range []string{"sh", "touch", "env"} {
		install(t, program, dir)
	}
	compile(t, "shapes", dir)
	must(t, os.Chmod(dir, 0o777))
	overlay := fstest.New(t, "overlay")
	install(t, "touch", overlay)
	for _, test := range []struct{ name, script, late string }{
		{"vfork", "./shapes vfork; :", "touch touch: 0.touch.touch"},
		{"execve in a thread", "./shapes thread-exec; :", "- -: 0.shapes.shapes, touch touch: 1.touch.touch"},
		{"fork in a thread", "./shapes thread-fork; :", "thread shapes: 0.thread.shapes, shapes shapes: 1.shapes.shapes"},
		{"the first thread ends", "./shapes leader-ends; :", "shapes shapes: 0.shapes.shapes"},
		{"memfd", "./shapes memfd; :", "- -: 0.shapes.shapes, - -: 1.-.-"},
		{"failed execve", "./shapes failed-exec; :", "shapes shapes: 0.shapes.shapes, shapes shapes: 1.shapes.shapes"},
		{"a child of the parent", "./shapes parent; :", "shapes -: 0.shapes.shapes"},
		{"another name", "./shapes name; :", "- -: 0.-.shapes, - -: 1.-.shapes, touch touch: 2.touch.touch"},
		{"another user", "./shapes user; :", "shapes shapes: 0.shapes.shapes, shapes shapes: 1.shapes.shapes"},
		{"chain", "./shapes chain; :", "- -: 0.shapes.shapes, touch touch: 1.touch.touch"},
		{"overlay", overlay + "/touch 0.touch.-; :", "- -: 0.touch.-"},
		{"not marked", "/usr/bin/touch 0.touch.-; :", "- -: 0.touch.-"},
		{"one pid", "./shapes reuse; :", ""},
		{"a pid namespace", "/usr/bin/unshare -pf ./touch 0.touch.touch; :", "touch touch: 0.touch.touch"},
	} {
		t.Run(test.name, func(t *testing.T) {
			clean := func() {
				made, err := filepath.Glob(dir + "/[0-9]*.*")
				must(t, err)
				for _, path := range made {
					must(t, os.Remove(path))
				}
			}
			for _, mask := range []fanotify.Mask{fanotify.Create, everything} {
				w := late(t, dir, Config{Roots: []string{dir}, Events: mask})
				w.run(test.script)
				events := w.step()
				for i := range events {
					if wrong := truth(dir, &events[i]); wrong != "" {
						t.Errorf("read late, %v: %s", mask, wrong)
					}
				}
				if n := len(doers(dir, events)); n == 0 || test.late == "" && n < 20 {
					t.Errorf("read late: %d events", n)
				}
				if mask == fanotify.Create && test.late != "" {
					if got := strings.Join(doers(dir, events), ", "); got != test.late {
						t.Errorf("read late:\n got %s\nwant %s", got, test.late)
					}
				}
				clean()
				l := live(t, dir, Config{Roots: []string{dir}, Events: mask})
				l.run(test.script)
				events = l.stop()
				if n := len(doers(dir, events)); n == 0 || test.late == "" && n < 20 {
					t.Errorf("read at once: %d events", n)
				}
				for i := range events {
					if wrong := truth(dir, &events[i]); wrong != "" {
						t.Errorf("read at once, %v: %s", mask, wrong)
					}
				}
				clean()
			}
		})
	}
}

// Programs from a filesystem that is not watched are named as they are called now, whatever moves there unseen.
func TestProgramsElsewhere(t *testing.T) {
	fstest.Each(t, func(t *testing.T, dir string) {
		install(t, "sh", dir)
		other := fstest.New(t, "ext4")
		must(t, os.Mkdir(other+"/bin", 0o755))
		install(t, "touch", other+"/bin")
		w := late(t, dir, Config{Roots: []string{dir}, Events: fanotify.Create})
		table, err := mounts.Read()
		must(t, err)
		i := slices.IndexFunc(table.Mounts, func(m mounts.Mount) bool { return m.Point == other })
		w.main.markPrograms([]place{{path: other, isDir: true, mount: table.Mounts[i]}})

		w.run(other + "/bin/touch f > out; :")
		compare(t, []string{"sh sh: out", "touch " + other + "/bin/touch: f"}, doers(dir, w.step()))
		must(t, os.Rename(other+"/bin", other+"/sbin"))
		w.run(other + "/sbin/touch g; :")
		compare(t, []string{"touch " + other + "/sbin/touch: g"}, doers(dir, w.step()))
		must(t, os.Rename(other+"/sbin/touch", other+"/renew"))
		w.run(other + "/renew h; :")
		compare(t, []string{"renew " + other + "/renew: h"}, doers(dir, w.step()))
	})
}

// What was there before the watch is known while it lives. When it has ended before anybody asked, its name is known
// from its end.
func TestOlderThanTheWatch(t *testing.T) {
	dir := fstest.New(t, "tmpfs")
	install(t, "sh", dir)
	for _, ends := range []bool{false, true} {
		cmd := exec.Command(filepath.Join(dir, "sh"), "-c", "read line; : > f; echo done; read line")
		cmd.Dir = dir
		in, err := cmd.StdinPipe()
		must(t, err)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		w := late(t, dir, Config{Roots: []string{dir}, Events: fanotify.Create})
		fmt.Fprintln(in, "go")
		if _, err := out.Read(make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
		want := []string{"sh sh: f"}
		if ends {
			fmt.Fprintln(in, "end")
			must(t, cmd.Wait())
			want = []string{"sh -: f"}
		}
		compare(t, want, doers(dir, w.step()))
		if !ends {
			in.Close()
			must(t, ignoreExit(cmd.Wait()))
		}
		must(t, os.Remove(dir+"/f"))
	}
}

// ignoreExit returns an error that is not about a command's exit status.
func ignoreExit(err error) error {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil
	}
	return err
}
