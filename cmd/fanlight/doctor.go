package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fanlight/internal/doctor"
)

func newDoctorCommand() *cobra.Command {
	var asJSON bool
	var color string
	cmd := &cobra.Command{
		Use:                   "doctor [FLAGS] [PATH...]",
		Short:                 "show what can be watched here, what not, and why",
		Long:                  doctorLong,
		Example:               doctorExamples,
		Annotations:           map[string]string{moreKey: doctorMore},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, paths []string) error {
			if slices.Contains(paths, "") {
				return errors.New("a path is empty: without any path the whole machine is examined")
			}
			if !slices.Contains(colorChoices, color) {
				return fmt.Errorf("--color %q: use %s", color, strings.Join(colorChoices, ", "))
			}
			report, err := doctor.Examine(doctor.Config{Paths: paths})
			if err != nil {
				return failed(err)
			}
			out := cmd.OutOrStdout()
			if asJSON {
				err = writeReportJSON(out, report)
			} else {
				_, err = out.Write(newReportText(wantsColor(color, out)).append(nil, report))
			}
			if err != nil && !errors.Is(err, unix.EPIPE) { // as head(1) leaves it
				return failed(fmt.Errorf("output: %w", err))
			}
			return failed(unwatchable(report))
		},
	}
	cmd.Flags().BoolVarP(&asJSON, "json", "j", false, "write one JSON object")
	cmd.Flags().StringVar(&color, "color", "auto", "color the answers `WHEN`: auto (in a terminal), always, never")
	_ = cmd.RegisterFlagCompletionFunc("color", cobra.FixedCompletions(colorChoices, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func writeReportJSON(out io.Writer, report *doctor.Report) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}

// unwatchable says how much of what was asked for can't be watched.
func unwatchable(report *doctor.Report) error {
	if len(report.Mounts) == 0 {
		return errors.New("no filesystem to watch is mounted there")
	}
	n := 0
	for _, m := range report.Mounts {
		if !m.Watchable() {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d can't be watched", n, len(report.Mounts))
}
