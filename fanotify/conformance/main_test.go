package conformance_test

import (
	"os"
	"os/exec"
	"testing"

	"fanlight/internal/fstest"
)

// roleVariable makes this test binary play a role instead of running its tests: that of a process which is watched.
const roleVariable = "FANLIGHT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		fstest.Main(m)
	case asksPermission:
		askPermission(os.Args[1], os.Args[2])
	case reads:
		readOnAndOn(os.Args[1])
	case usesContent:
		useContent(os.Args[1], os.Args[2], os.Args[3])
	}
}

// actor returns the command to run this test binary in a role, with arguments.
func actor(role string, args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	// A program built with the race detector would sleep a second at its end.
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0")
	return cmd
}
