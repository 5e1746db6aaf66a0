package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed load.c
var loadSource []byte

//go:embed floor.c
var floorSource []byte

// workload is something that load does while it is watched. Without a mode, nothing is done.
type workload struct {
	name, title, unit string
	mode              string
	n, width, rate    int
	form              string // of the events, as floor names it, where read loops are measured
	// What is watched, for the floor, fanlight, inotify-tools and fatrace.
	mask     uint64
	fanlight []string
	inotify  string
	fatrace  string
}

// changing is the part of a workload that says to watch Fanlight's default, the changes.
func changing(w workload) workload {
	w.mask = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_RENAME | unix.FAN_MODIFY | unix.FAN_CLOSE_WRITE |
		unix.FAN_ATTRIB | unix.FAN_ONDIR
	w.inotify = "create,delete,move,modify,close_write,attrib"
	w.fatrace = "CW+D<>"
	return w
}

// reading is the part of a workload that says to watch the reads.
func reading(w workload) workload {
	w.mask = unix.FAN_OPEN | unix.FAN_ACCESS | unix.FAN_CLOSE_NOWRITE | unix.FAN_OPEN_EXEC | unix.FAN_ONDIR
	w.fanlight = []string{"--events", "reads"}
	w.inotify = "open,access,close_nowrite"
	w.fatrace = "COR"
	return w
}

func workloads(c config) []workload {
	width := min(1000, c.files)
	paced := min(20_000, c.files)
	return []workload{
		changing(workload{name: "files", unit: "file", mode: "files", n: c.files, width: width,
			title: fmt.Sprintf("%s files created, written, closed, renamed, deleted in %s directories, at full speed",
				thousands(c.files), thousands(width))}),
		changing(workload{name: "paced", unit: "file", mode: "files", n: paced, width: width, rate: 10_000,
			title: fmt.Sprintf("the same with %s files, 10,000 a second", thousands(paced))}),
		changing(workload{name: "trees", unit: "tree", mode: "trees", n: c.trees, width: c.trees,
			title: fmt.Sprintf("%s trees of 8 directories and a file made, then all removed", thousands(c.trees))}),
		changing(workload{name: "fleeting", unit: "tree", mode: "trees", n: c.trees, width: 1,
			title: fmt.Sprintf("%s such trees, each removed as soon as it is made", thousands(c.trees))}),
		reading(workload{name: "opens", unit: "open", mode: "opens", n: c.opens, width: width,
			title: fmt.Sprintf("%s opens of %s files, reads watched", thousands(c.opens), thousands(width))}),
	}
}

// loopWorkloads are those under which read loops are measured.
func loopWorkloads(c config) []workload {
	opens := workload{unit: "open", mode: "opens", n: c.opens / 4, width: min(1000, c.files)}
	loop := func(name, form, title string, mask uint64) workload {
		w := opens
		w.name, w.form, w.mask = name, form, mask
		w.title = fmt.Sprintf("a loop over %s, %s opens", title, thousands(w.n))
		return w
	}
	return []workload{
		loop("fid", "fid", "events with handles and names", unix.FAN_OPEN|unix.FAN_CLOSE_NOWRITE),
		loop("fd", "fd", "events with descriptors", unix.FAN_OPEN|unix.FAN_CLOSE_NOWRITE),
		loop("perm", "perm", "permission events, each allowed", unix.FAN_OPEN_PERM),
	}
}

// bench is the ground to measure on.
type bench struct {
	config
	dir      string // where everything of a run is
	mount    string // the filesystem that is watched
	load     string // these are programs
	floor    string
	fanlight string
	loop     string
	log      io.Writer
}

func newBench(ctx context.Context, c config, log io.Writer) (*bench, error) {
	dir, err := os.MkdirTemp("", "fanlight-bench-")
	if err != nil {
		return nil, err
	}
	b := &bench{config: c, dir: dir, mount: filepath.Join(dir, "fs"), load: filepath.Join(dir, "load"),
		floor: filepath.Join(dir, "floor"), fanlight: filepath.Join(dir, "fanlight"),
		loop: filepath.Join(dir, "loop"), log: log}
	if err := b.prepare(ctx); err != nil {
		b.close()
		return nil, err
	}
	return b, nil
}

// prepare builds the programs and mounts the filesystem.
func (b *bench) prepare(ctx context.Context) error {
	command := func(stdin []byte, args ...string) error {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Stdin = bytes.NewReader(stdin)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	err := errors.Join(
		command(loadSource, "cc", "-O2", "-Wall", "-x", "c", "-o", b.load, "-"),
		command(floorSource, "cc", "-O2", "-Wall", "-x", "c", "-o", b.floor, "-"),
		os.Mkdir(b.mount, 0o755))
	if b.takesPart(watcher{name: "fanlight"}) {
		err = errors.Join(err, command(nil, "go", "build", "-trimpath", "-o", b.fanlight, "fanlight/cmd/fanlight"),
			command(nil, "go", "build", "-trimpath", "-o", b.loop, "fanlight/bench/loop"))
	}
	if err != nil {
		return err
	}
	if !b.ext4 {
		return unix.Mount("bench", b.mount, "tmpfs", 0, "")
	}
	image := filepath.Join(b.dir, "image")
	for _, args := range [][]string{{"truncate", "-s", "4G", image}, {"mkfs.ext4", "-q", image},
		{"mount", "-o", "loop", image, b.mount}} {
		if err := command(nil, args...); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) close() {
	_ = unix.Unmount(b.mount, unix.MNT_DETACH) // not mounted yet, if prepare failed
	os.RemoveAll(b.dir)
}

// takesPart tells whether a watcher is measured: the flags want it, and it is there.
func (b *bench) takesPart(w watcher) bool {
	if w.peer {
		if _, err := exec.LookPath(strings.Fields(w.name)[0]); err != nil {
			return false
		}
	}
	if w.name == nobody {
		return true
	}
	return slices.ContainsFunc(strings.Split(b.config.watchers, ","), func(begin string) bool {
		return strings.HasPrefix(w.name, begin) // all of them begin with "", which stands for all
	})
}

// result is what was measured of one watcher under one workload.
type result struct {
	watcher watcher
	rounds  []round  // in the order of the rounds, of which a peer takes part in the first
	checks  []*tally // of the runs whose names were counted
}

// round is one run of a workload beside one watcher.
type round struct {
	watcher, load time.Duration // processor time
	wall          time.Duration // that the work took
	ready         time.Duration // from the watcher's start to its ready line, on the wall
	peak          int64         // memory in bytes
	died          bool          // the watcher ended by itself
}

// measureWork runs a workload beside every watcher, as often as it is asked for.
func (b *bench) measureWork(ctx context.Context, work workload) ([]*result, error) {
	dir := filepath.Join(b.mount, work.name)
	defer os.RemoveAll(dir)
	if err := makeGround(dir, work); err != nil {
		return nil, err
	}
	watchers := b.allWatchers()
	if work.form != "" {
		watchers = b.loops()
	}
	return b.interleave(watchers, func(r *result, i int) error {
		if i < b.rounds && (!r.watcher.peer || i < b.peerRounds) {
			measured, err := b.measure(ctx, work, r.watcher, dir, nil)
			if err != nil {
				return err
			}
			r.rounds = append(r.rounds, measured)
			fmt.Fprintf(b.log, "%s, round %d, %s: %.2f µs, peak %.1f MiB, the work itself %.2f µs\n", work.name, i+1,
				r.watcher.name, perOp(measured.watcher, work), mib(measured.peak), perOp(measured.load, work))
		}
		if i < b.checks && r.watcher.line != nil {
			names := newTally(work, dir)
			if _, err := b.measure(ctx, work, r.watcher, dir, names); err != nil {
				return err
			}
			r.checks = append(r.checks, names)
			fmt.Fprintf(b.log, "%s, names, %s: %s\n", work.name, r.watcher.name, names)
		}
		return nil
	})
}

// interleave measures every watcher that takes part in every round.
func (b *bench) interleave(watchers []watcher, measure func(r *result, round int) error) ([]*result, error) {
	var results []*result
	for _, w := range watchers {
		if b.takesPart(w) {
			results = append(results, &result{watcher: w})
		}
	}
	for i := range max(b.rounds, b.checks) {
		first := i % len(results) // each round begins with another one
		for _, r := range slices.Concat(results[first:], results[:first]) {
			if err := measure(r, i); err != nil {
				return nil, err
			}
		}
	}
	return results, nil
}

// makeGround makes what a workload expects to be there.
func makeGround(dir string, work workload) error {
	err := os.MkdirAll(dir, 0o755)
	for i := 0; i < work.width && err == nil; i++ {
		switch work.mode {
		case "files":
			err = os.Mkdir(fmt.Sprintf("%s/d%04d", dir, i), 0o755)
		case "opens":
			err = os.WriteFile(fmt.Sprintf("%s/o%04d", dir, i), nil, 0o644)
		}
	}
	return err
}

// measureStart starts every watcher on a tree of directories.
func (b *bench) measureStart(ctx context.Context) ([]*result, error) {
	dir := filepath.Join(b.mount, "start")
	defer os.RemoveAll(dir)
	for i := range b.dirs {
		if err := os.MkdirAll(fmt.Sprintf("%s/%02d/%02d/%d", dir, i%100, i/100%100, i), 0o755); err != nil {
			return nil, err
		}
	}
	return b.interleave(b.allWatchers(), func(r *result, i int) error {
		if r.watcher.name == nobody || i >= b.rounds || r.watcher.peer && i >= b.peerRounds {
			return nil
		}
		measured, err := b.measure(ctx, changing(workload{}), r.watcher, dir, nil)
		r.rounds = append(r.rounds, measured)
		return err
	})
}

// measure runs a workload once beside a watcher, whose output goes to names if there is one, else to /dev/null.
func (b *bench) measure(ctx context.Context, work workload, w watcher, dir string, names *tally) (round, error) {
	if w.name == nobody {
		load, wall, err := b.work(ctx, work, dir)
		return round{load: load, wall: wall}, err
	}
	stdout, counted, err := output(w, names)
	if err != nil {
		return round{}, err
	}
	began := time.Now()
	p, err := start(ctx, w, work, dir, stdout)
	stdout.Close()
	if err != nil {
		return round{}, errors.Join(err, <-counted)
	}
	measured := round{ready: time.Since(began)}
	if work.mode != "" {
		measured.load, measured.wall, err = b.work(ctx, work, dir)
	}
	err = errors.Join(err, p.drain(ctx))
	measured.died = p.hasEnded()
	measured.peak = p.peak()
	measured.watcher = p.stop()
	return measured, errors.Join(err, <-counted)
}

// output is where a watcher writes to, and a channel that says when all of it is counted.
func output(w watcher, names *tally) (*os.File, <-chan error, error) {
	counted := make(chan error, 1)
	if names == nil {
		counted <- nil
		null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		return null, counted, err
	}
	r, stdout, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	go func() {
		defer r.Close()
		counted <- names.read(r, w.line)
	}()
	return stdout, counted, nil
}

// work runs load and returns the processor time that it used and the time that it took.
func (b *bench) work(ctx context.Context, work workload, dir string) (cpu, took time.Duration, err error) {
	load := exec.CommandContext(ctx, b.load, work.mode, dir, fmt.Sprint(work.n), fmt.Sprint(work.width), fmt.Sprint(work.rate))
	load.Stderr = os.Stderr
	load.SysProcAttr = endsWithUs()
	out, err := load.Output()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", load, err)
	}
	var wall, user, system, ops int64
	const format = "wall_us=%d user_us=%d sys_us=%d ops=%d"
	if _, err := fmt.Sscanf(string(out), format, &wall, &user, &system, &ops); err != nil || ops != int64(work.n) {
		return 0, 0, fmt.Errorf("%s said %q", load, out)
	}
	return time.Duration(user+system) * time.Microsecond, time.Duration(wall) * time.Microsecond, nil
}
