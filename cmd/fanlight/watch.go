package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fanlight/rule"
	"fanlight/watch"
)

// Why a watch ends that neither failed nor was told to.
var (
	errDuration = errors.New("the duration is over")
	errHangup   = errors.New("nobody reads the output")
	errIdle     = errors.New("no event within the timeout")
)

// When the watch is to end, pending events are written until drainTime is over; what still blocks at giveUpTime is
// abandoned.
const (
	drainTime  = 800 * time.Millisecond
	giveUpTime = time.Second
)

// unwritten says that drainTime was not enough.
const unwritten = "the output is too slow: what was pending is not written"

func newWatchCommand() *cobra.Command {
	var o watchOptions
	cmd := &cobra.Command{
		Use:                   "watch [FLAGS] [PATH...]",
		Short:                 "show what happens to files, as it happens",
		Long:                  watchLong,
		Example:               watchExamples,
		Annotations:           map[string]string{moreKey: watchMore},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, roots []string) error {
			if cmd.ArgsLenAtDash() >= 0 && cmd.ArgsLenAtDash() < len(roots) {
				return errors.New("a command behind -- can't be run yet: run it beside the watch")
			}
			if slices.Contains(roots, "") {
				return errors.New("a path is empty: without any path the whole machine is watched")
			}
			if err := o.check(cmd.Flags()); err != nil {
				return err
			}
			r, err := o.rule()
			if err != nil {
				return err
			}
			match, err := rule.Compile(r)
			if err != nil {
				return fmt.Errorf("--%w", err) // the fields of a rule are named as the flags are
			}
			form, err := o.form(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			run := &watchRun{
				watchOptions: o,
				config:       o.config(roots, r),
				stream:       stream{match: match, form: form, count: o.count},
				stdout:       cmd.OutOrStdout(),
				stderr:       cmd.ErrOrStderr(),
			}
			return run.run(cmd.Context())
		},
	}
	o.add(cmd)
	return cmd
}

// watchRun is one run of fanlight watch.
type watchRun struct {
	watchOptions
	config         watch.Config
	stream         stream
	stdout, stderr io.Writer
}

// run watches until something ends it. Whatever blocks, it returns within a second after ctx ended.
func (w *watchRun) run(ctx context.Context) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)

	// Caught, and not ignored, so that a write to a closed pipe fails with EPIPE.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)

	pending, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	ended := make(chan error, 1)
	go func() { ended <- w.watch(ctx, end, pending) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}

	time.AfterFunc(drainTime, giveUp)
	select {
	case err := <-ended:
		return err
	case <-time.After(giveUpTime):
		if context.Cause(ctx) != errHangup {
			say(w.stderr, unwritten)
		}
		return w.outcome(ctx)
	}
}

// watch opens the output and the watch and writes events until ctx ends, and then those that happened before, until
// pending ends. It ends ctx when there is another reason.
func (w *watchRun) watch(ctx context.Context, end context.CancelCauseFunc, pending context.Context) error {
	out, err := openOutput(w.output, w.stdout)
	if err != nil {
		return failed(err)
	}
	defer out.close()
	watcher, err := watch.New(w.config)
	if err != nil {
		return failed(explain(err))
	}
	defer watcher.Close()

	coverage := watcher.Coverage()
	if text := refusals(coverage); text != "" {
		say(w.stderr, text)
	}
	w.stream.out = out
	if w.output == "" {
		go func() {
			if waitForHangup(w.stdout) {
				end(errHangup)
			}
		}()
	} else {
		defer w.reopenOnSIGHUP(out)()
	}
	fmt.Fprintf(w.stderr, "ready: %s\n", watched(coverage))
	w.stream.wrote = w.startTimers(end)

	context.AfterFunc(ctx, watcher.Stop)
	err = w.stream.run(pending, watcher.Events(pending))
	if sum, ok := w.stream.form.(*summary); ok && err == nil {
		_, err = out.Write(sum.finish(nil))
	}
	switch {
	case errors.Is(err, unix.EPIPE): // as head(1) leaves it
		return nil
	case err != nil:
		return failed(err)
	case pending.Err() != nil:
		say(w.stderr, unwritten)
	}
	if isTerminal(w.stderr) {
		fmt.Fprintf(w.stderr, "\r%s\n", w.stream.tally()) // over the ^C that the terminal shows
	}
	return w.outcome(ctx)
}

// outcome is the error that the end of ctx stands for.
func (w *watchRun) outcome(ctx context.Context) error {
	if context.Cause(ctx) == errIdle {
		return &failure{exitTimeout, fmt.Errorf("no event within %v", w.timeout)}
	}
	return nil
}

// startTimers starts --duration and --timeout. The function that it returns begins the timeout anew.
func (w *watchRun) startTimers(end context.CancelCauseFunc) (restart func()) {
	if w.duration > 0 {
		time.AfterFunc(w.duration, func() { end(errDuration) })
	}
	if w.timeout == 0 {
		return func() {}
	}
	idle := time.AfterFunc(w.timeout, func() { end(errIdle) })
	return func() { idle.Reset(w.timeout) }
}

// reopenOnSIGHUP reopens out whenever SIGHUP comes, until the function that it returns is called.
func (w *watchRun) reopenOnSIGHUP(out *output) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	var done sync.WaitGroup
	done.Go(func() {
		for range hangups {
			if err := out.reopen(); err != nil {
				say(w.stderr, err.Error())
			}
		}
	})
	return func() {
		signal.Stop(hangups)
		close(hangups)
		done.Wait()
	}
}

// explain says what a person at a terminal can do about an error of the kernel.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) && os.Geteuid() != 0 {
		return fmt.Errorf("watching needs CAP_SYS_ADMIN: run it as root (sudo fanlight watch ...): %w", unix.EPERM)
	}
	return err
}

// watched says what is watched: each filesystem when there are few, else how many.
func watched(coverage []watch.Coverage) string {
	var names []string
	for _, c := range coverage {
		if c.Err == nil {
			names = append(names, oneLine(fmt.Sprintf("%s (%s)", c.Root, c.FSType)))
		}
	}
	if len(names) > 3 {
		return fmt.Sprintf("watching %d filesystems", len(names))
	}
	return "watching " + strings.Join(names, ", ")
}

// refusals says in one line what is not watched and why; it is empty if everything is.
func refusals(coverage []watch.Coverage) string {
	var reasons []string
	for _, c := range coverage {
		if c.Err != nil {
			reasons = append(reasons, c.Err.Error())
		}
	}
	switch len(reasons) {
	case 0:
		return ""
	case 1:
		return "not watched: " + reasons[0]
	}
	return fmt.Sprintf("%d filesystems are not watched: %s", len(reasons), strings.Join(reasons, "; "))
}
