package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newCompletionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "print completions for a shell",
		Long:  "Completion prints a script that completes the commands, flags and events of fanlight in a shell.",
		Example: `  # for this bash
  source <(fanlight completion bash)

  # for every zsh
  fanlight completion zsh >/usr/local/share/zsh/site-functions/_fanlight`,
		ValidArgs:             shells,
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return errors.New("of which shell? bash, zsh or fish")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return failed(root.GenBashCompletionV2(out, true))
			case "zsh":
				return failed(root.GenZshCompletion(out))
			default:
				return failed(root.GenFishCompletion(out, true))
			}
		},
	}
}

// completeEvents completes the last name of a list joined by commas, without the names that it already has.
func completeEvents(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	done := typed[:strings.LastIndexByte(typed, ',')+1]
	var completions []string
	for _, name := range eventNames() {
		if !slices.Contains(strings.Split(done, ","), name) {
			completions = append(completions, done+name)
		}
	}
	return completions, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
