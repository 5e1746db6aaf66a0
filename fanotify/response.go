package fanotify

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// permissionEvents are the events whose process waits for an answer.
const permissionEvents = OpenPerm | AccessPerm | OpenExecPerm | PreAccess

// notified are the bits of events in groups that ask for which nobody waits.
const notified = Access | Modify | CloseWrite | CloseNowrite | Open | OpenExec | OnDir | Overflow

// Response is the answer to a permission event (fanotify(7), "Dealing with permission events"). The zero value allows.
type Response struct {
	Deny bool // the system call of the process fails

	// Errno is what it fails with; 0 is EPERM. Another one needs ClassPreContent and Linux 6.14, where it holds for
	// every permission event; the kernel takes EPERM, EIO, EAGAIN, EBUSY, ETXTBSY, ENOSPC and EDQUOT.
	Errno unix.Errno

	// Audit writes the answer to the audit log, if auditing is enabled there. It needs Config.Audit (since 4.15).
	Audit bool

	// Rule goes into the audit record and says why; it needs Audit (since 6.3). It must not change while the Response
	// is used.
	Rule *AuditRule
}

// AuditRule is what an audit record says of the rule behind an answer (struct fanotify_response_info_audit_rule).
type AuditRule struct {
	Number       uint32
	SubjectTrust Trust // of the process
	ObjectTrust  Trust // of the file
}

// Trust says in an audit record whether something was trusted.
type Trust uint32

// The values of Trust (since Linux 6.3).
const (
	TrustNo      Trust = 0
	TrustYes     Trust = 1
	TrustUnknown Trust = 2
)

// String returns "no", "yes" or "unknown".
func (t Trust) String() string {
	switch t {
	case TrustNo:
		return "no"
	case TrustYes:
		return "yes"
	case TrustUnknown:
		return "unknown"
	}
	return fmt.Sprintf("trust %d", uint32(t))
}

// ErrAnswered says that this event has no more to say: it was answered, ended unanswered, or handed its request over to
// Detach or Answers.
var ErrAnswered = errors.New("fanotify: the event was answered already")

// ErrNotAsked says that no process waits for an answer: the event is not a permission event, it was only looked at
// ahead, or its descriptor could not be opened, so that the kernel has denied it (see Event.File).
var ErrNotAsked = errors.New("fanotify: no process waits for an answer to this event")

// ResponseError says that the kernel would refuse a Response. The event is still to be answered.
type ResponseError struct {
	Response Response
	Err      error  // EINVAL
	Reason   string // what is wrong with it and what to do
}

// Error returns one line with the response, the errno's text and the reason.
func (e *ResponseError) Error() string {
	return withReason("respond "+e.Response.String(), e.Err, e.Reason)
}

// Unwrap returns the errno.
func (e *ResponseError) Unwrap() error { return e.Err }

// String returns the response in words, such as "deny with EBUSY, audit rule 42".
func (r Response) String() string {
	s := "allow"
	if r.Deny {
		s = "deny"
	}
	if r.Errno != 0 {
		name := unix.ErrnoName(r.Errno)
		if name == "" {
			name = fmt.Sprintf("errno %d", int(r.Errno))
		}
		s += " with " + name
	}
	if r.Audit {
		s += ", audit"
	}
	if r.Rule != nil {
		s += fmt.Sprintf(" rule %d", r.Rule.Number)
	}
	return s
}

// check returns a *ResponseError for what the kernel would refuse in a group of this Config (process_access_response
// in fs/notify/fanotify/fanotify_user.c), and for what it would ignore.
func (r *Response) check(c *Config) error {
	reason := ""
	switch {
	case r.Errno != 0 && !r.Deny:
		reason = "an errno is for who is denied: set deny"
	case r.Errno == 0 || r.Errno == unix.EPERM: // every class has it
	case !deniesWith(r.Errno):
		reason = "the kernel denies with EPERM, EIO, EAGAIN, EBUSY, ETXTBSY, ENOSPC or EDQUOT"
	case c.Class != ClassPreContent:
		reason = "only a group of class_pre_content denies with another errno than EPERM"
	}
	switch {
	case reason != "":
	case r.Audit && !c.Audit:
		reason = "the group was made without audit: set it in its Config"
	case r.Rule != nil && !r.Audit:
		reason = "a rule is for an audit record: set audit"
	}
	if reason == "" {
		return nil
	}
	return &ResponseError{Response: *r, Err: unix.EINVAL, Reason: reason}
}

func deniesWith(errno unix.Errno) bool {
	switch errno {
	case unix.EPERM, unix.EIO, unix.EAGAIN, unix.EBUSY, unix.ETXTBSY, unix.ENOSPC, unix.EDQUOT:
		return true
	}
	return false
}

// Sizes in bytes of struct fanotify_response and of the audit rule behind it.
const (
	responseSize  = 8
	auditRuleSize = 16
)

// append appends the response to the request that the kernel knows by the number of its descriptor.
func (r *Response) append(b []byte, fd int32) []byte {
	answer := uint32(unix.FAN_ALLOW)
	if r.Deny {
		answer = unix.FAN_DENY
		if r.Errno != unix.EPERM { // which is what a plain denial gives, in every class
			answer |= uint32(r.Errno) << unix.FAN_ERRNO_SHIFT
		}
	}
	if r.Audit {
		answer |= unix.FAN_AUDIT
	}
	if r.Rule != nil {
		answer |= unix.FAN_INFO
	}
	b = binary.NativeEndian.AppendUint32(b, uint32(fd))
	b = binary.NativeEndian.AppendUint32(b, answer)
	if r.Rule != nil {
		b = append(b, unix.FAN_RESPONSE_INFO_AUDIT_RULE, 0)
		b = binary.NativeEndian.AppendUint16(b, auditRuleSize)
		b = binary.NativeEndian.AppendUint32(b, r.Rule.Number)
		b = binary.NativeEndian.AppendUint32(b, uint32(r.Rule.SubjectTrust))
		b = binary.NativeEndian.AppendUint32(b, uint32(r.Rule.ObjectTrust))
	}
	return b
}

// plain returns what an encoded response is in every kernel: allow or deny.
func plain(response []byte) uint32 {
	return binary.NativeEndian.Uint32(response[4:]) & (unix.FAN_ALLOW | unix.FAN_DENY)
}

func isPlain(response []byte) bool {
	return binary.NativeEndian.Uint32(response[4:]) == plain(response)
}

func makePlain(response []byte) { binary.NativeEndian.PutUint32(response[4:], plain(response)) }
