package fanotify

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mask is a set of event bits and mark modifiers with the kernel's values (fanotify_mark(2)).
//
// An event's mask is a set too: the kernel merges equal events that are still queued, so one event may say create,
// modify and delete at once, and their order inside it is lost (fanotify(7)).
type Mask uint64

// The events and modifiers of fanotify_mark(2). "FID" names what needs a group that reports file handles, "mount"
// what a mount mark can't have.
const (
	Access       Mask = unix.FAN_ACCESS         // data was read (since Linux 2.6.37)
	Modify       Mask = unix.FAN_MODIFY         // data was written or the size changed (since 2.6.37)
	Attrib       Mask = unix.FAN_ATTRIB         // metadata changed (since 5.1; FID; no mount mark)
	CloseWrite   Mask = unix.FAN_CLOSE_WRITE    // a file opened for writing was closed (since 2.6.37)
	CloseNowrite Mask = unix.FAN_CLOSE_NOWRITE  // a file or directory opened read-only was closed (since 2.6.37)
	Open         Mask = unix.FAN_OPEN           // opened (since 2.6.37)
	MovedFrom    Mask = unix.FAN_MOVED_FROM     // a name was moved away (since 5.1; FID; no mount mark)
	MovedTo      Mask = unix.FAN_MOVED_TO       // a name was moved here (since 5.1; FID; no mount mark)
	Create       Mask = unix.FAN_CREATE         // a name was made (since 5.1; FID; no mount mark)
	Delete       Mask = unix.FAN_DELETE         // a name was removed (since 5.1; FID; no mount mark)
	DeleteSelf   Mask = unix.FAN_DELETE_SELF    // the object itself is gone (since 5.1; FID; no mount mark)
	MoveSelf     Mask = unix.FAN_MOVE_SELF      // the object itself was renamed (since 5.1; FID; no mount mark)
	OpenExec     Mask = unix.FAN_OPEN_EXEC      // opened to be executed (since 5.0)
	Overflow     Mask = unix.FAN_Q_OVERFLOW     // the queue was full and events were lost (since 2.6.37; output only)
	FSError      Mask = unix.FAN_FS_ERROR       // the filesystem found an error (since 5.16; FID; filesystem mark)
	OpenPerm     Mask = unix.FAN_OPEN_PERM      // permission to open (since 2.6.37; content classes)
	AccessPerm   Mask = unix.FAN_ACCESS_PERM    // permission to read (since 2.6.37; content classes)
	OpenExecPerm Mask = unix.FAN_OPEN_EXEC_PERM // permission to execute (since 5.0; content classes)
	PreAccess    Mask = unix.FAN_PRE_ACCESS     // before a range is read or written (since 6.14; pre-content class)
	MntAttach    Mask = unix.FAN_MNT_ATTACH     // a mount was attached (since 6.15; mount namespace group)
	MntDetach    Mask = unix.FAN_MNT_DETACH     // a mount was detached (since 6.15; mount namespace group)
	EventOnChild Mask = unix.FAN_EVENT_ON_CHILD // modifier: also the children of a marked directory (since 2.6.37)
	Rename       Mask = unix.FAN_RENAME         // a name was moved, with both names (since 5.17; FID and names)
	OnDir        Mask = unix.FAN_ONDIR          // modifier: also directories; reported by FID groups (since 2.6.37)
)

// Groups of bits. The last three have the values that pyfanotify gives these names, modifiers included.
const (
	Close Mask = CloseWrite | CloseNowrite
	Move  Mask = MovedFrom | MovedTo

	AllEvents     Mask = Access | Modify | Open | OpenExec | Close | OnDir | EventOnChild
	AllPermEvents Mask = OpenPerm | AccessPerm | OpenExecPerm
	AllFIDEvents  Mask = Attrib | Move | Create | Delete | DeleteSelf | MoveSelf | Rename | OnDir | EventOnChild
)

// bitNames has the text of each known bit at the bit's number: the kernel's name in lower case without FAN_, but
// "overflow" for FAN_Q_OVERFLOW.
var bitNames = [64]string{
	0: "access", 1: "modify", 2: "attrib", 3: "close_write", 4: "close_nowrite", 5: "open", 6: "moved_from",
	7: "moved_to", 8: "create", 9: "delete", 10: "delete_self", 11: "move_self", 12: "open_exec", 14: "overflow",
	15: "fs_error", 16: "open_perm", 17: "access_perm", 18: "open_exec_perm", 20: "pre_access", 24: "mnt_attach",
	25: "mnt_detach", 27: "event_on_child", 28: "rename", 30: "ondir",
}

// maskNames has every name that ParseMask reads.
var maskNames = func() map[string]Mask {
	names := map[string]Mask{
		"q_overflow": Overflow, "close": Close, "move": Move,
		"all_events": AllEvents, "all_perm_events": AllPermEvents, "all_fid_events": AllFIDEvents,
	}
	for bit, name := range bitNames {
		if name != "" {
			names[name] = 1 << bit
		}
	}
	return names
}()

// Has reports whether m has every bit of other.
func (m Mask) Has(other Mask) bool { return m&other == other }

// BitName returns the text of bit number n: "create" for 8, and hexadecimal such as "0x2000" for a bit without a
// name. It doesn't allocate for named bits and panics if n isn't in 0..63.
func BitName(n int) string {
	if name := bitNames[n]; name != "" {
		return name
	}
	return "0x" + strconv.FormatUint(1<<n, 16)
}

// AppendText appends the text form of m to b: the names of its bits in the order of their values, joined by "|";
// all bits without a name together in hexadecimal at the end; "0" for the empty mask. The error is always nil.
func (m Mask) AppendText(b []byte) ([]byte, error) { return appendBits(b, uint64(m), &bitNames), nil }

// appendBits appends the names of the bits in set as Mask.AppendText says.
func appendBits(b []byte, set uint64, names *[64]string) []byte {
	if set == 0 {
		return append(b, '0')
	}
	start := len(b)
	var unknown uint64
	for rest := set; rest != 0; rest &= rest - 1 {
		name := names[bits.TrailingZeros64(rest)]
		if name == "" {
			unknown |= rest & -rest
			continue
		}
		if len(b) > start {
			b = append(b, '|')
		}
		b = append(b, name...)
	}
	if unknown != 0 {
		if len(b) > start {
			b = append(b, '|')
		}
		b = strconv.AppendUint(append(b, "0x"...), unknown, 16)
	}
	return b
}

// String returns the text form of m, such as "create|close_write|ondir" (see AppendText).
func (m Mask) String() string {
	b, _ := m.AppendText(nil)
	return string(b)
}

// MarshalText is AppendText for encoders.
func (m Mask) MarshalText() ([]byte, error) { return m.AppendText(nil) }

// UnmarshalText sets m by ParseMask.
func (m *Mask) UnmarshalText(text []byte) error {
	parsed, err := ParseMask(string(text))
	if err != nil {
		return err
	}
	*m = parsed
	return nil
}

// ParseMask reads the text form of a mask: names joined by "|" or ",", in any case, with or without the FAN_ prefix,
// with blanks around them; the groups close, move, all_events, all_perm_events and all_fid_events; numbers as in Go
// (hexadecimal with 0x). It reads back everything that String writes. The error names the word that is not known; the
// empty word is none, so that a forgotten event is not taken for no event.
func ParseMask(text string) (Mask, error) {
	var m Mask
	for word := range strings.SplitSeq(strings.ReplaceAll(text, ",", "|"), "|") {
		word = strings.TrimSpace(word)
		bit, ok := maskNames[strings.TrimPrefix(strings.ToLower(word), "fan_")]
		if !ok {
			n, err := strconv.ParseUint(word, 0, 64)
			if err != nil {
				return 0, fmt.Errorf("unknown event %q", word)
			}
			bit = Mask(n)
		}
		m |= bit
	}
	return m, nil
}
