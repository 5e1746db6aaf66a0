// Package watch turns the kernel's events into [event.Event]: with paths as they were, with processes, from every
// filesystem under the roots, and with a record wherever something was lost.
//
// # How
//
// A filesystem gets one mark where it can, whatever its size, so that watching a tree is ready at once and nothing is
// walked. An event names a directory by its file handle. The directory is a node of a tree that is kept in the order of
// the kernel's queue from the records about directories: made, renamed, removed. One that is met for the first time is
// looked for in the records that were read but not handled yet, because the first of them about it says where it was;
// else the kernel is asked, and the queue drained once more, so that a rename or removal before the answer is among
// those records.
//
// # Mounts
//
// What is mounted under a root is watched from a moment after it was mounted: what happened in it before is not seen.
// Events with MntAttach say that a mount is watched, with its point as path and behind everything that came before it;
// MntDetach says that it is gone, behind its last events. A mount that was moved has both, with the old point as Path
// and the new one as NewPath. The watch keeps no filesystem from being unmounted for longer than one question to the
// kernel takes. Around such a change, paths may be current instead of exact: the kernel gives no order between mounts
// and events.
//
// A root is what its path leads to: when something is mounted over it, that is watched as well, and when it was a mount
// point and is unmounted, the directory below is. Only mounts in the mount namespace of the process count, but whoever
// writes to their filesystems is seen, in whatever namespace; [Config] can ask for the filesystems of other namespaces.
//
// # Order and loss
//
// Events come in the order of the kernel's queue. What was lost is an event in its place: a queue overflow with its
// scope, or a count of events that the consumer was too slow for. The reader never waits for the consumer. Sync waits
// until what happened before it was delivered.
//
// # Concurrency
//
// A reader is a goroutine that owns a group's read side, its tree and its table of processes. Most often there is one.
// A filesystem whose id goes with no other in a group, such as FUSE, has a reader of its own, and so have the errors
// that filesystems report; between them the kernel gives no order. Another goroutine waits for changes of mounts, and
// does no more than to wake a reader. Events is for one goroutine at a time; the other methods may be called from any.
//
// # What it can't see
//
// Changes that don't go through this kernel's files: writes by other machines to a network filesystem, writes through
// a memory mapping (fanotify(7)). A filesystem that refuses a mark for all of it, and everything without privilege, is
// watched by a mark on each directory, which sees less: Coverage says what.
//
// Of a filesystem whose every mount is covered by another, directories that were not met before have no paths.
package watch
