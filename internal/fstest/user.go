package fstest

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Nobody is the user and group id that [Unprivileged] runs tests with.
const Nobody = 65534

// In the environment of a process that Unprivileged started: the test that it is to run, and what prepare returned.
const (
	userTestVariable = "FANLIGHT_TEST_UNPRIVILEGED"
	preparedVariable = "FANLIGHT_TEST_PREPARED"
)

// Unprivileged runs test in a process of its own, as user and group [Nobody], without other groups and without any
// capability. Before that, prepare runs as root; what it returns, usually a directory made by [New], is handed to
// test. A nil prepare returns "".
//
// It has to be the first thing that a test does, because the other process comes through the same lines. Whether test
// passed, failed or was skipped holds for t; its output is shown when it failed.
func Unprivileged(t *testing.T, prepare func(t *testing.T) string, test func(t *testing.T, prepared string)) {
	t.Helper()
	if os.Getenv(userTestVariable) == t.Name() {
		test(t, os.Getenv(preparedVariable))
		return
	}
	needNamespace(t)
	prepared := ""
	if prepare != nil {
		prepared = prepare(t)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.v", "-test.run="+onlyThis(t.Name()))
	if deadline, ok := t.Deadline(); ok {
		cmd.Args = append(cmd.Args, "-test.timeout="+time.Until(deadline).String())
	}
	cmd.Env = append(os.Environ(), userTestVariable+"="+t.Name(), preparedVariable+"="+prepared)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: Nobody, Gid: Nobody},
		Pdeathsig:  syscall.SIGKILL,
	}
	// The kernel sends Pdeathsig when the thread ends that started the process, not the whole parent.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil:
		t.Fatalf("as user %d: %v\n%s", Nobody, err, out)
	case strings.Contains(string(out), "--- SKIP: "+t.Name()+" ("):
		t.Skipf("as user %d:\n%s", Nobody, out)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()+" ("):
		t.Fatalf("as user %d the test didn't run:\n%s", Nobody, out)
	}
}

// onlyThis returns the pattern for -test.run that matches the test or subtest of that name alone.
func onlyThis(name string) string {
	elements := strings.Split(name, "/")
	for i, e := range elements {
		elements[i] = "^" + regexp.QuoteMeta(e) + "$"
	}
	return strings.Join(elements, "/")
}
