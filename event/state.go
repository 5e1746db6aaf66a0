package event

import "fmt"

// PathState says how far a path can be trusted. Its text form is that of the JSON member path_state.
type PathState uint8

// The states of a path.
const (
	PathUnknown PathState = 0 // no path is known
	PathExact   PathState = 1 // the path as of the event
	PathCurrent PathState = 2 // resolved afterwards: it may be a later name
)

var pathStates = [...]string{PathUnknown: "unknown", PathExact: "exact", PathCurrent: "current"}

// String returns "unknown", "exact" or "current"; a value that is none of the constants is unknown.
func (s PathState) String() string { return text(pathStates[:], int(s)) }

// MarshalText returns the text of String. The error is always nil.
func (s PathState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText sets s to the state that String writes as b. Other texts are an error.
func (s *PathState) UnmarshalText(b []byte) error {
	i, err := state("path", pathStates[:], b)
	*s = PathState(i)
	return err
}

// ProcessState says how far facts about a process can be trusted. Its text form is that of the JSON member state.
type ProcessState uint8

// The states of a process.
const (
	ProcessUnknown ProcessState = 0 // nothing but the pid is known
	ProcessLive    ProcessState = 1 // it lived when the event was read
	ProcessExited  ProcessState = 2 // it was known, and gone when the event was read
)

var processStates = [...]string{ProcessUnknown: "unknown", ProcessLive: "live", ProcessExited: "exited"}

// String returns "unknown", "live" or "exited"; a value that is none of the constants is unknown.
func (s ProcessState) String() string { return text(processStates[:], int(s)) }

// MarshalText returns the text of String. The error is always nil.
func (s ProcessState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText sets s to the state that String writes as b. Other texts are an error.
func (s *ProcessState) UnmarshalText(b []byte) error {
	i, err := state("process", processStates[:], b)
	*s = ProcessState(i)
	return err
}

// text returns the text of state i, that of state 0 if there is no such state.
func text(texts []string, i int) string {
	if i >= len(texts) {
		i = 0
	}
	return texts[i]
}

// state returns the state with text b: 0 and an error if there is none.
func state(kind string, texts []string, b []byte) (int, error) {
	for i, t := range texts {
		if t == string(b) {
			return i, nil
		}
	}
	return 0, fmt.Errorf("unknown %s state %q: want one of %q", kind, b, texts)
}
