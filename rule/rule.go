package rule

import (
	"fmt"
	"slices"
	"strings"

	"fanlight/event"
	"fanlight/fanotify"
)

// MaxPattern is the length of the longest pattern, in bytes, without the hyphen of one that excludes.
const MaxPattern = 4096

// Rule says which events somebody wants. All terms must hold; an empty term holds always. Its JSON form has the members
// that stand behind the fields, all optional, and no others.
type Rule struct {
	Name        string        // name: who asks, unique among the subscriptions of a broker; no term
	Events      fanotify.Mask // events: any of these bits
	PIDs        []int32       // pids: the process is one of these
	Descendants bool          // descendants: or descends from one of PIDs
	ExcludeTree []int32       // exclude_tree: the process is none of these and descends from none
	Exe         []string      // exe: patterns for the executable
	Cwd         []string      // cwd: patterns for the working directory
	Path        []string      // path: patterns for the path, of a rename for either path
	UIDs        []uint32      // uids: the real user of the process is one of these
	Containers  []string      // containers: the container of the process is one of these
	PassFD      bool          // pass_fd: hand over a descriptor of the object; no term
}

// FieldError says which field of a rule is wrong.
type FieldError struct {
	Field  string // the JSON member, such as "path"; empty for the rule as a whole
	Reason string // what is wrong with what, and what to do; one line
}

func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Reason
	}
	return e.Field + ": " + e.Reason
}

// Validate returns nil if r can be compiled, and else a *FieldError for the first field that is wrong.
func (r Rule) Validate() error {
	if len(r.PIDs) == 0 && r.Descendants {
		return &FieldError{"descendants", "needs pids: name the processes whose descendants are meant"}
	}
	for _, list := range []struct {
		field string
		pids  []int32
	}{{"pids", r.PIDs}, {"exclude_tree", r.ExcludeTree}} {
		for _, pid := range list.pids {
			if pid <= 0 {
				return &FieldError{list.field, fmt.Sprintf("%d is no process id: want a positive number", pid)}
			}
		}
	}
	for _, list := range []struct {
		field    string
		patterns []string
	}{{"exe", r.Exe}, {"cwd", r.Cwd}, {"path", r.Path}} {
		for _, pattern := range list.patterns {
			if reason := checkPattern(pattern); reason != "" {
				return &FieldError{list.field, reason}
			}
		}
	}
	if slices.Contains(r.UIDs, event.NoUID) {
		return &FieldError{"uids", fmt.Sprintf("%d is no user id: the kernel uses it for none", event.NoUID)}
	}
	if slices.Contains(r.Containers, "") {
		return &FieldError{"containers", "an empty container id: leave it out"}
	}
	if r.Events == 0 && len(r.PIDs) == 0 && len(r.ExcludeTree) == 0 && len(r.Exe) == 0 && len(r.Cwd) == 0 &&
		len(r.Path) == 0 && len(r.UIDs) == 0 && len(r.Containers) == 0 {
		return &FieldError{"", "a rule without a term would match everything: " +
			"give events, pids, exclude_tree, exe, cwd, path, uids or containers"}
	}
	return nil
}

// checkPattern says what is wrong with pattern, or "".
func checkPattern(pattern string) string {
	body := strings.TrimPrefix(pattern, "-")
	switch {
	case pattern == "":
		return "an empty pattern, which matches nothing: leave it out"
	case body == "":
		return `the pattern "-" excludes nothing: put a pattern behind the hyphen`
	case len(body) > MaxPattern:
		return fmt.Sprintf("the pattern that begins with %.40q has %d bytes: want at most %d", body, len(body), MaxPattern)
	}
	return ""
}
