package event

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"fanlight/fanotify"
)

// Decode sets e to the event whose JSON form is line, or leaves it as it is and returns an error that names the member.
// Members, names of events and states that it doesn't know are ignored; absent members are zero; the raw form of a text
// wins over the text. It keeps nothing of line, and its memory grows with the length of line only.
func Decode(line []byte, e *Event) error {
	var f *eventForm
	err := json.Unmarshal(line, &f)
	if err == nil && f == nil {
		err = errors.New("null is no event")
	}
	if mismatch := (*json.UnmarshalTypeError)(nil); errors.As(err, &mismatch) {
		err = fmt.Errorf("%s where %v belongs", mismatch.Value, mismatch.Type)
		if mismatch.Field != "" {
			err = fmt.Errorf("%s: %w", mismatch.Field, err)
		}
	}
	var d Event
	if err == nil {
		d, err = f.event()
	}
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	*e = d
	return nil
}

// UnmarshalJSON is Decode for encoding/json.
func (e *Event) UnmarshalJSON(line []byte) error { return Decode(line, e) }

// eventForm is the JSON form of an Event. Pointers are for what can be absent and zero.
type eventForm struct {
	Seq        uint64       `json:"seq"`
	Time       *string      `json:"time"`
	Events     []string     `json:"events"`
	Path       string       `json:"path"`
	PathRaw    *string      `json:"path_raw"`
	NewPath    string       `json:"new_path"`
	NewPathRaw *string      `json:"new_path_raw"`
	PathState  string       `json:"path_state"`
	PID        int32        `json:"pid"`
	Process    *processForm `json:"process"`
	Scope      string       `json:"scope"`
	ScopeRaw   *string      `json:"scope_raw"`
	Lost       uint64       `json:"lost"`
	Found      bool         `json:"found"`
	FD         bool         `json:"fd"`
	FDError    string       `json:"fd_error"`
	Truncated  bool         `json:"truncated"`
	MountID    uint64       `json:"mount_id"`
	Namespace  uint64       `json:"mount_namespace"`
	FSError    *int32       `json:"fs_error"`
	ErrorCount *uint32      `json:"error_count"`
	Offset     *uint64      `json:"offset"`
	Count      *uint64      `json:"count"`
	Response   *string      `json:"response"`
	Rule       *string      `json:"rule"`
	Duration   *int64       `json:"duration_ns"`
}

// processForm is the JSON form of a Process.
type processForm struct {
	PID     int32   `json:"pid"`
	PPID    int32   `json:"ppid"`
	UID     *uint32 `json:"uid"`
	Comm    string  `json:"comm"`
	CommRaw *string `json:"comm_raw"`
	Exe     string  `json:"exe"`
	ExeRaw  *string `json:"exe_raw"`
	Cwd     string  `json:"cwd"`
	CwdRaw  *string `json:"cwd_raw"`
	State   string  `json:"state"`

	Ancestors []ancestorForm `json:"ancestors"`

	GID          *uint32  `json:"gid"`
	LoginUID     *uint32  `json:"login_uid"`
	Start        *string  `json:"start"`
	Cmdline      []string `json:"cmdline"`
	CmdlineRaw   *string  `json:"cmdline_raw"`
	Cgroup       string   `json:"cgroup"`
	CgroupRaw    *string  `json:"cgroup_raw"`
	Container    string   `json:"container"`
	ContainerRaw *string  `json:"container_raw"`
}

// details returns the details of a process, nil if there are none.
func (p *processForm) details(raw *rawForms) (*Details, error) {
	d := Details{GID: NoUID, LoginUID: NoUID, Cmdline: p.Cmdline, Cgroup: raw.text("process.cgroup_raw", p.Cgroup, p.CgroupRaw)}
	if p.CmdlineRaw != nil {
		d.Cmdline = strings.Split(strings.TrimSuffix(raw.text("process.cmdline_raw", "", p.CmdlineRaw), "\x00"), "\x00")
	}
	if p.GID != nil {
		d.GID = *p.GID
	}
	if p.LoginUID != nil {
		d.LoginUID = *p.LoginUID
	}
	if p.Start != nil {
		start, err := time.Parse(time.RFC3339Nano, *p.Start)
		if err != nil {
			return nil, fmt.Errorf("process.start: %w", err)
		}
		d.Start = start.UTC()
	}
	if d.GID == NoUID && d.LoginUID == NoUID && d.Start.IsZero() && len(d.Cmdline) == 0 && d.Cgroup == "" &&
		p.Container == "" && p.ContainerRaw == nil {
		return nil, nil
	}
	return &d, nil
}

// ancestorForm is the JSON form of an ancestor of a process.
type ancestorForm struct {
	PID     int32   `json:"pid"`
	Comm    string  `json:"comm"`
	CommRaw *string `json:"comm_raw"`
}

func (f *eventForm) event() (Event, error) {
	var raw rawForms
	var at time.Time
	if f.Time != nil {
		var err error
		if at, err = time.Parse(time.RFC3339Nano, *f.Time); err != nil {
			return Event{}, fmt.Errorf("time: %w", err)
		}
	}
	e := Event{
		Seq: f.Seq, Time: at.UTC(), Mask: mask(f.Events),
		Path:    raw.text("path_raw", f.Path, f.PathRaw),
		NewPath: raw.text("new_path_raw", f.NewPath, f.NewPathRaw),
		PID:     f.PID,
		Scope:   raw.text("scope_raw", f.Scope, f.ScopeRaw),
		Lost:    f.Lost, Found: f.Found, FD: f.FD, FDError: f.FDError, Truncated: f.Truncated, MountID: f.MountID,
		Namespace: f.Namespace,
	}
	_ = e.PathState.UnmarshalText([]byte(f.PathState)) // another state leaves it unknown
	if p := f.Process; p != nil {
		e.Process = &Process{
			PID: p.PID, PPID: p.PPID, UID: NoUID,
			Comm: raw.text("process.comm_raw", p.Comm, p.CommRaw),
			Exe:  raw.text("process.exe_raw", p.Exe, p.ExeRaw),
			Cwd:  raw.text("process.cwd_raw", p.Cwd, p.CwdRaw),
		}
		if p.UID != nil {
			e.Process.UID = *p.UID
		}
		_ = e.Process.State.UnmarshalText([]byte(p.State))
		for _, a := range p.Ancestors {
			e.Process.Ancestors = append(e.Process.Ancestors, a.PID)
			comm := raw.text("process.ancestors.comm_raw", a.Comm, a.CommRaw)
			e.Process.AncestorComms = append(e.Process.AncestorComms, comm)
		}
		e.Process.Container = raw.text("process.container_raw", p.Container, p.ContainerRaw)
		var err error
		if e.Process.Details, err = p.details(&raw); err != nil {
			return Event{}, err
		}
	}
	if f.FSError != nil || f.ErrorCount != nil {
		e.FSError = &FSError{Errno: or(f.FSError), Count: or(f.ErrorCount)}
	}
	if f.Offset != nil || f.Count != nil {
		e.Range = &Range{Offset: or(f.Offset), Count: or(f.Count)}
	}
	if f.Response != nil || f.Rule != nil || f.Duration != nil {
		e.Decision = &Decision{Response: or(f.Response), Rule: or(f.Rule), Duration: time.Duration(or(f.Duration))}
	}
	return e, raw.err
}

// or returns what v points to, zero if it is nil.
func or[T any](v *T) (zero T) {
	if v == nil {
		return zero
	}
	return *v
}

// rawForms reads raw forms and keeps the first error.
type rawForms struct{ err error }

// text returns the bytes of raw or, without it, text.
func (r *rawForms) text(name, text string, raw *string) string {
	if raw == nil {
		return text
	}
	b, err := base64.StdEncoding.Strict().DecodeString(*raw)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
	return string(b)
}

// mask returns the bits with the names that are known, and those of hexadecimal numbers.
func mask(names []string) (m fanotify.Mask) {
	for _, name := range names {
		if bit, ok := bitValues[name]; ok {
			m |= bit
		} else if digits, ok := strings.CutPrefix(name, "0x"); ok {
			if n, err := strconv.ParseUint(digits, 16, 64); err == nil {
				m |= fanotify.Mask(n)
			}
		}
	}
	return m
}

// bitValues has the bit of each name.
var bitValues = func() map[string]fanotify.Mask {
	values := make(map[string]fanotify.Mask, 64)
	for bit := range 64 {
		values[fanotify.BitName(bit)] = 1 << bit
	}
	return values
}()
