package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "write the man pages into a directory",
		Long:   "Man writes one page for each command into the directory DIR, which it makes if need be.",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return failed(writeManPages(cmd.Root(), args[0]))
		},
	}
}

// writeManPages writes the pages of cmd and its subcommands to dir: fanlight.1, fanlight-watch.1 and so on. They are
// the same bytes wherever and whenever they are written.
func writeManPages(cmd *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, pageName(cmd)+".1"), manPage(cmd), 0o644); err != nil {
		return err
	}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			if err := writeManPages(sub, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage returns the page of cmd in the language of man(7). What help says is all in it: the flags, the examples and
// the sections of moreKey, which begin with a line such as "Exit status:".
func manPage(cmd *cobra.Command) []byte {
	p := new(page)
	p.line(".TH", strings.ToUpper(pageName(cmd)), "1", "", "fanlight", "Fanlight")
	p.section("NAME")
	p.text(pageName(cmd) + ` \- ` + roff(cmd.Short))
	p.section("SYNOPSIS")
	p.text(`\fB` + roff(cmd.CommandPath()) + `\fR` + roff(strings.TrimPrefix(cmd.UseLine(), cmd.CommandPath())))
	p.section("DESCRIPTION")
	p.paragraphs(cmd.Long)

	var commands []string
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			commands = append(commands, sub.Name()+"  "+sub.Short)
		}
	}
	if len(commands) > 0 {
		p.section("COMMANDS")
		p.list(strings.Join(commands, "\n"))
	}
	if flags := cmd.LocalFlags(); flags.HasAvailableFlags() {
		p.section("OPTIONS")
		flags.VisitAll(p.flag)
	}
	for text := range strings.SplitSeq(cmd.Annotations[moreKey], "\n\n") {
		title, body, ok := strings.Cut(text, ":\n")
		if ok && !strings.HasPrefix(title, " ") {
			p.section(strings.ToUpper(title))
			text = body
		}
		p.paragraphs(text)
	}
	if cmd.Example != "" {
		p.section("EXAMPLES")
		p.verbatim(cmd.Example)
	}
	p.section("SEE ALSO")
	p.text(strings.Join(seeAlso(cmd), ", "))
	return p.buf.Bytes()
}

// seeAlso lists the other pages: the parent's, the subcommands', and the kernel's.
func seeAlso(cmd *cobra.Command) []string {
	var pages []string
	if parent := cmd.Parent(); parent != nil {
		pages = append(pages, `\fB`+roff(pageName(parent))+`\fR(1)`)
	}
	for _, sub := range cmd.Commands() {
		if !sub.Hidden {
			pages = append(pages, `\fB`+roff(pageName(sub))+`\fR(1)`)
		}
	}
	return append(pages, `\fBfanotify\fR(7)`)
}

// page is a man page that is being written.
type page struct{ buf bytes.Buffer }

// line writes a request with its arguments.
func (p *page) line(request string, args ...string) {
	p.buf.WriteString(request)
	for _, arg := range args {
		p.buf.WriteString(` "` + roff(arg) + `"`)
	}
	p.buf.WriteByte('\n')
}

func (p *page) section(title string) { p.line(".SH", title) }

// text writes a line that is already in the language of roff.
func (p *page) text(line string) { p.buf.WriteString(line + "\n") }

// paragraphs writes paragraphs that are separated by empty lines. One whose lines are a term, two or more blanks and
// an explanation becomes a list, any other is filled.
func (p *page) paragraphs(text string) {
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		if _, _, ok := cutTerm(paragraph); ok {
			p.list(paragraph)
			continue
		}
		p.line(".PP")
		for line := range strings.SplitSeq(paragraph, "\n") {
			p.text(roff(strings.TrimSpace(line)))
		}
	}
}

// list writes one entry a line; a line without a term goes on with the entry above.
func (p *page) list(text string) {
	width := 0
	for line := range strings.SplitSeq(text, "\n") {
		if term, _, ok := cutTerm(line); ok {
			width = max(width, len(term)+2)
		}
	}
	p.line(".PP")
	p.line(".PD", "0") // the entries follow each other without an empty line
	for line := range strings.SplitSeq(text, "\n") {
		term, meaning, ok := cutTerm(line)
		if !ok {
			p.text(roff(term))
			continue
		}
		p.line(".TP", strconv.Itoa(width))
		p.text(`\fB` + roff(term) + `\fR`)
		p.text(roff(meaning))
	}
	p.line(".PD")
}

// cutTerm cuts a line, or the first of several, at the first run of blanks inside it.
func cutTerm(text string) (term, meaning string, ok bool) {
	line, _, _ := strings.Cut(text, "\n")
	term, meaning, ok = strings.Cut(strings.TrimSpace(line), "  ")
	return term, strings.TrimSpace(meaning), ok
}

// flag writes a flag with its value, its meaning and its default.
func (p *page) flag(flag *pflag.Flag) {
	value, usage := pflag.UnquoteUsage(flag)
	names := `\fB` + roff("--"+flag.Name) + `\fR`
	if flag.Shorthand != "" {
		names = `\fB` + roff("-"+flag.Shorthand) + `\fR, ` + names
	}
	if value != "" {
		names += ` \fI` + roff(value) + `\fR`
	}
	switch flag.DefValue {
	case "", "false", "0", "0s", "[]":
	default:
		usage += " (default " + flag.DefValue + ")"
	}
	p.line(".TP")
	p.text(names)
	p.text(roff(usage))
}

// verbatim writes text as it is, line by line.
func (p *page) verbatim(text string) {
	p.line(".EX")
	for line := range strings.SplitSeq(text, "\n") {
		p.text(roff(line))
	}
	p.line(".EE")
}

// roff escapes a line of text: what roff would read as a request, an escape or typography.
func roff(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, `"`, `\(dq`, "^", `\(ha`, "~", `\(ti`).Replace(line)
	if strings.HasPrefix(line, ".") {
		return `\&` + line
	}
	return line
}
