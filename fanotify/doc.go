// Package fanotify is the kernel's fanotify(7) interface, typed, complete and without policy: notification groups,
// marks, events and their information records, file handles, feature probes and limits.
//
// A [Group] receives events. A mark ([Group.Mark]) tells it what to watch: an inode, a mount, a whole filesystem or a
// mount namespace. Events are read in batches ([Group.Read], [Group.TryRead]) or one by one ([Group.Events]), in the
// order of the kernel's queue.
//
// # Ownership
//
// An [Event] and every []byte that it returns are borrowed: they hold until the next step of the loop that yielded
// them. [Event.Detach] makes a copy to keep, which its owner closes. Descriptors in an event belong to the event:
// [Event.File] and [Event.PIDFD] hand them over, the next step closes what was not taken. A permission event that
// nobody answered is allowed at the next step, or before when its descriptor is handed over.
//
// # Errors
//
// [InitError] and [MarkError] unwrap to the errno and say in one line what it means there and what to do. What this
// kernel can do is asked of [Supports], what the system allows of [ReadLimits].
//
// # Concurrency
//
// All methods of a Group may be called from any goroutine, and Close at any time beside every other method: it wakes
// a blocked reader, and a descriptor's number is never used after it was closed. Reading is for one goroutine at a
// time; a second reader gets an error, because the order of events would be lost between them. A Batch and an Event
// belong to one goroutine.
//
// # What it doesn't do
//
// It resolves no paths, knows no processes and retries nothing: that is package watch. It never logs.
package fanotify
