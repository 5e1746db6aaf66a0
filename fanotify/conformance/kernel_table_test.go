package conformance_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fanlight/internal/fstest"
)

var update = flag.Bool("update", false, "write docs/kernel.md instead of comparing it")

// row is something of the kernel's interface: a line of the table.
type row struct {
	kernel  []string // the first one is the row's name
	name    string   // in package fanotify
	since   string   // the Linux version; empty: as the comment of name says
	as      string   // the row whose privilege it has, where it can't be tried
	use     use      // how it is tried
	section string

	privilege string
	proofs    []string
}

// The parts of the table.
const (
	groups      = "Groups"
	reports     = "What events report"
	marks       = "Marks"
	events      = "Events"
	records     = "Information records"
	descriptors = "Descriptors in events"
	answers     = "Answers to permission events"
	around      = "Handles, mounts, queue, limits"
)

var sections = []string{groups, reports, marks, events, records, descriptors, answers, around}

// sectionOf says for each type of constant where its rows are.
var sectionOf = map[string]string{
	"Class": groups, "Report": reports, "Target": marks, "MarkFlags": marks, "Mask": events, "RecordType": records,
}

// broughtBy says what brings each record.
var broughtBy = map[string]string{
	"FAN_EVENT_INFO_TYPE_FID": "FAN_REPORT_FID", "FAN_EVENT_INFO_TYPE_DFID": "FAN_REPORT_DIR_FID",
	"FAN_EVENT_INFO_TYPE_DFID_NAME": "FAN_REPORT_NAME", "FAN_EVENT_INFO_TYPE_OLD_DFID_NAME": "FAN_RENAME",
	"FAN_EVENT_INFO_TYPE_NEW_DFID_NAME": "FAN_RENAME", "FAN_EVENT_INFO_TYPE_PIDFD": "FAN_REPORT_PIDFD",
	"FAN_EVENT_INFO_TYPE_ERROR": "FAN_FS_ERROR", "FAN_EVENT_INFO_TYPE_RANGE": "FAN_PRE_ACCESS",
	"FAN_EVENT_INFO_TYPE_MNT": "FAN_MNT_ATTACH",
}

// others are the rows that are no constant of package fanotify: the kernel's names, ours, the Linux version unless the
// comment says it, and the row whose privilege it has, where it can't be tried.
var others = []struct{ section, kernel, name, since, as string }{
	{groups, "FAN_CLOEXEC", "NewGroup", "2.6.37", ""},
	{groups, "FAN_NONBLOCK", "NewGroup", "2.6.37", ""},
	{groups, "event_f_flags", "Config.EventFlags", "2.6.37", ""},
	{marks, "FAN_MARK_ADD", "Group.Mark", "2.6.37", ""},
	{marks, "FAN_MARK_REMOVE", "Group.Unmark", "2.6.37", ""},
	{marks, "FAN_MARK_FLUSH", "Group.Flush", "2.6.37", ""},
	{descriptors, "FAN_NOFD", "ErrNoDescriptor", "2.6.37", "FAN_REPORT_FID"},
	{descriptors, "FAN_NOPIDFD", "Event.PIDFD", "5.15", "FAN_REPORT_PIDFD"},
	{descriptors, "FAN_EPIDFD", "Event.PIDFD", "5.15", "FAN_REPORT_PIDFD"},
	{answers, "FAN_ALLOW", "Event.Allow", "2.6.37", "FAN_OPEN_PERM"},
	{answers, "FAN_DENY", "Event.Deny", "2.6.37", "FAN_OPEN_PERM"},
	{answers, "FAN_ERRNO_SHIFT FAN_ERRNO_MASK FAN_ERRNO_BITS", "Response.Errno", "6.14", "FAN_PRE_ACCESS"},
	{answers, "FAN_AUDIT", "Response.Audit", "", ""},
	{answers, "FAN_INFO", "Response.Rule", "", "FAN_AUDIT"},
	{answers, "FAN_RESPONSE_INFO_AUDIT_RULE", "AuditRule", "6.3", "FAN_AUDIT"},
	{around, "name_to_handle_at", "HandleAt", "2.6.39", ""},
	{around, "AT_HANDLE_FID", "HandleAt", "6.5", ""},
	{around, "open_by_handle_at", "Handle.Open", "2.6.39", ""},
	{around, "FIONREAD", "Group.Backlog", "2.6.37", ""},
	{around, "fdinfo", "Group.Info", "3.8", ""},
	{around, "statmount", "StatMount", "", ""},
	{around, "listmount", "ListMounts", "", ""},
	{around, "STATX_MNT_ID_UNIQUE", "MountIDAt", "", ""},
	{around, "NS_GET_MNTNS_ID", "MountNamespaceID", "", ""},
	{around, "max_queued_events", "Limits.MaxQueuedEvents", "5.13", ""},
	{around, "max_user_groups", "Limits.MaxUserGroups", "5.13", ""},
	{around, "max_user_marks", "Limits.MaxUserMarks", "5.13", ""},
	{around, "watchdog_timeout", "Limits.WatchdogTimeout", "6.18", ""},
}

// noRows are the names of package unix that have no row: sets of flags that have one each, structures, and what the
// kernel calls deprecated.
var noRows = []string{
	"FAN_CLOSE", "FAN_MOVE", "FAN_REPORT_DFID_NAME", "FAN_REPORT_DFID_NAME_TARGET", "FAN_MARK_IGNORE_SURV",
	"FAN_EVENT_METADATA_LEN", "FAN_RESPONSE_INFO_NONE",
	"FAN_ALL_EVENTS", "FAN_ALL_PERM_EVENTS", "FAN_ALL_OUTGOING_EVENTS", "FAN_ALL_CLASS_BITS", "FAN_ALL_INIT_FLAGS",
	"FAN_ALL_MARK_FLAGS",
}

// tableRows returns all rows, without privileges and proofs.
func tableRows(t *testing.T, s *source) []*row {
	t.Helper()
	values := readKernelConstants(t)
	var rows []*row
	for _, c := range s.constants {
		r := &row{section: sectionOf[c.kind], kernel: []string{c.kernel}, name: c.name}
		if r.section == "" {
			t.Errorf("no section for constants of type %s, such as %s", c.kind, c.name)
		}
		switch {
		case c.kind == "RecordType":
			r.as = broughtBy[c.kernel]
		case c.kernel == "FAN_Q_OVERFLOW": // never asked for
			r.as = "FAN_REPORT_FID"
		default:
			r.use = use{Kind: c.kind, Value: values[c.kernel]}
		}
		rows = append(rows, r)
	}
	for _, field := range slices.Sorted(maps.Keys(s.flags)) {
		rows = append(rows, &row{
			section: groups, kernel: []string{s.flags[field]}, name: "Config." + field, use: use{Kind: "Config", Field: field},
		})
	}
	for _, o := range others {
		r := &row{section: o.section, kernel: strings.Fields(o.kernel), name: o.name, since: o.since, as: o.as}
		if r.as == "" {
			r.use = use{Kind: "other", Field: r.kernel[0]}
		}
		rows = append(rows, r)
	}
	for _, r := range rows {
		r.findSince(t, s)
		for _, name := range r.kernel {
			delete(values, name)
		}
	}
	for name := range values {
		if !slices.Contains(noRows, name) {
			t.Errorf("%s has no row", name)
		}
	}
	return rows
}

// ofFeature finds in the comment of a Feature what it is, and the version.
var ofFeature = regexp.MustCompile(`^(\w+)[^(]*\((\d+\.\d+)`)

// checkFeatures compares the versions of features with those of the constants that they are about.
func checkFeatures(t *testing.T, s *source, rows []*row) {
	t.Helper()
	for feature, comment := range s.comments {
		found := ofFeature.FindStringSubmatch(comment)
		if !strings.HasPrefix(feature, "Feature") || found == nil || feature == "FeatureThreadPIDFD" { // of two flags together
			continue
		}
		for _, r := range rows {
			if r.name == found[1] && r.use.Kind != "other" && r.since != found[2] {
				t.Errorf("%s since %s, but the comment of %s says %s", r.kernel[0], r.since, feature, found[2])
			}
		}
	}
}

var sinceVersion = regexp.MustCompile(`since (?:Linux )?([2-9]\.\d+(?:\.\d+)?)`)

// findSince takes the version from the comment; where the row has one already, both have to agree.
func (r *row) findSince(t *testing.T, s *source) {
	t.Helper()
	comment, ok := s.comments[r.name]
	if !ok {
		t.Errorf("%s: package fanotify has no %s", r.kernel[0], r.name)
	}
	found := sinceVersion.FindStringSubmatch(strings.Join(strings.Fields(comment), " "))
	switch {
	case found == nil && r.since == "":
		t.Errorf("%s: the comment of %s doesn't say since which Linux version", r.kernel[0], r.name)
	case found != nil && r.since == "":
		r.since = found[1]
	case found != nil && strings.Count(r.name, ".") > 0 && r.since != found[1]:
		t.Errorf("%s: since %s, but the comment of %s says %s", r.kernel[0], r.since, r.name, found[1])
	}
}

// methodOf finds in the comment of a record's type the method that gives it.
var methodOf = regexp.MustCompile(`^Event\.(\w+)`)

// findProofs gives each row the tests that say that they prove it, and wants them to use it.
func findProofs(t *testing.T, s *source, rows []*row) {
	t.Helper()
	byName := map[string]*row{}
	for _, r := range rows {
		for _, name := range r.kernel {
			byName[name] = r
		}
	}
	for _, p := range readProofs(t, s) {
		for _, name := range p.proves {
			r := byName[name]
			if r == nil {
				t.Errorf("%s proves %s, which is no row of the table", p.test, name)
				continue
			}
			ways := append(methodOf.FindStringSubmatch(s.comments[r.name]), r.name[strings.LastIndex(r.name, ".")+1:], name)
			if !slices.ContainsFunc(ways, func(way string) bool { return p.says[way] }) {
				t.Errorf("%s says that it proves %s, but never uses %s", p.test, name, r.name)
			}
			r.proofs = append(r.proofs, p.test)
		}
	}
	for _, r := range rows {
		if len(r.proofs) == 0 {
			t.Errorf("no test says that it proves %s", r.kernel[0])
		}
	}
}

var capability = regexp.MustCompile(`CAP_[A-Z_]+[A-Z]`)

// findPrivileges tries every row with more and more capabilities.
func findPrivileges(t *testing.T, s *source, rows []*row, p place) {
	t.Helper()
	byName := map[string]*row{}
	for _, r := range rows {
		byName[r.kernel[0]] = r
		if r.as != "" {
			continue
		}
		var err error
		if r.privilege, err = leastPrivilege(r.use.tries(), p); err != nil {
			t.Errorf("%s can't be used: %v", r.kernel[0], err)
		}
		for _, name := range capability.FindAllString(s.comments[r.name], -1) {
			if r.section == groups && !strings.Contains(r.privilege, name) {
				t.Errorf("%s needs %s, but the comment of %s speaks of %s", r.kernel[0], r.privilege, r.name, name)
			}
		}
	}
	for _, r := range rows {
		if r.as == "" {
			continue
		}
		if byName[r.as] == nil {
			t.Fatalf("%s has the privilege of %q, which is no row", r.kernel[0], r.as)
		}
		r.privilege = byName[r.as].privilege
		if as := byName[byName[r.as].as]; as != nil {
			r.privilege = as.privilege
		}
	}
}

// TestKernelTable compares docs/kernel.md with the source, with the tests and with what the kernel says; with -update
// it writes it.
func TestKernelTable(t *testing.T) {
	s := readSource(t)
	rows := tableRows(t, s)
	checkFeatures(t, s, rows)
	findProofs(t, s, rows)
	findPrivileges(t, s, rows, newPlace(t))
	var b strings.Builder
	for _, section := range sections {
		fmt.Fprintf(&b, "### %s\n\n| kernel | package fanotify | since | privilege | proved by |\n|---|---|---|---|---|\n", section)
		for _, r := range rows {
			if r.section != section {
				continue
			}
			cells := []string{"`" + strings.Join(r.kernel, "`, `") + "`", "`" + r.name + "`", r.since, r.privilege, strings.Join(r.proofs, ", ")}
			if slices.Contains(cells, "") {
				t.Errorf("an empty cell: %q", cells)
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
		}
		b.WriteString("\n")
	}
	comparePart(t, "interface", b.String())
}

const document = "../../docs/kernel.md"

// comparePart compares the part of the document between its two marks with what it should be.
func comparePart(t *testing.T, part, want string) {
	t.Helper()
	text, err := os.ReadFile(document)
	check(t, err)
	begin, end := "<!-- "+part+": made by the tests of fanotify/conformance -->\n", "<!-- end of "+part+" -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no part %s", document, part)
	}
	want = "\n" + want
	if got == want {
		return
	}
	if *update && !t.Failed() {
		check(t, os.WriteFile(document, []byte(before+begin+want+end+after), 0o644))
		return
	}
	t.Errorf("docs/kernel.md is not what the kernel and the tests say; go test ./fanotify/conformance -update writes it\n%s",
		cmp.Diff(strings.Split(got, "\n"), strings.Split(want, "\n")))
}

// unprivilegedUse is a line of the table for a user who can't read the source.
type unprivilegedUse struct {
	Use       use
	Kernel    string
	Privilege string
}

// TestKernelTableUnprivileged uses as another user all that the table says needs no privilege, and none of the rest.
func TestKernelTableUnprivileged(t *testing.T) {
	const usesFile = "uses.json"
	fstest.Unprivileged(t, func(t *testing.T) string {
		document, err := os.ReadFile(document)
		check(t, err)
		var uses []unprivilegedUse
		for _, r := range tableRows(t, readSource(t)) {
			line := regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(r.kernel[0]) + "`.*$").Find(document)
			cells := strings.Split(string(line), " | ")
			if len(cells) != 5 {
				t.Fatalf("%s is not in the table", r.kernel[0])
			}
			if r.as == "" {
				uses = append(uses, unprivilegedUse{r.use, r.kernel[0], cells[3]})
			}
		}
		text, err := json.Marshal(uses)
		p := newPlace(t)
		check(t, err, os.WriteFile(filepath.Join(string(p), usesFile), text, 0o644))
		return string(p)
	}, func(t *testing.T, prepared string) {
		text, err := os.ReadFile(filepath.Join(prepared, usesFile))
		check(t, err)
		var uses []unprivilegedUse
		check(t, json.Unmarshal(text, &uses))
		if len(uses) == 0 {
			t.Fatal("nothing to use")
		}
		for _, u := range uses {
			var errs []error
			free := slices.ContainsFunc(u.Use.tries(), func(use try) bool {
				err := use(place(prepared))
				errs = append(errs, err)
				return err == nil
			})
			if free != (u.Privilege == "none") {
				t.Errorf("%s needs %s, says the table; without privilege: %v", u.Kernel, u.Privilege, errs)
			}
		}
	})
}
