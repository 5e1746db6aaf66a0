package doctor

import (
	"errors"
	"io/fs"
	"time"

	"fanlight/fanotify"
)

// DefaultPatience is how long a mount may take to answer.
const DefaultPatience = 2 * time.Second

// Config says what to examine.
type Config struct {
	// Paths are where to look: the mounts at and below them. Without any it is every mounted filesystem but the kernel's
	// own pseudo filesystems, as fanlight watch takes them.
	Paths []string
	// Patience is how long a mount may take to answer. 0 means DefaultPatience.
	Patience time.Duration
}

// Examine finds out what works. It needs /proc but no privilege, and says what it could not find out. Where filesystems
// don't answer it blocks for Patience, once for each such path and for every eight such mounts, and leaves a goroutine
// behind for each, which ends when the filesystem answers. The error is that of a path that doesn't exist, or of /proc.
func Examine(config Config) (*Report, error) {
	patience := config.Patience
	if patience == 0 {
		patience = DefaultPatience
	}
	mounted, err := readTable()
	if err != nil {
		return nil, err
	}
	chosen, err := mounted.choose(config.Paths, patience)
	if err != nil {
		return nil, err
	}
	r := &Report{Kernel: kernelVersion(), Limits: []Limit{}, Users: []User{}}
	if r.Privilege, err = privilege(); err != nil {
		return nil, err
	}
	// Before any group of our own is there to be counted.
	if r.Listeners, r.Unreadable, err = mounted.listeners(); err != nil {
		r.ListenersError = err.Error()
	}
	usage, err := fanotify.ReadUsage()
	if err != nil {
		return nil, err
	}
	r.Users = usersOf(usage)
	limits, err := fanotify.ReadLimits()
	switch {
	case err == nil:
		r.Limits = limitsOf(limits)
	case !errors.Is(err, fs.ErrNotExist): // before Linux 5.13
		return nil, err
	}
	r.Features = features()
	r.Connector = connector(r.Privilege)
	r.Mounts = tryAll(chosen, patience)
	r.Findings = r.judge(mounted.hiddenProcesses(), noFanotify())
	return r, nil
}
