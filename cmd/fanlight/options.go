package main

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fanlight/event"
	"fanlight/rule"
	"fanlight/watch"
)

// colorChoices are the values of --color.
var colorChoices = []string{"auto", "always", "never"}

// watchOptions are the flags of fanlight watch.
type watchOptions struct {
	events           []string
	paths, excludes  []string
	exes, cwds       []string
	pids             []string
	users            []string
	json, summary    bool
	format, timefmt  string
	null             bool
	color            string
	output           string
	count            uint64
	duration         time.Duration
	timeout, latency time.Duration
	allNamespaces    bool
}

// add adds the flags to cmd, in the order in which help shows them.
func (o *watchOptions) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringArrayVarP(&o.events, "events", "e", nil,
		"report these `EVENTS`, joined by commas: names of the kernel, or the groups changes (default), reads, all")
	flags.StringArrayVar(&o.paths, "path", nil,
		"only paths that match `GLOB` (a * crosses /; with a leading - those that don't)")
	flags.StringArrayVar(&o.excludes, "exclude", nil, "no paths that match `GLOB`: short for --path '-GLOB'")
	flags.StringArrayVar(&o.exes, "exe", nil, "only processes whose executable matches `GLOB`")
	flags.StringArrayVar(&o.cwds, "cwd", nil, "only processes whose working directory matches `GLOB`")
	flags.StringSliceVar(&o.pids, "pid", nil, "only the process `PID`")
	flags.StringSliceVar(&o.users, "uid", nil, "only processes of `USER`, a name or a number")

	flags.BoolVar(&o.json, "json", false, "write one JSON object a line")
	flags.StringVar(&o.format, "format", "", "write each event in the form `FMT` (see Format below)")
	flags.StringVar(&o.timefmt, "timefmt", defaultTimeFormat, "show times in the form `FMT` of strftime(3)")
	flags.BoolVarP(&o.null, "null", "0", false, "end records with NUL; names in --format are then not escaped")
	flags.BoolVar(&o.summary, "summary", false, "count, and print a table by directory and event at the end")
	flags.StringVar(&o.color, "color", "auto", "color the events `WHEN`: auto (in a terminal), always, never")
	flags.StringVar(&o.output, "output", "", "append to `FILE`, which is opened anew on SIGHUP")

	flags.Uint64Var(&o.count, "count", 0, "end after `N` events")
	flags.DurationVar(&o.duration, "duration", 0, "end after the time `D`, such as 90s or 1h30m")
	flags.DurationVar(&o.timeout, "timeout", 0, "end with status 3 when nothing came for the time `D`")
	flags.DurationVar(&o.latency, "latency", watch.DefaultLatency,
		"let events gather for the time `D`, which makes them cheaper; 0 for none")

	flags.BoolVar(&o.allNamespaces, "all-namespaces", false,
		"add filesystems that are mounted only in other mount namespaces")

	completions := map[string]cobra.CompletionFunc{
		"events": completeEvents,
		"color":  cobra.FixedCompletions(colorChoices, cobra.ShellCompDirectiveNoFileComp),
	}
	flags.VisitAll(func(flag *pflag.Flag) {
		switch complete := completions[flag.Name]; {
		case complete != nil:
			_ = cmd.RegisterFlagCompletionFunc(flag.Name, complete)
		case flag.Name != "output": // values that are no files
			_ = cmd.RegisterFlagCompletionFunc(flag.Name, cobra.NoFileCompletions)
		}
	})
}

// check says what is wrong with the values that flags alone don't see.
func (o *watchOptions) check(flags *pflag.FlagSet) error {
	forms := 0
	for _, name := range []string{"json", "format", "summary"} {
		if flags.Changed(name) {
			forms++
		}
	}
	if forms > 1 {
		return errors.New("choose one of --json, --format and --summary")
	}
	if flags.Changed("format") && o.format == "" {
		return errors.New("--format is empty: try '%T %e %p'")
	}
	if o.summary && o.null {
		return errors.New("--null has no meaning with --summary")
	}
	if flags.Changed("count") && o.count == 0 {
		return errors.New("--count must be at least 1")
	}
	if flags.Changed("duration") && o.duration <= 0 {
		return errors.New("--duration must be more than 0")
	}
	if flags.Changed("timeout") && o.timeout <= 0 {
		return errors.New("--timeout must be more than 0")
	}
	if o.latency < 0 {
		return errors.New("--latency must not be negative")
	}
	if !slices.Contains(colorChoices, o.color) {
		return fmt.Errorf("--color %q: use %s", o.color, strings.Join(colorChoices, ", "))
	}
	return nil
}

// rule returns the rule that the filters make.
func (o *watchOptions) rule() (rule.Rule, error) {
	mask, err := parseEvents(o.events)
	if err != nil {
		return rule.Rule{}, err
	}
	r := rule.Rule{Events: mask, Exe: o.exes, Cwd: o.cwds, Path: o.paths}
	for _, glob := range o.excludes {
		r.Path = append(r.Path, "-"+glob)
	}
	for _, text := range o.pids {
		pid, err := strconv.ParseInt(text, 10, 32)
		if err != nil || pid <= 0 {
			return rule.Rule{}, fmt.Errorf("--pid %q: not a process id", text)
		}
		r.PIDs = append(r.PIDs, int32(pid))
	}
	for _, name := range o.users {
		uid, err := parseUser(name)
		if err != nil {
			return rule.Rule{}, err
		}
		r.UIDs = append(r.UIDs, uid)
	}
	return r, nil
}

// parseUser reads the number or the name of a user.
func parseUser(name string) (uint32, error) {
	if uid, err := strconv.ParseUint(name, 10, 32); err == nil && uint32(uid) != event.NoUID {
		return uint32(uid), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("--uid %q: no such user", name)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("--uid %q: the number of this user is %q", name, u.Uid)
	}
	return uint32(uid), nil
}

// form returns the form of the output to stdout or, with --output, to a file.
func (o *watchOptions) form(stdout any) (form, error) {
	end := byte('\n')
	if o.null {
		end = 0
	}
	switch {
	case o.json:
		return &jsonForm{end: end}, nil
	case o.format != "":
		return newTemplateForm(o.format, o.timefmt, end)
	case o.summary:
		return newSummary(), nil
	}
	if o.output != "" {
		stdout = nil
	}
	return newLineForm(o.timefmt, end, wantsColor(o.color, stdout)), nil
}

// config returns what to watch.
func (o *watchOptions) config(roots []string, r rule.Rule) watch.Config {
	cfg := watch.Config{Roots: roots, Events: r.Events, Latency: o.latency, KeepThread: true, AllNamespaces: o.allNamespaces}
	if o.latency == 0 {
		cfg.Latency = -1
	}
	return cfg
}
