// Command loop is the reader that the floor is, written with package fanotify: it reads the events of DIR's filesystem,
// counts them and does nothing else, except that it allows permission events.
//
//	loop FORM MASK BUDGET_US DIR
//
// The arguments are those of floor.c; a budget is not kept. It ends with SIGTERM.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"fanlight/fanotify"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "loop:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("%d arguments: usage: loop fid|fd|perm MASK BUDGET_US DIR", len(args))
	}
	config := fanotify.Config{UnlimitedQueue: true}
	switch args[0] {
	case "fid":
		config.Report = fanotify.ReportDFIDNameTarget
	case "perm":
		config.Class = fanotify.ClassContent
	}
	mask, err := strconv.ParseUint(args[1], 0, 64)
	if err != nil {
		return err
	}
	group, err := fanotify.NewGroup(config)
	if err != nil {
		return err
	}
	defer group.Close()
	if err := group.Mark(fanotify.TargetFilesystem, args[3], fanotify.Mask(mask), 0); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	fmt.Fprintln(os.Stderr, "ready")
	events := 0
	for e, err := range group.Events(ctx) {
		if err != nil {
			return err
		}
		events++
		if config.Class == fanotify.ClassContent {
			if err := e.Allow(); err != nil {
				return err
			}
		}
	}
	fmt.Println("events:", events)
	return nil
}
