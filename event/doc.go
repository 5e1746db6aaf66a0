// Package event is the vocabulary of Fanlight: what happened to a file, who did it, and how far that can be trusted.
// It holds values and their JSON form; it does no I/O, starts nothing and never logs.
//
// An Event is one record of a stream. Either it tells what happened to one object, as a set of bits because the kernel
// merges equal events, or it stands where something was lost: with fanotify.Overflow, where the kernel's queue was
// full, or with a count in Lost, where a slow reader of one output missed records. Nothing else tells of loss.
//
// Paths and names are bytes and may hold anything but NUL. Every path comes with a PathState.
//
// A Process is shared by all events of a process and never changes once it is in an event; all other values belong to
// who holds them. Nothing here is locked.
//
// # JSON
//
// An event is one JSON object on one line, whatever bytes its names hold: control characters, DEL and the line breaks
// of Unicode are escaped. A member that is absent is unknown. The members, in the order in which they are written:
//
//	seq           rises by one within one output, from 1
//	time          when the event was read: RFC 3339 in UTC with nine digits of nanoseconds
//	events        the names of the bits, by their value, always there; an unknown bit is its hexadecimal number as a
//	              string, an overflow is exactly ["overflow"]
//	path          absolute; of a rename, the old path
//	new_path      the new path of a rename
//	path_state    beside every path: "exact", "current" or "unknown", of the less certain of both
//	pid           the process that did it
//	process       pid, ppid, uid, comm, exe, cwd and state ("live" or "exited") of that process; where they are asked
//	              for gid, login_uid, start (a time), cmdline (a list of texts), cgroup, container; and ancestors: pid
//	              and comm of its parent, the parent's parent and so on
//	scope         of an overflow: the root, or a directory above it, where events were lost
//	lost          how many records this output missed right before this one, which says nothing else
//	found         true when the object was found by walking a new directory, not reported by the kernel
//	fd            true when a descriptor of the object comes along
//	fd_error      why it doesn't, as the name of an errno
//	truncated     true when the record was too big and lost members
//	mount_id      the unique id of the mount of a mount event
//	fs_error, error_count             the errno that a filesystem reported, and how many errors there were
//	offset, count                     the bytes that a pre-content event is about
//	response, rule, duration_ns       the answer to a permission event, the rule that gave it, the time it took
//
// A text with bytes that are not UTF-8 has U+FFFD for each of them, and beside it a member with _raw after its name,
// such as path_raw, that holds all of its bytes in base64. It is only there when it is needed. cmdline_raw has a NUL
// behind each argument.
//
// The decoder ignores what it doesn't know, members and names of events, so that older programs read what newer ones
// write. A member of the wrong type is an error.
package event
