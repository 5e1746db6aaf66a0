package watch

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fanlight/event"
	"fanlight/fanotify"
	"fanlight/internal/fstest"
)

// install copies a program of the system onto a filesystem of the test.
func install(t *testing.T, program, dir string) string {
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
