// Package fanotify is the kernel's fanotify(7) interface: groups, marks, events and their information records.
package fanotify
