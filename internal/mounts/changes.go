package mounts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"fanlight/fanotify"
)

// Changes tells when something is mounted, unmounted or moved in this mount namespace: by a group of its own
// (FAN_REPORT_MNT, since Linux 6.15), else by polling mountinfo (proc_pid_mountinfo(5)). One goroutine asks by Take,
// without waiting; a goroutine of Changes calls it when there is something to ask for.
type Changes struct {
	group *fanotify.Group
	batch fanotify.Batch
	info  int // mountinfo for the one who asks, where there is no group

	stop    context.CancelFunc
	running sync.WaitGroup
	fired   chan struct{} // the group's waiter saw something, and waits itself until it may go on
	goOn    chan struct{}
}

// Change is a mount that was attached, detached or, with both, moved.
type Change struct {
	ID   uint64 // unique; 0 when it is not known which mounts changed, or not of all
	Mask fanotify.Mask
	PID  int32 // of the process that did it, 0 when unknown
}

// WatchChanges begins to watch for changes; what happened before may be among them. The call of wake comes from another
// goroutine, once and then again after each Take that returned something; it may come without reason. Close ends it.
func WatchChanges(wake func()) (*Changes, error) {
	c := &Changes{fired: make(chan struct{}), goOn: make(chan struct{})}
	group, err := fanotify.NewGroup(fanotify.Config{Report: fanotify.ReportMnt, UnlimitedQueue: true})
	if err == nil {
		const both = fanotify.MntAttach | fanotify.MntDetach
		if err = group.Mark(fanotify.TargetMountNamespace, "/proc/self/ns/mnt", both, 0); err != nil {
			group.Close()
		}
	}
	if err != nil {
		return PollChanges(wake)
	}
	c.group = group
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	c.running.Go(func() {
		defer close(c.fired)
		for group.Wait(ctx) == nil {
			wake()
			select {
			case c.fired <- struct{}{}:
			case <-ctx.Done():
				return
			}
			select {
			case <-c.goOn:
			case <-ctx.Done():
				return
			}
		}
	})
	return c, nil
}

// PollChanges is WatchChanges on a kernel that has no FAN_REPORT_MNT.
func PollChanges(wake func()) (*Changes, error) {
	// A change is told once to each open file; to the runtime's poller too, so these must not be in it.
	var files [2]int
	for i, path := range []string{"/proc/self/mountinfo", "/proc/self/mountinfo"} {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			closeAll(files[:i])
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
		files[i] = fd
	}
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		closeAll(files[:])
		return nil, fmt.Errorf("watch the mounts: %w", err)
	}
	mine, theirs := files[0], files[1]
	c := &Changes{info: mine, stop: func() { _, _ = unix.Write(end, binary.NativeEndian.AppendUint64(nil, 1)) }}
	c.running.Go(func() {
		defer closeAll([]int{theirs, end})
		for changed(theirs, end, -1) {
			wake()
		}
	})
	return c, nil
}

func closeAll(files []int) {
	for _, fd := range files {
		unix.Close(fd)
	}
}

// changed waits, for a number of milliseconds or with -1 without end, until mountinfo changed, and reports whether it
// did before the eventfd end was written to, which is -1 for none.
func changed(info, end, timeout int) bool {
	poll := [2]unix.PollFd{{Fd: int32(info), Events: unix.POLLPRI}, {Fd: int32(end), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll[:], timeout)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n == 0:
			return false
		}
		return poll[1].Revents == 0 && poll[0].Revents&unix.POLLPRI != 0
	}
}

// Take appends the changes since the last call to list and returns it. It doesn't wait for a change, and costs one
// system call when there is none. What happened before the call is among them.
func (c *Changes) Take(list []Change) []Change {
	if c.group == nil {
		if changed(c.info, -1, 0) {
			list = append(list, Change{})
		}
		return list
	}
	if backlog, err := c.group.Backlog(); backlog == 0 || err != nil {
		return list
	}
	if _, waiting := <-c.fired; !waiting { // or it would be in the way of the read
		return list
	}
	for {
		n, err := c.group.TryRead(&c.batch)
		if n == 0 || err != nil {
			break
		}
		for e, err := range c.batch.Events() {
			change := Change{}
			if err == nil {
				change.ID, _ = e.MountID() // an overflow has none
				change.Mask, change.PID = e.Mask, e.PID
			}
			list = append(list, change)
		}
	}
	c.goOn <- struct{}{}
	return list
}

// Close ends the calls of wake and waits for one that runs. It must not run beside Take.
func (c *Changes) Close() {
	c.stop()
	c.running.Wait()
	if c.group != nil {
		c.group.Close()
	} else {
		unix.Close(c.info)
	}
}
