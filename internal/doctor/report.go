package doctor

import "unicode/utf8"

// Report is what was found out. Its JSON form is stable: members are added, never renamed. Texts that may hold any
// bytes have U+FFFD in JSON where they are not UTF-8, and a member beside them, with _raw, that has the bytes in base64.
type Report struct {
	Kernel    string     `json:"kernel"` // as uname(2) tells it
	Privilege Privilege  `json:"privilege"`
	Findings  []Finding  `json:"findings"` // the worst first
	Mounts    []Mount    `json:"mounts"`
	Features  []Feature  `json:"features"` // by name
	Connector Ability    `json:"process_connector"`
	Limits    []Limit    `json:"limits"`
	Users     []User     `json:"users"` // who has groups, by uid
	Listeners []Listener `json:"listeners"`
	// Unreadable are the processes that may not be asked for their groups, by pid.
	Unreadable []int `json:"unreadable_processes"`
	// ListenersError says why nobody could be asked.
	ListenersError string `json:"listeners_error,omitempty"`
}

// Privilege is what this process may do.
type Privilege struct {
	UID int `json:"uid"` // effective
	// InitialNamespace says that the capabilities are those of the initial user namespace, which the kernel asks for.
	InitialNamespace bool `json:"initial_user_namespace"`
	// The capabilities that Fanlight has a use for, as CAP_ names: those that are effective, and the others.
	Has   []string `json:"capabilities"`
	Lacks []string `json:"missing_capabilities"`
}

// Level is how bad a finding is.
type Level string

// The levels, the worst first.
const (
	Problem Level = "problem" // something that was asked for doesn't work
	Warning Level = "warning" // something is likely to go wrong, or works with less
	Note    Level = "note"    // worth to know
)

// Finding is something that is likely wrong.
type Finding struct {
	Level  Level  `json:"level"`
	Code   string `json:"code"` // stable, such as "no_privilege"
	Text   string `json:"text"` // escaped nowhere: it may hold names
	Remedy string `json:"remedy,omitempty"`
}

// Answer says whether something works.
type Answer string

// The answers.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown" // it could not be tried
)

// Ability is whether something works, and why not.
type Ability struct {
	Answer Answer `json:"answer"`
	Errno  string `json:"errno,omitempty"` // the kernel's refusal, such as "EOPNOTSUPP"
	Reason string `json:"reason,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// Form is how fanlight watch can watch a mount.
type Form string

// The forms, the richest first.
const (
	FormFilesystem Form = "filesystem" // one mark on the filesystem, with handles and names
	FormSubvolume  Form = "subvolume"  // likewise, through the top level of the btrfs
	FormInodes     Form = "inodes"     // a mark on each directory
	FormNone       Form = "none"
	FormUnknown    Form = "unknown" // it could not be tried
)

// Watch says how a mount can be watched, and why not better.
type Watch struct {
	Form   Form   `json:"form"`
	Errno  string `json:"errno,omitempty"` // why not in a richer form
	Reason string `json:"reason,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// The uses that handles may have.
const (
	HandlesOpen     = "open"     // they can be opened again
	HandlesIdentify = "identify" // they tell objects apart
	HandlesNone     = "none"
	HandlesUnknown  = "unknown"
)

// Mount is what works on one mount.
type Mount struct {
	MountPoint    string   `json:"mount_point"`
	MountPointRaw []byte   `json:"mount_point_raw,omitempty"`
	Asked         string   `json:"asked,omitempty"` // the path that was asked for
	AskedRaw      []byte   `json:"asked_raw,omitempty"`
	AlsoAt        []string `json:"also_at,omitempty"` // other mounts of the same filesystem, which one row stands for
	FSType        string   `json:"fs_type"`
	Source        string   `json:"source"`
	SourceRaw     []byte   `json:"source_raw,omitempty"`
	Device        string   `json:"device"` // as in mountinfo, such as "8:1"

	Watch      Watch   `json:"watch"`
	Permission Ability `json:"permission_events"`
	PreContent Ability `json:"pre_content_events"`
	Handles    string  `json:"handles"`
	// Inodes is the number of inodes in use, as statfs(2) tells it, and so the most directories that there can be; an
	// overlayfs tells that of its upper filesystem. 0 if it isn't told.
	Inodes uint64 `json:"inodes_in_use,omitempty"`
	// NoAnswer says that the filesystem did not answer within the deadline.
	NoAnswer bool `json:"no_answer,omitempty"`
}

// Feature is something that not every kernel can do.
type Feature struct {
	Name   string `json:"name"`
	Answer Answer `json:"answer"`
	Since  string `json:"since"`            // the mainline version that brought it
	For    string `json:"for"`              // what Fanlight does with it
	Reason string `json:"reason,omitempty"` // why it could not be tried
}

// Limit is a limit of the system.
type Limit struct {
	Name  string `json:"name"` // as sysctl(8) names it
	Value int    `json:"value"`
	For   string `json:"for"` // what it limits
}

// User is what a user has of what is limited.
type User struct {
	UID    uint32 `json:"uid"`
	Name   string `json:"name,omitempty"`
	Groups int    `json:"groups"`
	Marks  int    `json:"marks"` // those that count: not in groups with unlimited marks
}

// Listener is a group that another process has open.
type Listener struct {
	PID     int    `json:"pid"`
	FD      int    `json:"fd"`
	Comm    string `json:"comm,omitempty"`
	CommRaw []byte `json:"comm_raw,omitempty"`
	Exe     string `json:"exe,omitempty"`
	ExeRaw  []byte `json:"exe_raw,omitempty"`
	UID     int    `json:"uid"` // effective; -1 if it could not be read
	User    string `json:"user,omitempty"`
	Class   string `json:"class"` // such as "class_content"
	// CanBlock says that the group has permission marks: others wait for its answers.
	CanBlock       bool `json:"can_block"`
	UnlimitedQueue bool `json:"unlimited_queue"`
	// Stopped says that the process is stopped, by a signal or a debugger, and answers nobody.
	Stopped bool   `json:"stopped,omitempty"`
	Marks   []Mark `json:"marks"`
}

// Mark stands for the marks of a group that are alike: of one target, in one place.
type Mark struct {
	Target string `json:"target"` // "inode", "mount", "filesystem", "mntns"
	// MountPoint is where this process sees the marked mount or filesystem, or the one of the marked inodes; empty if it
	// doesn't.
	MountPoint    string `json:"mount_point,omitempty"`
	MountPointRaw []byte `json:"mount_point_raw,omitempty"`
	FSType        string `json:"fs_type,omitempty"`
	Device        string `json:"device,omitempty"`
	Count         int    `json:"count"`
	Events        string `json:"events"`            // of all of them, such as "create|delete"
	Ignored       string `json:"ignored,omitempty"` // likewise
}

// raw returns the bytes of a text that JSON can't hold, else nil.
func raw(s string) []byte {
	if utf8.ValidString(s) {
		return nil
	}
	return []byte(s)
}

// Watchable reports whether the mount can be watched in any form.
func (m *Mount) Watchable() bool { return m.Watch.Form != FormNone && m.Watch.Form != FormUnknown }
