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
		Use:                   "watch [FLAGS] [PATH...] [-- COMMAND [ARG...]]",
		Short:                 "show what happens to files, as it happens",
		Long:                  watchLong,
		Example:               watchExamples,
		Annotations:           map[string]string{moreKey: watchMore},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, roots []string) error {
			var words []string
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				if roots, words = roots[:dash], roots[dash:]; len(words) == 0 || words[0] == "" {
					return errors.New("no command behind --")
				}
			}
			if slices.Contains(roots, "") {
				return errors.New("a path is empty: without any path the whole machine is watched")
			}
			if err := o.check(cmd.Flags(), len(words) > 0); err != nil {
				return err
			}
			filter, events, err := o.filter()
			if err != nil {
				return err
			}
			form, err := o.form(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			run := &watchRun{
				watchOptions: o,
				config:       o.config(roots, events),
				stream:       stream{filter: filter, form: form, count: o.count},
				stdout:       cmd.OutOrStdout(),
				stderr:       cmd.ErrOrStderr(),
			}
			if o.settle > 0 {
				run.stream.gathered = newGathering(o.settle)
			}
			if len(words) > 0 {
				if run.command, err = findCommand(words); err != nil {
					return err
				}
				filter.self = int32(os.Getpid())
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
	command        *command // nil without
	stdout, stderr io.Writer
}

// run watches until something ends it. Whatever blocks, it returns within a second after told ended. With a command it
// ends when that has ended and what it did is written; only then a signal says to hurry.
func (w *watchRun) run(told context.Context) error {
	ctx, end := context.WithCancelCause(told)
	hurry := ctx.Done()
	if w.command != nil {
		ctx, end = context.WithCancelCause(context.WithoutCancel(told))
		hurry = w.command.hurry
		w.command.catchSignals(w.output != "")
	}
	defer end(nil)

	// Caught, and not ignored, so that a write to a closed pipe fails with EPIPE.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)

	pending, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	ended := make(chan error, 1)
	go func() {
		err := w.watch(told, ctx, end, pending)
		if w.command != nil {
			err = w.command.finish(err, func(text string) { say(w.stderr, text) })
		}
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-hurry:
	}

	time.AfterFunc(drainTime, giveUp)
	select {
	case err := <-ended:
		return err
	case <-time.After(giveUpTime):
		if context.Cause(ctx) != errHangup {
			say(w.stderr, unwritten)
		}
		if w.command != nil {
			return w.command.outcome()
		}
		return w.outcome(ctx)
	}
}

// errCommand is why a watch ends with its command.
var errCommand = errors.New("the command has ended")

// watch opens the output and the watch and writes events until ctx ends, and then those that happened before, until
// pending ends. It ends ctx when there is another reason. The command is started when everything is watched, unless
// told has ended.
func (w *watchRun) watch(
	told, ctx context.Context, end context.CancelCauseFunc, pending context.Context,
) error {
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
	if unseenProcesses(coverage) {
		switch {
		case w.command != nil:
			return failed(explain(fmt.Errorf("what a command does can't be told from what others do: %w", unix.EPERM)))
		case w.choosesProcesses():
			return failed(explain(fmt.Errorf("events can't be chosen by their processes, which are not told: %w", unix.EPERM)))
		}
	}
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
	if w.command != nil {
		if told.Err() != nil {
			return failed(errors.New("told to end before the command was started"))
		}
		if err := w.command.start(func() { end(errCommand) }); err != nil {
			return err
		}
	}
	w.stream.wrote = w.startTimers(end)
	w.stream.early = func(number uint64, why string) {
		say(w.stderr, fmt.Sprintf("batch %d is written before it settled: %s", number, why))
	}

	context.AfterFunc(ctx, watcher.Stop)
	err = w.stream.run(pending, watcher.Events)
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

// unseenProcesses reports whether events don't tell whose they are.
func unseenProcesses(coverage []watch.Coverage) bool {
	return slices.ContainsFunc(coverage, func(c watch.Coverage) bool { return slices.Contains(c.Unseen, watch.UnseenProcesses) })
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
		switch {
		case c.Err != nil:
			reasons = append(reasons, c.Err.Error())
		case c.Missed > 0:
			reasons = append(reasons, fmt.Sprintf("%d directories below %s: %v", c.Missed, c.Root, c.MissedReason))
		}
	}
	switch len(reasons) {
	case 0:
		return ""
	case 1:
		return "not watched: " + reasons[0]
	}
	return fmt.Sprintf("not watched, for %d reasons: %s", len(reasons), strings.Join(reasons, "; "))
}
