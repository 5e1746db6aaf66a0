// Package doctor finds out what fanotify can do on this machine: on each mount, by this kernel, within the limits, and
// beside the listeners that are there already.
//
// Everything is tried, nothing is concluded from a version or the name of a filesystem, and nobody is disturbed by it.
// A notification mark lives for a moment in a group that nobody reads. A permission mark, which could make others wait,
// is never set: the kernel is asked for one that it refuses after it looked whether the filesystem has such events (see
// directory.offer). What doesn't answer is given up after a deadline.
//
// [Examine] gathers the facts, [Report] holds them in the form that its JSON has, and findings.go judges them. How they
// are shown is decided elsewhere.
package doctor
