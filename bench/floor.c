//go:build ignore

// floor is what a watcher costs at least: it reads the events of DIR's filesystem, counts them and does nothing else.
//
//	floor MASK BUDGET_US DIR
//
// MASK is the mask of the mark, BUDGET_US the time to wait after a wake-up so that one read takes many events, 0 for
// none. Writes "ready" to standard error when the mark is in place; on SIGTERM prints its counts and ends.

#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
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
	if (argc != 4)
		errx(2, "usage: floor MASK BUDGET_US DIR");
	unsigned long long mask = strtoull(argv[1], NULL, 0);
	long budget = atol(argv[2]);
	const struct timespec wait = {.tv_nsec = budget * 1000};
	// No SA_RESTART: a signal interrupts poll.
	struct sigaction action = {.sa_handler = end};
	sigaction(SIGTERM, &action, NULL);

	int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE | FAN_REPORT_DFID_NAME |
			       FAN_REPORT_FID | FAN_REPORT_TARGET_FID, O_RDONLY | O_CLOEXEC | O_LARGEFILE);
	if (fd < 0)
		err(1, "fanotify_init");
	if (fanotify_mark(fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, mask, AT_FDCWD, argv[3]) < 0)
		err(1, "fanotify_mark %s", argv[3]);
	fprintf(stderr, "ready\n");

	static char buffer[256 << 10] __attribute__((aligned(8)));
	unsigned long long reads = 0, bytes = 0, events = 0, overflows = 0;
	while (!ended) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, -1) < 0)
			continue;
		if (budget > 0)
			nanosleep(&wait, NULL);
		ssize_t n = read(fd, buffer, sizeof buffer);
		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR)
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
		}
	}
	printf("events=%llu bytes=%llu reads=%llu overflows=%llu\n", events, bytes, reads, overflows);
}
