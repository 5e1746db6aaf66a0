package fanotify

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// RecordType is the type of an information record (fanotify(7)).
type RecordType uint8

// The information records. Any other type is kept as data, see Event.Records.
const (
	RecordFID         RecordType = unix.FAN_EVENT_INFO_TYPE_FID           // Event.Object (since Linux 5.1)
	RecordDFIDName    RecordType = unix.FAN_EVENT_INFO_TYPE_DFID_NAME     // Event.Dir (since 5.9)
	RecordDFID        RecordType = unix.FAN_EVENT_INFO_TYPE_DFID          // Event.Dir without a name (since 5.9)
	RecordPIDFD       RecordType = unix.FAN_EVENT_INFO_TYPE_PIDFD         // Event.PIDFD (since 5.15)
	RecordError       RecordType = unix.FAN_EVENT_INFO_TYPE_ERROR         // Event.FSError (since 5.16)
	RecordRange       RecordType = unix.FAN_EVENT_INFO_TYPE_RANGE         // Event.Range (since 6.14)
	RecordMnt         RecordType = unix.FAN_EVENT_INFO_TYPE_MNT           // Event.MountID (since 6.15)
	RecordOldDFIDName RecordType = unix.FAN_EVENT_INFO_TYPE_OLD_DFID_NAME // Event.Old (since 5.17)
	RecordNewDFIDName RecordType = unix.FAN_EVENT_INFO_TYPE_NEW_DFID_NAME // Event.New (since 5.17)

	recordTypes = RecordNewDFIDName + 1
)

// Sizes in bytes of the kernel's structures (linux/fanotify.h).
const (
	metadataSize   = unix.FAN_EVENT_METADATA_LEN
	recordHeader   = 4
	handleInRecord = recordHeader + handleHeader // where the handle proper begins in a record
)

// leastLength is the length in bytes that a record of each known type has at least.
var leastLength = [recordTypes]uint32{
	RecordFID:         handleInRecord,
	RecordDFID:        handleInRecord,
	RecordDFIDName:    handleInRecord + 1,
	RecordOldDFIDName: handleInRecord + 1,
	RecordNewDFIDName: handleInRecord + 1,
	RecordPIDFD:       8,
	RecordError:       12,
	RecordRange:       24,
	RecordMnt:         12,
}

func metadataLength(event []byte) uint32 { return uint32(binary.NativeEndian.Uint16(event[6:])) }
func recordLength(record []byte) uint32  { return uint32(binary.NativeEndian.Uint16(record[2:])) }

// handleSize returns the number of bytes of the handle proper in a record.
func handleSize(record []byte) uint32 { return binary.NativeEndian.Uint32(record[recordHeader+8:]) }

// ParseError says that the kernel's buffer can't be understood, and where.
type ParseError struct {
	Offset int // in bytes, from the start of what was read
	Reason string
}

// Error returns one line with the offset and the reason.
func (e *ParseError) Error() string {
	return fmt.Sprintf("malformed fanotify event at byte %d: %s", e.Offset, e.Reason)
}

// parse parses the event at the start of b and returns its size in bytes. With an error, the size is what to skip. The
// event borrows b; e.held, which holds nothing before, owns what descriptors could be read, also with an error.
func (e *Event) parse(b []byte) (int, *ParseError) {
	e.Mask, e.PID, e.raw, e.at = 0, 0, nil, [recordTypes]uint32{}
	if len(b) < metadataSize {
		return len(b), &ParseError{0, "cut off metadata"}
	}
	size := binary.NativeEndian.Uint32(b)
	if size < metadataSize || uint64(size) > uint64(len(b)) {
		return len(b), &ParseError{0, fmt.Sprintf("event length %d of %d bytes", size, len(b))}
	}
	b = b[:size]
	if version := b[4]; version != unix.FANOTIFY_METADATA_VERSION {
		return int(size), &ParseError{4, fmt.Sprintf("metadata version %d", version)}
	}
	e.raw = b
	e.Mask = Mask(binary.NativeEndian.Uint64(b[8:]))
	e.PID = int32(binary.NativeEndian.Uint32(b[20:]))
	if e.held != nil {
		e.held.take(e.Mask, int32(binary.NativeEndian.Uint32(b[16:])))
	}

	var malformed *ParseError
	at := metadataLength(b)
	if at < metadataSize || at > size {
		return int(size), &ParseError{6, fmt.Sprintf("metadata length %d", at)}
	}
	for at < size {
		r := b[at:]
		if len(r) < recordHeader || recordLength(r) < recordHeader || recordLength(r) > uint32(len(r)) {
			if malformed == nil {
				malformed = &ParseError{int(at), "record length"}
			}
			break // nothing behind it can be told
		}
		r = r[:recordLength(r)]
		if reason := e.take(RecordType(r[0]), r, at); reason != "" && malformed == nil {
			malformed = &ParseError{int(at), reason}
		}
		at += uint32(len(r))
	}
	return int(size), malformed
}

// take notes where the record r is, if its type is known, and returns what is wrong with it.
func (e *Event) take(t RecordType, r []byte, at uint32) (wrong string) {
	if t >= recordTypes || leastLength[t] == 0 || e.at[t] != 0 {
		return ""
	}
	if uint32(len(r)) < leastLength[t] {
		return "cut off record"
	}
	switch t {
	case RecordDFIDName, RecordFID, RecordDFID, RecordOldDFIDName, RecordNewDFIDName:
		named := leastLength[t] - handleInRecord // 1 or 0
		if handleSize(r) > uint32(len(r))-handleInRecord-named {
			return "cut off handle"
		}
		// A name ends with NUL and is padded with NUL, so the last byte is one.
		if named != 0 && r[len(r)-1] != 0 {
			return "name without an end"
		}
	case RecordPIDFD:
		if e.held != nil {
			e.held.pidfd = int32(binary.NativeEndian.Uint32(r[4:]))
		}
	}
	e.at[t] = at
	return ""
}
