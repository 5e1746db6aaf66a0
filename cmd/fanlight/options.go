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
	"fanlight/fanotify"
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
	comms            []string
	pids, trees      []string
	users            []string
	parents, details bool
	json, summary    bool
	format, timefmt  string
	null             bool
	color            string
	output           string
	count            uint64
	settle           time.Duration
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
	flags.StringArrayVar(&o.comms, "comm", nil, "only processes whose name matches `GLOB`")
	flags.StringSliceVar(&o.pids, "pid", nil, "only the process `PID`")
	flags.StringSliceVar(&o.trees, "tree", nil, "only the process `PID` and its descendants")
	flags.StringSliceVar(&o.users, "uid", nil, "only processes of `USER`, a name or a number")

	flags.BoolVar(&o.json, "json", false, "write one JSON object a line")
	flags.StringVar(&o.format, "format", "", "write each event in the form `FMT` (see Format below)")
	flags.BoolVar(&o.parents, "parents", false, "show the parent of each process, the parent's parent and so on")
	flags.BoolVar(&o.details, "details", false, "in JSON, show more of each process: command line, group, container and so on")
	flags.StringVar(&o.timefmt, "timefmt", defaultTimeFormat, "show times in the form `FMT` of strftime(3)")
	flags.BoolVarP(&o.null, "null", "0", false, "end records with NUL; names in --format are then not escaped")
	flags.BoolVar(&o.summary, "summary", false, "count, and print a table by directory and event at the end")
	flags.StringVar(&o.color, "color", "auto", "color the events `WHEN`: auto (in a terminal), always, never")
	flags.StringVar(&o.output, "output", "", "append to `FILE`, which is opened anew on SIGHUP")

	flags.DurationVar(&o.settle, "settle", 0,
		"hold events back until none came for the time `D`, then write each path once (see Batches below)")
	flags.Uint64Var(&o.count, "count", 0, "end after `N` events, with --settle after N batches")
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
func (o *watchOptions) check(flags *pflag.FlagSet, command bool) error {
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
	if o.parents && (o.summary || o.format != "") {
		return errors.New("--parents has no meaning with --summary, and with --format it is %a")
	}
	if o.details && !o.json {
		return errors.New("--details needs --json")
	}
	if flags.Changed("settle") && o.settle <= 0 {
		return errors.New("--settle must be more than 0")
	}
	if o.settle > 0 && o.summary {
		return errors.New("--settle has no meaning with --summary")
	}
	if command && len(o.trees) > 0 {
		return errors.New("--tree has no meaning with a command, which is a tree of its own")
	}
	if command && flags.Changed("timeout") {
		return errors.New("--timeout has no meaning with a command, whose exit status is that of the watch")
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

// filter returns what the flags choose, and the events that they ask for.
func (o *watchOptions) filter() (*filter, fanotify.Mask, error) {
	mask, err := parseEvents(o.events)
	if err != nil {
		return nil, 0, err
	}
	r := rule.Rule{Events: mask, Exe: o.exes, Cwd: o.cwds, Path: o.paths}
	for _, glob := range o.excludes {
		r.Path = append(r.Path, "-"+glob)
	}
	if r.PIDs, err = parsePIDs("pid", o.pids); err != nil {
		return nil, 0, err
	}
	for _, name := range o.users {
		uid, err := parseUser(name)
		if err != nil {
			return nil, 0, err
		}
		r.UIDs = append(r.UIDs, uid)
	}
	f := new(filter)
	if f.rule, err = rule.Compile(r); err != nil {
		return nil, 0, fmt.Errorf("--%w", err) // the fields of a rule are named as the flags are
	}
	if len(o.trees) > 0 {
		pids, err := parsePIDs("tree", o.trees)
		if err != nil {
			return nil, 0, err
		}
		if f.tree, err = rule.Compile(rule.Rule{PIDs: pids, Descendants: true}); err != nil {
			return nil, 0, fmt.Errorf("--tree: %w", err)
		}
	}
	if len(o.comms) > 0 {
		f.comm, err = rule.Compile(rule.Rule{Path: o.comms})
		if field, ok := errors.AsType[*rule.FieldError](err); ok {
			return nil, 0, fmt.Errorf("--comm: %s", field.Reason)
		}
	}
	return f, mask, nil
}

// parsePIDs reads the process ids of a flag.
func parsePIDs(flag string, texts []string) ([]int32, error) {
	var pids []int32
	for _, text := range texts {
		pid, err := strconv.ParseInt(text, 10, 32)
		if err != nil || pid <= 0 {
			return nil, fmt.Errorf("--%s %q: not a process id", flag, text)
		}
		pids = append(pids, int32(pid))
	}
	return pids, nil
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
		return &jsonForm{encoder: event.Encoder{Ancestors: o.parents}, end: end}, nil
	case o.format != "":
		return newTemplateForm(o.format, o.timefmt, end)
	case o.summary:
		return newSummary(), nil
	}
	if o.output != "" {
		stdout = nil
	}
	return newLineForm(o.timefmt, end, wantsColor(o.color, stdout), o.parents), nil
}

// choosesProcesses reports whether only some processes are of interest.
func (o *watchOptions) choosesProcesses() bool {
	return len(o.pids)+len(o.trees)+len(o.users)+len(o.exes)+len(o.cwds)+len(o.comms) > 0
}

// config returns what to watch.
func (o *watchOptions) config(roots []string, events fanotify.Mask) watch.Config {
	cfg := watch.Config{Roots: roots, Events: events, Latency: o.latency, KeepThread: true, AllNamespaces: o.allNamespaces,
		ProcessDetails: o.details}
	if o.latency == 0 {
		cfg.Latency = -1
	}
	return cfg
}
