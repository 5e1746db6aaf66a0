// Package fanotify is the kernel's fanotify(7) interface, typed, complete and without policy: what happens to files, on
// one file or on a whole filesystem, is reported with the process that did it, or waits until it is allowed.
//
// # The model
//
// A [Group] is a queue of events in the kernel. [NewGroup] makes it, and [Config] decides for its whole life what an
// event is: what it reports ([Report]) and whether somebody waits for it ([Class]).
//
// A mark tells a group what to watch. [Group.Mark] puts it on a target: an inode, which is a file or a directory, and
// with [EventOnChild] what lies directly in the directory; a mount; a filesystem, through whichever mount it is used;
// or a mount namespace. The [Mask] says which events. There is one mark for each group and target, and bits add up.
// Directories themselves are left out unless the mask has [OnDir]. A second mask of the mark ([Ignore]) says what not
// to report.
//
// An [Event] says that something happened. Its Mask is a set: equal events of one process that wait in the queue are
// merged, so that one event may say create, write and delete in no order, and nothing can be counted. Around the mask
// there are information records, one for each thing that the Config asked for: a directory and a name in it, the
// object, a pidfd. The methods of Event read the known ones; [Event.Records] yields all.
//
// An answer is what a permission event waits for, in a group of [ClassContent] or [ClassPreContent]: [Event.Respond]
// lets the system call of the process go on or fail.
//
// # Which group
//
// There are four kinds, because the kernel lets handles, descriptors, answers and mounts exclude each other:
//
//   - Names and handles, ReportDFIDNameTarget: every event, including those that change directories, with the handle
//     of the directory, the name, and the handle of the object. A [Handle] stays the same when files are renamed. It is
//     compared, or opened with [Handle.Open]. This is what to take for watching. Without privilege it works for
//     TargetInode, on what the user may read; PID is 0 for other processes then.
//   - Descriptors, the zero Config: an event carries an open descriptor of the file ([Event.File]), opened when the
//     event is read. Only access, modify, open, open_exec and close are reported, of regular files and directories, also
//     where filesystems have no handles.
//   - Answers, ClassContent and ClassPreContent: descriptors as well, and permission events. ClassPreContent is asked
//     before the content is there ([PreAccess], with [Event.Range]), and may deny with other errnos. Take ReportFDError
//     and UnlimitedQueue along: without the first, anybody's lease on a file of his own can hold the reader up, without
//     the second a full queue lets everybody pass.
//   - Mounts, ReportMnt: what is attached and detached in a mount namespace, by unique mount ids ([Event.MountID]).
//
// What needs which kernel and which privilege is in the comment of each constant, and in docs/kernel.md together with
// the tests that prove it. What the running kernel has is asked of [Supports], what the system allows of [ReadLimits],
// how much of that is used of [ReadUsage], and what a group marks, one's own or any other, of [Group.Info] and
// [AllGroups]. [StatMount] tells what a mount id stands for.
// [InitError] and [MarkError] unwrap to the errno and say in one line what it means there and what to do.
//
// # Reading
//
// [Group.Events] yields the events as they come. [Group.Read] and [Group.TryRead] take a [Batch] at once, for who wants
// to look ahead ([Batch.Ahead]) or to decide himself when to wait ([Group.Wait]). The order is that of the queue; a
// merged event stands where its first part was.
//
// A queue without Config.UnlimitedQueue holds [Limits].MaxQueuedEvents events. What comes then is lost, and one event
// with [Overflow] in its mask says so; permission events that find the queue full are allowed without being asked.
//
// # Ownership
//
// An [Event] and every []byte that it returns are borrowed: they hold for the body of the loop that yielded them, which
// ends also by a break or a panic. [Event.Detach] makes a copy to keep, which its owner closes.
//
// Descriptors in an event belong to the event. [Event.File] and [Event.PIDFD] hand them over, the end of the event
// closes what was not taken. A permission event keeps its descriptor until the answer, because the kernel knows the
// request by that number; File gives a duplicate until then.
//
// Nobody is left waiting: a permission event that ends unanswered, by the next step of a loop, by a panic in its body,
// by Close or because it was collected as garbage, gets Config.Unanswered, and [Group.Unanswered] counts it. Closing
// the group, or the end of the process, lets the kernel allow whatever still waits.
//
// # Concurrency
//
// All methods of a Group may be called from any goroutine, and Close at any time beside every other method: it wakes a
// blocked reader, and a descriptor's number is never used after it was closed. Reading is for one goroutine at a time;
// a second reader gets an error, because the order of events would be lost between them. A Batch, a borrowed Event and
// Answers belong to one goroutine. A detached event may be answered and closed by any: the first answer counts.
//
// A goroutine that answers must not wait for what it guards: if it, or anything that it waits for, opens a marked file,
// the open waits for an answer that can't come. That includes programs that it starts and libraries that read their
// files when first used. The answers to its own process ([Event].PID) are best given before anything else.
//
// An Event that was yielded must not be used behind the body of its loop, nor by a goroutine that outlives it: the next
// read uses its place again. Within one read it says ErrAnswered then.
//
// # What fanotify can't see
//
//   - Writes and reads through a memory mapping (mmap(2)): only the open and the close of the file.
//   - What happens on the other side: changes made on the server of a network filesystem or below a FUSE filesystem.
//   - The past of a name. An event tells the directory's handle and the name as of the event; where that directory is
//     called by the time it is asked may be elsewhere, or nowhere.
//   - Files that change below a directory, when only the directory is marked: there is no recursion. New directories
//     need marks of their own, and what happens in them before is not seen. A filesystem mark sees all.
//   - The end of a mark: when its inode is deleted or its filesystem unmounted, it goes silently, and what is made or
//     mounted in its place is not marked. A group with ReportMnt sees the unmount.
//   - An operation that fails, and one that only looks: stat(2), access(2), readlink(2), O_PATH.
//   - Permission for anything but opening, executing and reading: nobody is asked before a file is renamed, linked,
//     unlinked or given another mode, nor before it is written, except by PreAccess. A denied open with O_CREAT has
//     made the file, a denied read doesn't cover mmap(2), again except by PreAccess.
//   - Who is asked is decided when a file is opened (since Linux 6.14): who has it open before the mark for AccessPerm
//     or PreAccess is there may never be asked.
//
// # What this package doesn't do
//
// It resolves no paths, knows no processes, retries nothing and never logs: that is package watch.
package fanotify
