package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// The lines of a document between which the tables stand.
const (
	beginMark = "<!-- bench -->"
	endMark   = "<!-- /bench -->"
)

// machine says what was measured on, and how.
func (b *bench) machine() string {
	cpu := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if model := between(info, "model name\t: ", "\n"); model != nil {
			cpu = string(model)
		}
	}
	var uname unix.Utsname
	kernel := "unknown"
	if err := unix.Uname(&uname); err == nil {
		kernel = unix.ByteSliceToString(uname.Release[:])
	}
	filesystem := "tmpfs"
	if b.ext4 {
		filesystem = "ext4"
	}
	return fmt.Sprintf("%s, %d processors, Linux %s, %s, %s, %s, %d rounds (fatrace and inotify-tools %d)", cpu,
		runtime.NumCPU(), kernel, runtime.Version(), filesystem, time.Now().UTC().Format(time.DateOnly), b.rounds,
		min(b.rounds, b.peerRounds))
}

func perOp(d time.Duration, work workload) float64 {
	return float64(d.Nanoseconds()) / 1000 / float64(work.n)
}

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// writeWork writes the table of one workload.
func writeWork(w io.Writer, work workload, results []*result) {
	byName := make(map[string]*result)
	for _, r := range results {
		byName[r.watcher.name] = r
	}
	fmt.Fprintf(w, "\n### %s: %s\n\n", work.name, work.title)
	rows := [][]string{{"watched by", "µs/" + work.unit, "to the floor", "the work, µs/" + work.unit, "slowdown",
		"to the floor's", "peak MiB", "names missed"}}
	watcher := func(r round) float64 { return perOp(r.watcher, work) }
	load := func(r round) float64 { return perOp(r.load, work) }
	for _, r := range results {
		floor := byName[r.watcher.floor]
		row := []string{r.watcher.name, each(r, watcher), pairs(r, floor, watcher), each(r, load), pairs(r, byName[nobody], load),
			pairs(r, floor, load), each(r, func(r round) float64 { return mib(r.peak) }), r.missed()}
		switch {
		case r.watcher.name == nobody:
			row[1], row[2], row[5], row[6] = "", "", "", ""
		case r.gaveUp(): // what it used until then says nothing
			row = []string{r.watcher.name + ", gave up", "", "", "", "", "", "", r.missed()}
		}
		rows = append(rows, row)
	}
	writeTable(w, rows)
}

// writeLoops writes the table of the read loops under one workload.
func writeLoops(w io.Writer, work workload, results []*result) {
	fmt.Fprintf(w, "\n### %s: %s\n\n", work.name, work.title)
	rows := [][]string{{"read by", "µs/" + work.unit, "to the floor", "the work took, µs/" + work.unit, "to the floor's", "peak MiB"}}
	var floor *result
	for _, r := range results {
		if r.watcher.name == floorLoop {
			floor = r
		}
	}
	reader := func(r round) float64 { return perOp(r.watcher, work) }
	wall := func(r round) float64 { return perOp(r.wall, work) }
	for _, r := range results {
		row := []string{r.watcher.name, each(r, reader), pairs(r, floor, reader), each(r, wall), pairs(r, floor, wall),
			each(r, func(r round) float64 { return mib(r.peak) })}
		if r.watcher.name == nobody {
			row[1], row[2], row[4], row[5] = "", "", "", ""
		}
		rows = append(rows, row)
	}
	writeTable(w, rows)
}

// writeStart writes the table of how the watchers start.
func writeStart(w io.Writer, dirs int, results []*result) {
	fmt.Fprintf(w, "\n### start: on a tree of %s directories\n\n", thousands(dirs))
	rows := [][]string{{"watched by", "ready after ms", "peak MiB"}}
	for _, r := range results {
		if r.watcher.name == nobody {
			continue
		}
		rows = append(rows, []string{r.watcher.name, each(r, func(r round) float64 { return r.ready.Seconds() * 1000 }),
			each(r, func(r round) float64 { return mib(r.peak) })})
	}
	writeTable(w, rows)
}

// writeParse writes what the benchmarks of package fanotify say about its parser.
func writeParse(ctx context.Context, w io.Writer) error {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "Parse", "-benchmem", "fanlight/fanotify").Output()
	if err != nil {
		return fmt.Errorf("go test -bench Parse fanlight/fanotify: %w\n%s", err, out)
	}
	rows := [][]string{{"benchmark", "ns/event", "allocations"}}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if !strings.HasPrefix(line, "Benchmark") || len(f) < 4 {
			continue
		}
		row := []string{strings.TrimPrefix(f[0], "Benchmark"), "", ""}
		for i, unit := range f {
			switch unit {
			case "ns/event":
				row[1] = f[i-1]
			case "ns/op":
				if row[1] == "" {
					row[1] = f[i-1]
				}
			case "allocs/op":
				row[2] = f[i-1]
			}
		}
		rows = append(rows, row)
	}
	if len(rows) > 1 {
		fmt.Fprintf(w, "\n### parse: the parser of package fanotify\n\n")
		writeTable(w, rows)
	}
	return nil
}

// gaveUp tells whether the watcher ended by itself in one of the rounds.
func (r *result) gaveUp() bool {
	return slices.ContainsFunc(r.rounds, func(r round) bool { return r.died })
}

// missed says how many names the watcher missed in the worst of its runs.
func (r *result) missed() string {
	if len(r.checks) == 0 {
		return ""
	}
	return slices.MaxFunc(r.checks, func(a, b *tally) int { return a.missed() - b.missed() }).String()
}

// String says how many names were missed, and what else is wrong.
func (t *tally) String() string {
	if t.events > 0 {
		return thousands(t.events) + " events"
	}
	s := fmt.Sprintf("%s of %s", thousands(t.missed()), thousands(t.known))
	for _, also := range []struct {
		n    int
		what string
	}{{t.overflow, "overflows told"}, {t.lost, "records told lost"}, {t.wrong, "wrong paths"}, {t.inexact, "not exact"}} {
		if also.n > 0 {
			s += fmt.Sprintf(", %s %s", thousands(also.n), also.what)
		}
	}
	return s
}

// each is the spread of a figure over the rounds of a watcher.
func each(r *result, figure func(round) float64) string {
	var figures []float64
	for _, round := range r.rounds {
		figures = append(figures, figure(round))
	}
	return spread(figures)
}

// pairs is the spread of the ratio of a figure of two watchers, each taken within one round.
func pairs(r, to *result, figure func(round) float64) string {
	switch to {
	case nil:
		return ""
	case r:
		return "1"
	}
	var ratios []float64
	for i := range min(len(r.rounds), len(to.rounds)) {
		ratios = append(ratios, figure(r.rounds[i])/figure(to.rounds[i]))
	}
	return spread(ratios)
}

// spread is the median, and the lower and the upper quartile.
func spread(figures []float64) string {
	if len(figures) == 0 {
		return ""
	}
	slices.Sort(figures)
	quantile := func(q float64) float64 {
		at := q * float64(len(figures)-1)
		below := int(at)
		above := min(below+1, len(figures)-1)
		return figures[below] + (at-float64(below))*(figures[above]-figures[below])
	}
	median := strconv.FormatFloat(quantile(0.5), 'f', 2, 64)
	if len(figures) == 1 {
		return median
	}
	return fmt.Sprintf("%s (%.2f-%.2f)", median, quantile(0.25), quantile(0.75))
}

// thousands writes a number as 400,000.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// writeTable writes rows, of which the first is the heading, as an aligned table in Markdown.
func writeTable(w io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	line := func(row []string, fill string) {
		for i, cell := range row {
			fmt.Fprintf(w, "| %s%s ", cell, strings.Repeat(fill, widths[i]-utf8.RuneCountInString(cell)))
		}
		fmt.Fprintln(w, "|")
	}
	line(rows[0], " ")
	line(make([]string, len(widths)), "-")
	for _, row := range rows[1:] {
		line(row, " ")
	}
}

// writeBetweenMarks replaces what stands in a file between its marks; a file without them gets both at its end.
func writeBetweenMarks(path, tables string) error {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	before, rest, found := bytes.Cut(text, []byte(beginMark))
	_, after, ended := bytes.Cut(rest, []byte(endMark))
	if found != ended {
		return fmt.Errorf("write %s: has %s without %s after it", path, beginMark, endMark)
	}
	if !found {
		before, after = append(text, '\n'), []byte("\n")
	}
	return os.WriteFile(path, fmt.Appendf(nil, "%s%s\n\n%s\n%s%s", before, beginMark, tables, endMark, after), 0o644)
}
