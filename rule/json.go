package rule

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/bits"
	"slices"
	"strings"
	"unicode/utf8"

	"fanlight/fanotify"
)

// MarshalJSON returns the JSON form of r, without the members of empty fields. A text that is not UTF-8 is an error,
// a *FieldError, because JSON cannot carry it.
func (r Rule) MarshalJSON() ([]byte, error) {
	form := struct {
		Name        string   `json:"name,omitempty"`
		Events      []string `json:"events,omitempty"`
		PIDs        []int32  `json:"pids,omitempty"`
		Descendants bool     `json:"descendants,omitempty"`
		ExcludeTree []int32  `json:"exclude_tree,omitempty"`
		Exe         []string `json:"exe,omitempty"`
		Cwd         []string `json:"cwd,omitempty"`
		Path        []string `json:"path,omitempty"`
		UIDs        []uint32 `json:"uids,omitempty"`
		Containers  []string `json:"containers,omitempty"`
		PassFD      bool     `json:"pass_fd,omitempty"`
	}{
		r.Name, eventNames(r.Events), r.PIDs, r.Descendants, r.ExcludeTree, r.Exe, r.Cwd, r.Path, r.UIDs, r.Containers,
		r.PassFD,
	}
	for _, list := range []struct {
		field string
		texts []string
	}{{"name", []string{r.Name}}, {"exe", r.Exe}, {"cwd", r.Cwd}, {"path", r.Path}, {"containers", r.Containers}} {
		for _, text := range list.texts {
			if !utf8.ValidString(text) {
				reason := fmt.Sprintf("%.40q isn't UTF-8, which JSON needs: put ? for the bytes that aren't", text)
				return nil, &FieldError{list.field, reason}
			}
		}
	}
	return json.Marshal(form)
}

// eventNames returns the name of each bit of m.
func eventNames(m fanotify.Mask) (names []string) {
	for rest := uint64(m); rest != 0; rest &= rest - 1 {
		names = append(names, fanotify.BitName(bits.TrailingZeros64(rest)))
	}
	return names
}

// UnmarshalJSON sets r to the rule whose JSON form is data. What is not exactly such a form is a *FieldError that names
// the member: one that is unknown, given twice, null or of the wrong type, or an unknown event. r is then as it was.
// Whether the rule makes sense is left to Validate.
func (r *Rule) UnmarshalJSON(data []byte) error {
	if !utf8.Valid(data) {
		return &FieldError{"", "a rule that isn't UTF-8"}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return &FieldError{"", "a rule is a JSON object"}
	}
	var parsed Rule
	var seen []string
	for d.More() {
		var name string
		var value json.RawMessage
		token, err := d.Token()
		if err == nil {
			name = token.(string) // of an object that isn't at its end
			err = d.Decode(&value)
		}
		if err != nil {
			return &FieldError{"", fmt.Sprintf("not JSON: %v", err)}
		}
		if slices.Contains(seen, name) {
			return &FieldError{name, "given twice"}
		}
		if err := parsed.set(name, value); err != nil {
			return err
		}
		seen = append(seen, name)
	}
	if _, err := d.Token(); err != nil {
		return &FieldError{"", fmt.Sprintf("not JSON: %v", err)}
	}
	if _, err := d.Token(); err != io.EOF {
		return &FieldError{"", "something behind the rule"}
	}
	*r = parsed
	return nil
}

// members are the names of the members.
var members = []string{
	"name", "events", "pids", "descendants", "exclude_tree", "exe", "cwd", "path", "uids", "containers", "pass_fd",
}

// set sets the field of r that has a member of this name. Its error is a *FieldError.
func (r *Rule) set(name string, value json.RawMessage) error {
	switch name {
	case "name":
		return scalar(name, value, &r.Name, "a string")
	case "events":
		var names []string
		if err := list(name, value, &names, "strings"); err != nil {
			return err
		}
		for _, event := range names {
			m, err := fanotify.ParseMask(event)
			if err != nil || m == 0 || strings.ContainsAny(event, "|,") {
				return &FieldError{name, fmt.Sprintf("unknown event %.40q: want %s", event, strings.Join(goodEvents(), ", "))}
			}
			r.Events |= m
		}
		return nil
	case "pids":
		return list(name, value, &r.PIDs, "process ids")
	case "descendants":
		return scalar(name, value, &r.Descendants, "true or false")
	case "exclude_tree":
		return list(name, value, &r.ExcludeTree, "process ids")
	case "exe":
		return list(name, value, &r.Exe, "strings")
	case "cwd":
		return list(name, value, &r.Cwd, "strings")
	case "path":
		return list(name, value, &r.Path, "strings")
	case "uids":
		return list(name, value, &r.UIDs, "user ids")
	case "containers":
		return list(name, value, &r.Containers, "strings")
	case "pass_fd":
		return scalar(name, value, &r.PassFD, "true or false")
	default:
		return &FieldError{fmt.Sprintf("%.40q", name), "unknown member: want " + strings.Join(members, ", ")}
	}
}

// scalar reads the member name into v. want says what it has to be.
func scalar[T any](name string, value json.RawMessage, v *T, want string) error {
	if string(value) == "null" || json.Unmarshal(value, v) != nil {
		return &FieldError{name, fmt.Sprintf("%s: want %s", brief(value), want)}
	}
	return nil
}

// list reads the member name, a list, into v. want says what it has to be a list of.
func list[T any](name string, value json.RawMessage, v *[]T, want string) error {
	var elements []*T
	if string(value) == "null" || json.Unmarshal(value, &elements) != nil || slices.Contains(elements, nil) {
		return &FieldError{name, fmt.Sprintf("%s: want a list of %s", brief(value), want)}
	}
	for _, element := range elements {
		*v = append(*v, *element)
	}
	return nil
}

// brief returns the beginning of value in one line.
func brief(value json.RawMessage) string {
	const most = 40
	text := strings.Join(strings.Fields(string(value)), " ")
	if utf8.RuneCountInString(text) > most {
		text = string([]rune(text)[:most]) + "..."
	}
	return text
}

// goodEvents returns the names of events and of groups of events.
func goodEvents() []string {
	names := []string{"close", "move", "all_events", "all_perm_events", "all_fid_events"}
	return slices.Concat(slices.DeleteFunc(eventNames(^fanotify.Mask(0)), func(name string) bool {
		return strings.HasPrefix(name, "0x")
	}), names)
}
