package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The exit statuses, as help and man pages say them.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitTimeout = 3

	// With a command, whose status is fanlight's: fanlight itself failed, the command can't be executed, there is none.
	exitWatchFailed   = 125
	exitNotExecutable = 126
	exitNotFound      = 127
)

// exitStatus is an exit status that needs no words: that of a command.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// failure is an error with the exit status that it means. An error that is none comes from reading the command line.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// failed returns err as a failure with the status exitFailed; nil stays nil.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &failure{exitFailed, err}
}

// run runs the command line args and returns the exit status. When ctx ends, the command ends within a second.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if status, ok := errors.AsType[exitStatus](err); ok {
		return int(status)
	}
	say(stderr, err.Error())
	status := exitUsage
	if f, ok := errors.AsType[*failure](err); ok {
		status = f.status
	} else {
		_, _ = io.WriteString(stderr, "try '"+cmd.CommandPath()+" --help'\n")
	}
	if (status == exitUsage || status == exitFailed) && slices.Contains(args, "--") {
		return exitWatchFailed // the others are the command's
	}
	return status
}

// explainFlag says what is wrong with the value of a flag without the names of Go's functions.
func explainFlag(_ *cobra.Command, err error) error {
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	cause := invalid.Unwrap()
	if number, ok := errors.AsType[*strconv.NumError](cause); ok {
		cause = number.Err
	}
	return fmt.Errorf("--%s %q: %w", invalid.GetFlag().Name, invalid.GetValue(), cause)
}

// say writes text as one line to stderr, whatever bytes a path in it holds.
func say(stderr io.Writer, text string) {
	line := append([]byte("fanlight: "), oneLine(text)...)
	_, _ = stderr.Write(append(line, '\n'))
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "fanlight COMMAND",
		Short: "see what happens to files, and who does it",
		Long: `Fanlight shows what happens to files on this machine: which process created,
wrote, renamed, deleted or read which file. It asks the kernel once for each
filesystem (fanotify(7)), so that a tree of any size costs the same, and it says
where something was lost.`,
		Example: `  # what happens on the whole machine
  sudo fanlight watch

  # the manual of a subcommand
  man fanlight-watch`,
		Version:               version(),
		SilenceErrors:         true,
		SilenceUsage:          true,
		DisableFlagsInUseLine: true,
		CompletionOptions:     cobra.CompletionOptions{DisableDefaultCmd: true},
		// A suggestion would stand on lines of its own; the error is one line.
		DisableSuggestions: true,
	}
	root.SetHelpTemplate(helpTemplate)
	root.SetFlagErrorFunc(explainFlag)
	root.AddCommand(newWatchCommand(), newDoctorCommand(), newCompletionCommand(), newManCommand())
	root.InitDefaultHelpCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "help" { // known to those who try it; --help is what the others find
			cmd.Hidden = true
		}
	}
	return root
}

// version is what the build knows of itself: a tag, or the commit.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// moreKey is the annotation of a command with the sections that its help and man page end with (see man.go).
const moreKey = "more"

const helpTemplate = `{{.Long}}

Usage:
  {{.UseLine}}
{{- if .HasAvailableSubCommands}}

Commands:
{{- range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}{{end}}

Flags:
{{.LocalFlags.FlagUsagesWrapped 80 | trimTrailingWhitespaces}}
{{- if .Example}}

Examples:
{{.Example}}{{end}}
{{- with index .Annotations "more"}}

{{.}}{{end}}
`
