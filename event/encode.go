package event

import (
	"encoding/base64"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"fanlight/fanotify"
)

// AppendJSON appends the JSON form of e to b, without a newline. It allocates only to make b longer.
func (e *Event) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	if e.Seq != 0 {
		b = appendUint(b, `"seq":`, e.Seq)
	}
	if hasTime(e.Time) {
		t := e.Time.UTC()
		b = appendNanoseconds(t.AppendFormat(append(b, `"time":"`...), timeToSecond), t.Nanosecond())
	}
	b = appendWhat(b, e)
	if e.Process != nil && !e.isOverflow() {
		b = appendProcess(b, e.Process, false)
	}
	return appendRest(b, e)
}

// MarshalJSON returns the JSON form of e. The error is always nil.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil), nil }

// Encoder writes the JSON form of many events faster than AppendJSON: it keeps what consecutive events have in common,
// the process and the time. The zero Encoder is ready. It is not safe for concurrent use.
type Encoder struct {
	second     int64 // the Unix time of timePrefix
	timePrefix []byte

	process *Process // whose form encoded is
	encoded []byte

	// Ancestors adds the ancestors of processes. Set it before the first event.
	Ancestors bool
}

// Append appends the JSON form of e to b: the same bytes as e.AppendJSON, but for Ancestors. It relies on a Process that
// it has met not being changed.
func (enc *Encoder) Append(b []byte, e *Event) []byte {
	b = append(b, '{')
	if e.Seq != 0 {
		b = appendUint(b, `"seq":`, e.Seq)
	}
	if hasTime(e.Time) {
		if second := e.Time.Unix(); second != enc.second || len(enc.timePrefix) == 0 {
			enc.second = second
			enc.timePrefix = e.Time.UTC().AppendFormat(append(enc.timePrefix[:0], `"time":"`...), timeToSecond)
		}
		b = appendNanoseconds(append(b, enc.timePrefix...), e.Time.Nanosecond())
	}
	b = appendWhat(b, e)
	if e.Process != nil && !e.isOverflow() {
		if e.Process != enc.process {
			enc.process = e.Process
			enc.encoded = appendProcess(enc.encoded[:0], e.Process, enc.Ancestors)
		}
		b = append(b, enc.encoded...)
	}
	return appendRest(b, e)
}

// The functions below append members, each with a comma behind it.

// timeToSecond is the layout of the first part of a time.
const timeToSecond = "2006-01-02T15:04:05"

// hasTime reports whether t is known and has a form in RFC 3339, which ends with the year 9999.
func hasTime(t time.Time) bool {
	return !t.IsZero() && t.Unix() >= -62167219200 && t.Unix() < 253402300800
}

// appendNanoseconds appends what follows timeToSecond.
func appendNanoseconds(b []byte, n int) []byte {
	var digits [10]byte
	for i := len(digits) - 1; i > 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	digits[0] = '.'
	return append(append(b, digits[:]...), `Z",`...)
}

func (e *Event) isOverflow() bool { return e.Mask&fanotify.Overflow != 0 }

// appendWhat appends what happened, where, and the pid. An overflow has none of the latter.
func appendWhat(b []byte, e *Event) []byte {
	if e.isOverflow() {
		return append(b, `"events":["overflow"],`...)
	}
	b = append(b, `"events":[`...)
	if e.Mask != 0 {
		for rest := uint64(e.Mask); rest != 0; rest &= rest - 1 {
			b = append(b, bitForms[bits.TrailingZeros64(rest)]...)
		}
		b = b[:len(b)-1]
	}
	b = append(b, `],`...)
	if e.Path != "" {
		b = appendBytes(b, `"path`, e.Path)
	}
	if e.NewPath != "" {
		b = appendBytes(b, `"new_path`, e.NewPath)
	}
	if e.Path != "" || e.NewPath != "" {
		b = append(append(b, `"path_state":"`...), e.PathState.String()...)
		b = append(b, `",`...)
	}
	if e.PID != 0 {
		b = appendInt(b, `"pid":`, int64(e.PID))
	}
	return b
}

// bitForms has the form of each bit of a mask in a list, with a comma behind it.
var bitForms = func() (forms [64]string) {
	for bit := range forms {
		forms[bit] = `"` + fanotify.BitName(bit) + `",`
	}
	return forms
}()

func appendProcess(b []byte, p *Process, ancestors bool) []byte {
	b = append(b, `"process":{`...)
	start := len(b)
	if p.PID != 0 {
		b = appendInt(b, `"pid":`, int64(p.PID))
	}
	if p.PPID != 0 {
		b = appendInt(b, `"ppid":`, int64(p.PPID))
	}
	if p.UID != NoUID {
		b = appendUint(b, `"uid":`, uint64(p.UID))
	}
	if p.Comm != "" {
		b = appendBytes(b, `"comm`, p.Comm)
	}
	if p.Exe != "" {
		b = appendBytes(b, `"exe`, p.Exe)
	}
	if p.Cwd != "" {
		b = appendBytes(b, `"cwd`, p.Cwd)
	}
	if p.State != ProcessUnknown {
		b = append(append(b, `"state":"`...), p.State.String()...)
		b = append(b, `",`...)
	}
	if ancestors && len(p.Ancestors) > 0 {
		b = append(appendAncestors(append(b, `"ancestors":[`...), p), `],`...)
	}
	if p.Details != nil {
		b = appendDetails(b, p)
	}
	if len(b) > start {
		b = b[:len(b)-1]
	}
	return append(b, `},`...)
}

// appendAncestors appends an object for each ancestor, joined by commas.
func appendAncestors(b []byte, p *Process) []byte {
	for i, pid := range p.Ancestors {
		b = appendInt(b, `{"pid":`, int64(pid))
		if i < len(p.AncestorComms) && p.AncestorComms[i] != "" {
			b = appendBytes(b, `"comm`, p.AncestorComms[i])
		}
		b = append(b[:len(b)-1], `},`...)
	}
	return b[:len(b)-1]
}

// appendDetails appends what is only there when it was asked for.
func appendDetails(b []byte, p *Process) []byte {
	d := p.Details
	if d.GID != NoUID {
		b = appendUint(b, `"gid":`, uint64(d.GID))
	}
	if d.LoginUID != NoUID {
		b = appendUint(b, `"login_uid":`, uint64(d.LoginUID))
	}
	if hasTime(d.Start) {
		b = append(d.Start.UTC().AppendFormat(append(b, `"start":"`...), time.RFC3339Nano), `",`...)
	}
	if len(d.Cmdline) > 0 {
		b = appendCmdline(b, d.Cmdline)
	}
	if d.Cgroup != "" {
		b = appendBytes(b, `"cgroup`, d.Cgroup)
	}
	if p.Container != "" {
		b = appendBytes(b, `"container`, p.Container)
	}
	return b
}

// appendCmdline appends a command line. The raw form has a NUL behind each argument, as the kernel has it.
func appendCmdline(b []byte, arguments []string) []byte {
	b = append(b, `"cmdline":[`...)
	allValid := true
	for _, a := range arguments {
		var valid bool
		b, valid = appendString(b, a)
		b = append(b, ',')
		allValid = allValid && valid
	}
	b = append(b[:len(b)-1], `],`...)
	if !allValid {
		b = append(b, `"cmdline_raw":"`...)
		b = base64.StdEncoding.AppendEncode(b, []byte(strings.Join(arguments, "\x00")+"\x00"))
		b = append(b, `",`...)
	}
	return b
}

// appendRest appends the members behind process, and closes the object in place of the last comma.
func appendRest(b []byte, e *Event) []byte {
	if e.Scope != "" {
		b = appendBytes(b, `"scope`, e.Scope)
	}
	if e.Lost != 0 {
		b = appendUint(b, `"lost":`, e.Lost)
	}
	if e.Found {
		b = append(b, `"found":true,`...)
	}
	if e.FD {
		b = append(b, `"fd":true,`...)
	}
	if e.FDError != "" {
		b = appendText(b, `"fd_error":`, e.FDError)
	}
	if e.Truncated {
		b = append(b, `"truncated":true,`...)
	}
	if e.MountID != 0 {
		b = appendUint(b, `"mount_id":`, e.MountID)
	}
	if e.Namespace != 0 {
		b = appendUint(b, `"mount_namespace":`, e.Namespace)
	}
	if e.FSError != nil {
		b = appendInt(b, `"fs_error":`, int64(e.FSError.Errno))
		b = appendUint(b, `"error_count":`, uint64(e.FSError.Count))
	}
	if e.Range != nil {
		b = appendUint(b, `"offset":`, e.Range.Offset)
		b = appendUint(b, `"count":`, e.Range.Count)
	}
	if e.Decision != nil {
		if e.Decision.Response != "" {
			b = appendText(b, `"response":`, e.Decision.Response)
		}
		if e.Decision.Rule != "" {
			b = appendText(b, `"rule":`, e.Decision.Rule)
		}
		b = appendInt(b, `"duration_ns":`, int64(e.Decision.Duration))
	}
	b[len(b)-1] = '}'
	return b
}

func appendUint(b []byte, name string, n uint64) []byte {
	return append(strconv.AppendUint(append(b, name...), n, 10), ',')
}

func appendInt(b []byte, name string, n int64) []byte {
	return append(strconv.AppendInt(append(b, name...), n, 10), ',')
}

// appendText appends a member that is UTF-8 by its nature.
func appendText(b []byte, name, s string) []byte {
	b, _ = appendString(append(b, name...), s)
	return append(b, ',')
}

// appendBytes appends a member that may hold any bytes, with its raw form if it needs one. name lacks its closing
// quotation mark.
func appendBytes(b []byte, name, s string) []byte {
	b, valid := appendString(append(append(b, name...), `":`...), s)
	b = append(b, ',')
	if valid {
		return b
	}
	b = append(append(b, name...), `_raw":"`...)
	// The bytes are put behind the place of their base64 form, because a conversion of s would allocate.
	start, length := len(b), base64.StdEncoding.EncodedLen(len(s))
	b = slices.Grow(b, length+len(s))[:start+length+len(s)]
	copy(b[start+length:], s)
	base64.StdEncoding.Encode(b[start:], b[start+length:])
	return append(b[:start+length], `",`...)
}

// plain says which bytes stand for themselves in a JSON string: ASCII without control characters, " and \.
var plain = func() (plain [256]bool) {
	for c := ' '; c < utf8.RuneSelf-1; c++ {
		plain[c] = c != '"' && c != '\\'
	}
	return plain
}()

// plainLength returns a length of s, a multiple of 8, up to which its bytes are plain. It looks at 8 of them at once:
// in each of the terms that it joins, the highest bit of some byte is set if one of them is what the term looks for.
func plainLength(s string) int {
	const ones, highest = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		quotes, backslashes := w^'"'*ones, w^'\\'*ones // zero bytes where they are
		if (w|(w+ones)|(w-' '*ones)|(quotes-ones)&^quotes|(backslashes-ones)&^backslashes)&highest != 0 {
			break
		}
	}
	return i
}

// appendString appends s as a JSON string and reports whether it is valid UTF-8.
func appendString(b []byte, s string) (_ []byte, valid bool) {
	b = append(b, '"')
	valid = true
	start := 0 // of what is not yet appended
	for i := plainLength(s); i < len(s); {
		if plain[s[i]] {
			i++
			continue
		}
		c, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			valid = false
			b = append(append(b, s[start:i]...), "\uFFFD"...)
		case isEscaped(c):
			b = appendEscaped(append(b, s[start:i]...), c)
		default:
			i += n
			continue
		}
		i += n
		start = i
	}
	return append(append(b, s[start:]...), '"'), valid
}

// isEscaped reports whether a JSON string here has an escape sequence for c: control characters, of which the ones from
// U+0080 drive terminals too, and what ends a line in Unicode.
func isEscaped(c rune) bool {
	return c < ' ' || c == '"' || c == '\\' || '\u007f' <= c && c <= '\u009f' || c == '\u2028' || c == '\u2029'
}

func appendEscaped(b []byte, c rune) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', byte(c))
	case '\n':
		return append(b, `\n`...)
	case '\t':
		return append(b, `\t`...)
	case '\r':
		return append(b, `\r`...)
	}
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[c>>12], hex[c>>8&15], hex[c>>4&15], hex[c&15])
}
