//go:build ignore

// floor is what a reader costs at least: it reads the events of DIR's filesystem, counts them and does nothing else.
//
//	floor FORM MASK BUDGET_US DIR
//
// FORM is "fid" for events with handles and names, "fd" for events with descriptors, which it closes, or "perm" for
// permission events, which it allows. MASK is the mask of the mark, BUDGET_US the time to wait after a wake-up so that
// one read takes many events, 0 for none. Writes "ready" to standard error when the mark is in place; on SIGTERM prints
// its counts and ends.

#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <time.h>
#include <unistd.h>

// Since Linux 5.17; older headers of the C library lack it.
#ifndef FAN_REPORT_TARGET_FID
#define FAN_REPORT_TARGET_FID 0x00001000
#endif

static volatile sig_atomic_t ended;
static void end(int signal) { ended = signal; }

int main(int argc, char **argv)
{
	if (argc != 5)
		errx(2, "usage: floor fid|fd|perm MASK BUDGET_US DIR");
	int fid = strcmp(argv[1], "fid") == 0, perm = strcmp(argv[1], "perm") == 0;
	unsigned long long mask = strtoull(argv[2], NULL, 0);
	long budget = atol(argv[3]);
	const struct timespec wait = {.tv_nsec = budget * 1000};
	// No SA_RESTART: a signal interrupts poll and read.
	struct sigaction action = {.sa_handler = end};
	sigaction(SIGTERM, &action, NULL);

	int flags = FAN_CLOEXEC | FAN_UNLIMITED_QUEUE | (perm ? FAN_CLASS_CONTENT : FAN_CLASS_NOTIF);
	if (fid)
		flags |= FAN_REPORT_DFID_NAME | FAN_REPORT_FID | FAN_REPORT_TARGET_FID;
	int fd = fanotify_init(flags, O_RDONLY | O_CLOEXEC | O_LARGEFILE);
	if (fd < 0)
		err(1, "fanotify_init");
	if (fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask, AT_FDCWD, argv[4]) < 0)
		err(1, "fanotify_mark %s", argv[4]);
	fprintf(stderr, "ready\n");

	static char buffer[256 << 10] __attribute__((aligned(8)));
	unsigned long long reads = 0, bytes = 0, events = 0, overflows = 0;
	while (!ended) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (budget > 0) { // else read waits
			if (poll(&p, 1, -1) < 0)
				continue;
			nanosleep(&wait, NULL);
		}
		// With descriptors, no more events in one read than a process may have descriptors.
		ssize_t n = read(fd, buffer, fid ? sizeof buffer : 4096);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			err(1, "read");
		}
		reads++;
		bytes += n;
		struct fanotify_event_metadata *m = (void *)buffer;
		for (; FAN_EVENT_OK(m, n); m = FAN_EVENT_NEXT(m, n)) {
			events++;
			if (m->mask & FAN_Q_OVERFLOW)
				overflows++;
			struct fanotify_response allow = {.fd = m->fd, .response = FAN_ALLOW};
			if (perm && write(fd, &allow, sizeof allow) < 0)
				err(1, "write");
			if (m->fd >= 0)
				close(m->fd);
		}
	}
	printf("events=%llu bytes=%llu reads=%llu overflows=%llu\n", events, bytes, reads, overflows);
}
