package fstest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnprivileged(t *testing.T) {
	for _, kind := range []string{Tmpfs, "it's^a.(name)"} { // names are no patterns
		t.Run(kind, func(t *testing.T) {
			Unprivileged(t, func(t *testing.T) string {
				dir := New(t, Tmpfs)
				if err := os.WriteFile(filepath.Join(dir, "secret"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				return dir
			}, testAsNobody)
		})
	}
}

func testAsNobody(t *testing.T, dir string) {
	if os.Getuid() != Nobody || os.Geteuid() != Nobody || os.Getgid() != Nobody || os.Getegid() != Nobody {
		t.Errorf("ids %d %d %d %d", os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid())
	}
	if groups, err := os.Getgroups(); err != nil || len(groups) != 0 {
		t.Errorf("groups %v, %v", groups, err)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"CapPrm", "CapEff", "CapAmb"} {
		if !strings.Contains(string(status), set+":\t0000000000000000\n") {
			t.Errorf("%s is not empty:\n%s", set, status)
		}
	}
	if _, err := os.ReadDir(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Open(filepath.Join(dir, "secret")); !os.IsPermission(err) {
		t.Errorf("opens root's file: %v", err)
	}
	if got := record(t, func(t testing.TB) { New(t, Tmpfs) }); !strings.Contains(got, "run as root") {
		t.Errorf("New says %q", got)
	}
}

// outcomeVariable says how TestOutcome is to end.
const outcomeVariable = "FANLIGHT_TEST_OUTCOME"

// TestOutcome passes by itself; TestUnprivilegedOutcome makes it end in other ways.
func TestOutcome(t *testing.T) {
	Unprivileged(t, nil, func(t *testing.T, prepared string) {
		switch os.Getenv(outcomeVariable) {
		case "fail":
			t.Error("for this reason")
		case "skip":
			t.Skip("for this reason")
		case "exit":
			os.Exit(0)
		}
		if prepared != "" {
			t.Errorf("prepared %q by nobody", prepared)
		}
	})
}

func TestUnprivilegedOutcome(t *testing.T) {
	for outcome, report := range map[string]string{
		"pass": "--- PASS: TestOutcome (",
		"fail": "for this reason",
		"skip": "--- SKIP: TestOutcome (",
		"exit": "as user 65534 the test didn't run",
	} {
		cmd := exec.Command("/proc/self/exe", "-test.v", "-test.run=^TestOutcome$")
		cmd.Env = append(os.Environ(), outcomeVariable+"="+outcome)
		out, err := cmd.CombinedOutput()
		if failed := err != nil; failed != (outcome == "fail" || outcome == "exit") {
			t.Errorf("%s: %v\n%s", outcome, err, out)
		}
		if !strings.Contains(string(out), report) {
			t.Errorf("%s: output without %q:\n%s", outcome, report, out)
		}
	}
}
