// Command bench measures what watching costs: Fanlight beside a floor, a C program that only reads and counts, and
// beside Debian's fatrace and inotify-tools when they are installed. It prints tables in Markdown.
//
// A run of the same program scatters by 40 %. So each round runs every watcher once, one after the other, and ratios
// are taken within a round. Costs are processor time, from getrusage(2), never the time on the wall.
//
// It needs root, a C compiler and go. It works on a filesystem of its own in a mount namespace of its own, which end
// with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// config is what the flags say.
type config struct {
	rounds, peerRounds, checks int
	files, trees, opens, dirs  int
	only, watchers             string
	ext4                       bool
}

func main() { os.Exit(inOwnNamespace(run)) }

// inOwnNamespace runs main again as a child with a mount namespace of its own, and there calls run.
func inOwnNamespace(run func() int) int {
	const there = "FANLIGHT_BENCH_NAMESPACE"
	if os.Getenv(there) != "" {
		return run()
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "bench: needs root, to mount a filesystem and to watch it")
		return 1
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), there+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	// What is meant to end this process ends the child, which cleans up.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may have ended
		}
	}()
	if err := cmd.Wait(); err != nil {
		return max(1, cmd.ProcessState.ExitCode())
	}
	return 0
}

func run() int {
	var c config
	flag.IntVar(&c.rounds, "rounds", 15, "rounds, each of which runs every watcher once")
	flag.IntVar(&c.peerRounds, "peer-rounds", 3, "rounds in which fatrace and inotify-tools take part")
	flag.IntVar(&c.checks, "checks", 3, "further runs of each watcher in which the names that it reports are counted")
	flag.IntVar(&c.files, "files", 400_000, "files to make")
	flag.IntVar(&c.trees, "trees", 10_000, "trees to make")
	flag.IntVar(&c.opens, "opens", 1_000_000, "opens")
	flag.IntVar(&c.dirs, "dirs", 100_000, "directories of the tree that is watched for the time to be ready")
	flag.StringVar(&c.only, "only", "", "what to run, of files,paced,trees,fleeting,opens,fid,fd,perm,start,parse (default all)")
	flag.StringVar(&c.watchers, "watchers", "", "watchers to run: the beginnings of their names (default all)")
	flag.BoolVar(&c.ext4, "ext4", false, "work on ext4 on a loop device instead of tmpfs")
	quick := flag.Bool("quick", false, "one small round of everything, to see that it works")
	out := flag.String("out", "", "also write the tables to this file, between its lines "+beginMark+" and "+endMark)
	flag.Parse()
	if *quick {
		c.rounds, c.peerRounds, c.checks = 1, 1, 1
		c.files, c.trees, c.opens, c.dirs = 5000, 200, 20_000, 2000
	}

	// A watcher is killed when the thread that started it ends: this one, which runs as long as the driver.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	var tables strings.Builder
	err := measureAll(ctx, c, io.MultiWriter(os.Stdout, &tables))
	if err == nil && *out != "" {
		err = writeBetweenMarks(*out, tables.String())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// measureAll measures what was chosen and writes each table as soon as it is complete. A part that fails doesn't keep
// the others from being measured.
func measureAll(ctx context.Context, c config, w io.Writer) error {
	b, err := newBench(ctx, c, os.Stderr)
	if err != nil {
		return err
	}
	defer b.close()
	fmt.Fprintln(w, b.machine())
	wanted := func(part string) bool {
		return ctx.Err() == nil && (c.only == "" || slices.Contains(strings.Split(c.only, ","), part))
	}
	var failed []error
	part := func(name string, measure func() error) {
		if !wanted(name) {
			return
		}
		if err := measure(); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", name, err))
		}
	}
	for _, work := range workloads(c) {
		part(work.name, func() error {
			results, err := b.measureWork(ctx, work)
			if err == nil {
				writeWork(w, work, results)
			}
			return err
		})
	}
	for _, work := range loopWorkloads(c) {
		part(work.name, func() error {
			results, err := b.measureWork(ctx, work)
			if err == nil {
				writeLoops(w, work, results)
			}
			return err
		})
	}
	part("start", func() error {
		results, err := b.measureStart(ctx)
		if err == nil {
			writeStart(w, c.dirs, results)
		}
		return err
	})
	part("parse", func() error { return writeParse(ctx, w) })
	return errors.Join(append(failed, ctx.Err())...)
}
