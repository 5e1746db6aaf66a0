package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"fanlight/internal/doctor"
)

// reportWidth is how many columns a report takes, as long as its names allow.
const reportWidth = 100

// reportText writes a report for people.
type reportText struct {
	b     []byte
	color bool
}

func newReportText(color bool) *reportText { return &reportText{color: color} }

func (t *reportText) append(b []byte, r *doctor.Report) []byte {
	t.b = b
	t.findings(r)
	t.mounts(r.Mounts)
	t.kernel(r)
	t.limits(r)
	t.listeners(r)
	return t.b
}

func (t *reportText) print(s string) { t.b = append(t.b, s...) }

func (t *reportText) paint(color, s string) string {
	if !t.color || color == "" || s == "" {
		return s
	}
	return color + s + noColor
}

const headColor = "\x1b[1m" // bold

func (t *reportText) head(title string) {
	if len(t.b) > 0 {
		t.print("\n")
	}
	t.print(t.paint(headColor, title) + "\n")
}

// wrapped writes text behind a first column, in as many lines as it needs.
func (t *reportText) wrapped(first string, width int, text string) {
	indent := strings.Repeat(" ", width)
	line := ""
	flush := func() {
		t.print("  " + first + line + "\n")
		first, line = indent, ""
	}
	for word := range strings.SplitSeq(text, " ") {
		if line != "" && 2+width+utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > reportWidth {
			flush()
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	flush()
}

func (t *reportText) findings(r *doctor.Report) {
	t.head("Findings")
	if len(r.Findings) == 0 {
		t.print("  nothing is wrong\n")
	}
	colors := map[doctor.Level]string{doctor.Problem: lossColor, doctor.Warning: changeColor}
	const width = len("problem  ")
	for _, f := range r.Findings {
		level := t.paint(colors[f.Level], string(f.Level)) + strings.Repeat(" ", width-len(f.Level))
		t.wrapped(level, width, oneLine(f.Text))
		if f.Remedy != "" {
			t.wrapped(strings.Repeat(" ", width), width, "-> "+oneLine(f.Remedy))
		}
	}
}

// cell is a text in a table.
type cell struct{ text, color string }

// columns returns how wide the columns of a table are: as their widest cells.
func columns(heads []string, rows [][]cell) []int {
	widths := make([]int, len(heads))
	for i, head := range heads {
		widths[i] = len(head)
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
	}
	return widths
}

func tableWidth(heads []string, rows [][]cell) int {
	width := 0
	for _, w := range columns(heads, rows) {
		width += 2 + w
	}
	return width
}

// table writes the first cells of rows under heads. A column is as wide as its widest cell, up to a limit; a longer cell
// pushes the rest of its row.
func (t *reportText) table(heads []string, limit int, rows [][]cell) {
	widths := columns(heads, rows)
	top := make([]cell, len(heads))
	for i, head := range heads {
		top[i] = cell{head, readColor}
	}
	for _, row := range slices.Concat([][]cell{top}, rows) {
		line, gap := "", "  "
		for i, c := range row[:len(heads)] {
			if c.text != "" {
				line += gap + t.paint(c.color, c.text)
				gap = ""
			}
			gap += strings.Repeat(" ", max(0, min(limit, widths[i])-utf8.RuneCountInString(c.text))+2)
		}
		t.print(line + "\n")
	}
}

// notes are what the numbers in a table lead to.
type notes []string

// number returns the reference to a note, which is added if it is new.
func (n *notes) number(note string) string {
	i := slices.Index(*n, note)
	if i < 0 {
		i = len(*n)
		*n = append(*n, note)
	}
	return " [" + strconv.Itoa(i+1) + "]"
}

// because puts a reason and a way out together.
func because(what, reason, remedy string) string {
	text := what + ": " + reason
	if remedy != "" {
		text += "; " + remedy
	}
	return oneLine(text)
}

func (t *reportText) mounts(mounts []doctor.Mount) {
	t.head("Mounts")
	var rows [][]cell
	var why notes
	for _, m := range mounts {
		where := name(m.MountPoint)
		if n := len(m.AlsoAt); n > 0 {
			where += fmt.Sprintf(" (+%d)", n)
		}
		rows = append(rows, []cell{
			{where, ""}, {name(m.FSType), ""}, watchCell(m.Watch, &why),
			abilityCell("permission events", m.Permission, &why), abilityCell("pre-content events", m.PreContent, &why),
			handlesCell(m.Handles), {name(m.Source), readColor},
		})
	}
	heads := []string{"MOUNT POINT", "TYPE", "WATCH", "PERMISSION", "PRE-CONTENT", "HANDLES", "SOURCE"}
	if tableWidth(heads, rows) > reportWidth {
		heads = heads[:len(heads)-1]
	}
	t.table(heads, 50, rows)
	for i, note := range why {
		number := fmt.Sprintf("[%d] ", i+1)
		t.wrapped(number, len(number), note)
	}
	for _, m := range mounts {
		if len(m.AlsoAt) > 0 {
			t.wrapped("(+) ", 4, name(m.MountPoint)+" is also at "+several(m.AlsoAt, name, 4))
		}
	}
}

// several joins the first few of some texts and counts the rest.
func several[T any](all []T, text func(T) string, most int) string {
	var texts []string
	for _, one := range all[:min(len(all), most)] {
		texts = append(texts, text(one))
	}
	s := strings.Join(texts, ", ")
	if len(all) > most {
		s += fmt.Sprintf(" and %d more", len(all)-most)
	}
	return s
}

func name(s string) string { return string(appendEscaped(nil, s)) }

func watchCell(w doctor.Watch, why *notes) cell {
	c := map[doctor.Form]cell{
		doctor.FormFilesystem: {"filesystem", newColor},
		doctor.FormSubvolume:  {"top level", newColor},
		doctor.FormInodes:     {"directories", changeColor},
		doctor.FormNone:       {"no", lossColor},
		doctor.FormUnknown:    {"?", lossColor},
	}[w.Form]
	if w.Reason != "" {
		what := map[doctor.Form]string{
			doctor.FormSubvolume: "watched through the top level", doctor.FormInodes: "watched directory by directory",
			doctor.FormNone: "not watched",
		}[w.Form]
		c.text += why.number(because(cmp.Or(what, "could not be tried"), w.Reason, w.Remedy))
	}
	return c
}

func abilityCell(what string, a doctor.Ability, why *notes) cell {
	c := map[doctor.Answer]cell{
		doctor.Yes: {"yes", newColor}, doctor.No: {"no", readColor}, doctor.Unknown: {"?", changeColor},
	}[a.Answer]
	if a.Reason != "" {
		note := "no " + what
		if a.Answer == doctor.Unknown {
			note = "could not be tried"
		}
		c.text += why.number(because(note, a.Reason, a.Remedy))
	}
	return c
}

func handlesCell(handles string) cell {
	switch handles {
	case doctor.HandlesOpen:
		return cell{handles, newColor}
	case doctor.HandlesUnknown:
		return cell{"?", changeColor}
	}
	return cell{handles, readColor}
}

func (t *reportText) kernel(r *doctor.Report) {
	t.head("Kernel " + name(r.Kernel))
	var has, untried []string
	byReason := map[string][]string{}
	var rows [][]cell
	for _, f := range r.Features {
		switch f.Answer {
		case doctor.Yes:
			has = append(has, f.Name)
		case doctor.No:
			rows = append(rows, []cell{{f.Name, ""}, {"no", readColor}, {f.Since, ""}, {f.For, readColor}})
		default:
			if byReason[f.Reason] == nil {
				untried = append(untried, f.Reason)
			}
			byReason[f.Reason] = append(byReason[f.Reason], f.Name)
		}
	}
	connector := cell{"yes", newColor}
	if r.Connector.Answer != doctor.Yes {
		connector = cell{"no", changeColor}
	}
	rows = append(rows, []cell{{"process_connector", ""}, connector, {"2.6.15", ""},
		{oneLine(cmp.Or(r.Connector.Reason, "processes that are known even if they end at once")), readColor}})
	t.wrapped("has  ", 5, strings.Join(has, ", "))
	for _, reason := range untried {
		t.wrapped(t.paint(changeColor, "?")+"    ", 5, strings.Join(byReason[reason], ", ")+": could not be tried: "+oneLine(reason))
	}
	t.table([]string{"FEATURE", "HERE", "SINCE", ""}, 40, rows)
}

func (t *reportText) limits(r *doctor.Report) {
	t.head("Limits")
	if len(r.Limits) == 0 {
		t.print("  none that can be read: before Linux 5.13 they were fixed\n")
	}
	var rows [][]cell
	for _, l := range r.Limits {
		var used []string
		color := readColor
		for _, u := range r.Users {
			n, counts := use(u, l)
			if !counts {
				continue
			}
			who := cmp.Or(name(u.Name), fmt.Sprintf("user %d", u.UID))
			used = append(used, fmt.Sprintf("%s uses %s (%d %%)", who, thousands(n), 100*n/max(1, l.Value)))
			if 100*n >= doctor.Nearly*l.Value {
				color = lossColor
			}
		}
		note := l.For
		if len(used) > 0 {
			note = several(used, strings.Clone, 3)
		}
		rows = append(rows, []cell{{l.Name, ""}, {thousands(l.Value), ""}, {note, color}})
	}
	if len(rows) > 0 {
		t.table([]string{"LIMIT", "VALUE", ""}, 40, rows)
	}
}

// use returns how much of a limit a user has, if it is one of a user's.
func use(u doctor.User, l doctor.Limit) (n int, counts bool) {
	switch {
	case strings.HasSuffix(l.Name, "_groups"):
		return u.Groups, true
	case strings.HasSuffix(l.Name, "_marks"):
		return u.Marks, true
	}
	return 0, false
}

// thousands writes a number with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func (t *reportText) listeners(r *doctor.Report) {
	t.head("Other listeners")
	if len(r.Listeners) == 0 {
		t.print("  none seen\n")
	}
	for _, l := range r.Listeners {
		who := name(cmp.Or(l.Comm, "?")) + "[" + strconv.Itoa(l.PID) + "]"
		line := t.paint(headColor, who) + "  " + cmp.Or(name(l.User), fmt.Sprintf("user %d", l.UID)) + "  " + l.Class
		if l.Exe != "" {
			line += "  " + t.paint(readColor, name(l.Exe))
		}
		t.print("  " + line + "\n")
		if l.CanBlock {
			t.print("    " + t.paint(changeColor, "can block: who opens a file waits for its answer") + "\n")
		}
		if l.Stopped {
			t.print("    " + t.paint(lossColor, "is stopped") + "\n")
		}
		if len(l.Marks) == 0 {
			t.print("    no marks\n")
		}
		t.marks(l.Marks)
	}
	if n := len(r.Unreadable); n > 0 {
		t.wrapped("", 0, fmt.Sprintf("could not be asked: the processes %s", several(r.Unreadable, strconv.Itoa, 6)))
	}
}

// marks writes a line for each mark: what is marked, and for which events.
func (t *reportText) marks(marks []doctor.Mark) {
	width := 0
	for _, m := range marks {
		if n := utf8.RuneCountInString(markText(m)); n <= 50 {
			width = max(width, n)
		}
	}
	for _, m := range marks {
		what := markText(m)
		gap := width - utf8.RuneCountInString(what)
		if gap < 0 { // too long for a column: the events come below
			t.print("    " + what + "\n")
			t.wrapped(strings.Repeat(" ", 4), 4, eventsText(m))
			continue
		}
		t.wrapped("  "+what+strings.Repeat(" ", gap+2), width+4, eventsText(m))
	}
}

// markText says what is marked.
func markText(m doctor.Mark) string {
	where := "that is not mounted here"
	if m.MountPoint != "" {
		where = fmt.Sprintf("%s (%s)", name(m.MountPoint), name(m.FSType))
	} else if m.Device != "" {
		where = m.Device + ", not mounted here"
	}
	switch {
	case m.Target == "inode" && m.Count == 1:
		return "1 file or directory on " + where
	case m.Target == "inode":
		return thousands(m.Count) + " files or directories on " + where
	case m.Target == "mntns":
		return "mount namespace " + m.Device
	}
	return m.Target + " " + where
}

// eventsText says what a mark asks for.
func eventsText(m doctor.Mark) string {
	spread := func(events string) string { return strings.ReplaceAll(events, "|", ", ") }
	var parts []string
	if m.Events != "" && m.Events != "0" {
		parts = append(parts, spread(m.Events))
	}
	if m.Ignored != "" {
		parts = append(parts, "ignores "+spread(m.Ignored))
	}
	return strings.Join(parts, "; ")
}
