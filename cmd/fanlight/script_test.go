package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"fanlight/internal/fstest"
)

func TestMain(m *testing.M) {
	testscript.Main(fstest.M{Tests: m}, map[string]func(){"fanlight": main})
}

// TestScripts runs testdata/script. Beside testscript's own commands a script has these; what the program writes is
// in the files out and err:
//
//	start ARG...               starts fanlight in the background and waits until it says that it is ready
//	signal NAME                sends it the signal INT, TERM or HUP
//	ends STATUS                waits for its end and compares the exit status
//	run STATUS ARG...          runs fanlight until its end and compares the exit status
//	run-as-nobody STATUS ARG.. the same as a user who may do nothing
//	await FILE                 waits until the file exists
//
// $D is a fresh tmpfs, for what the scripts run too.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			tb, ok := env.T().(testing.TB)
			if !ok {
				return errors.New("not run by go test")
			}
			env.Setenv("D", fstest.New(tb, fstest.Tmpfs))
			env.Values[scriptKey{}] = new(script)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start":  func(ts *testscript.TestScript, _ bool, args []string) { scriptOf(ts).start(ts, args) },
			"signal": func(ts *testscript.TestScript, _ bool, args []string) { scriptOf(ts).signal(ts, args[0]) },
			"ends":   func(ts *testscript.TestScript, _ bool, args []string) { scriptOf(ts).ends(ts, args[0]) },
			"run": func(ts *testscript.TestScript, _ bool, args []string) {
				scriptOf(ts).run(ts, args[0], newCommand(args[1:]...))
			},
			"run-as-nobody": func(ts *testscript.TestScript, _ bool, args []string) {
				cmd := newCommand(args[1:]...)
				cmd.SysProcAttr.Credential = &syscall.Credential{Uid: fstest.Nobody, Gid: fstest.Nobody}
				scriptOf(ts).run(ts, args[0], cmd)
			},
			"await": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(awaitFile(ts.MkAbs(args[0])))
			},
		},
	})
}

// script is what the commands of one script share: the program that it runs.
type script struct{ program *program }

type scriptKey struct{}

func scriptOf(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

func (s *script) start(ts *testscript.TestScript, args []string) {
	s.launch(ts, newCommand(args...))
	ts.Check(s.program.awaitReady())
}

func (s *script) run(ts *testscript.TestScript, status string, cmd *exec.Cmd) {
	s.launch(ts, cmd)
	s.ends(ts, status)
}

// launch starts cmd in the directory, if its user may enter that, and with the environment of the script.
func (s *script) launch(ts *testscript.TestScript, cmd *exec.Cmd) {
	out, err := os.Create(ts.MkAbs("out"))
	ts.Check(err)
	defer out.Close()
	if cmd.SysProcAttr.Credential == nil {
		cmd.Dir = ts.MkAbs(".")
	}
	for _, name := range []string{"PATH", "TZ", "TERM", "NO_COLOR", "GORACE", "D"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	cmd.Stdout = out
	s.program, err = startProgram(cmd)
	ts.Check(err)
	ts.Defer(s.program.kill)
}

func (s *script) signal(ts *testscript.TestScript, name string) {
	ts.Check(s.program.cmd.Process.Signal(unix.SignalNum("SIG" + name)))
}

func (s *script) ends(ts *testscript.TestScript, status string) {
	got, err := s.program.wait()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("err"), []byte(s.program.stderr.String()), 0o600))
	if strconv.Itoa(got) != status {
		out, _ := os.ReadFile(ts.MkAbs("out")) // for the message only
		ts.Fatalf("exit status %d, want %s\n[stdout]\n%s[stderr]\n%s", got, status, out, s.program.stderr.String())
	}
}
