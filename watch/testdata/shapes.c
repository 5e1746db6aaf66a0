// shapes makes files in the ways in which a process can be something else than it was. The name of each file says who
// makes it: N.COMM.PROGRAM, with - where nobody can say.

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void make(const char *name)
{
	int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
	if (fd < 0)
		err(1, "%s", name);
	close(fd);
}

static void touch(const char *name) { execl("./touch", "touch", name, (char *)0); err(1, "touch"); }

static void *exec_in_thread(void *name) { touch(name); return 0; }

static void *fork_in_thread(void *name)
{
	prctl(PR_SET_NAME, "thread");
	if (fork() == 0) {
		make(name);
		_exit(0);
	}
	while (wait(0) > 0)
		;
	return 0;
}

static void *write_later(void *name)
{
	// The first thread has ended when its state is Z.
	char state = 0;
	while (state != 'Z') {
		FILE *f = fopen("/proc/self/stat", "r");
		if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			err(1, "stat");
		fclose(f);
	}
	make(name);
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *shape = argc > 1 ? argv[1] : "";
	pthread_t thread;
	if (!strcmp(shape, "vfork")) {
		if (vfork() == 0)
			touch("0.touch.touch");
	} else if (!strcmp(shape, "thread-exec")) {
		make("0.shapes.shapes");
		pthread_create(&thread, 0, exec_in_thread, "1.touch.touch");
		pause();
	} else if (!strcmp(shape, "thread-fork")) {
		pthread_create(&thread, 0, fork_in_thread, "0.thread.shapes");
		pthread_join(thread, 0);
		make("1.shapes.shapes");
	} else if (!strcmp(shape, "leader-ends")) {
		pthread_create(&thread, 0, write_later, "0.shapes.shapes");
		syscall(SYS_exit, 0);
	} else if (!strcmp(shape, "memfd")) {
		int to = memfd_create("copy", MFD_CLOEXEC), from = open("./touch", O_RDONLY);
		while (sendfile(to, from, 0, 1 << 20) > 0)
			;
		make("0.shapes.shapes");
		char *args[] = {"touch", "1.-.-", 0}, *none[] = {0};
		fexecve(to, args, none);
		err(1, "fexecve");
	} else if (!strcmp(shape, "failed-exec")) {
		char *long_args[] = {"touch", 0, 0}, *none[] = {0};
		static char long_arg[1 << 20];
		memset(long_arg, 'x', sizeof long_arg - 1);
		long_args[1] = long_arg;
		execve("./touch", long_args, none); // E2BIG
		make("0.shapes.shapes");
		execve("./no-such-file", long_args, none);
		make("1.shapes.shapes");
	} else if (!strcmp(shape, "parent")) {
		// The child counts as a child of this program's parent, whose program it never executed.
		if (syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0) == 0) {
			make("0.shapes.shapes");
			_exit(0);
		}
	} else if (!strcmp(shape, "name")) {
		make("0.-.shapes");
		prctl(PR_SET_NAME, "renamed");
		make("1.-.shapes");
		touch("2.touch.touch");
	} else if (!strcmp(shape, "user")) {
		make("0.shapes.shapes");
		if (setgid(1234) || setuid(1234))
			err(1, "setuid");
		make("1.shapes.shapes");
	} else if (!strcmp(shape, "chain")) {
		make("0.shapes.shapes");
		execl("./env", "env", "./touch", "1.touch.touch", (char *)0);
	} else if (!strcmp(shape, "reuse")) {
		// Processes of one pid, of different users and programs.
		pid_t pid = 0;
		for (int i = 0; i < 40; i++) {
			struct clone_args args = {.exit_signal = SIGCHLD, .set_tid = pid ? (uintptr_t)&pid : 0, .set_tid_size = pid ? 1 : 0};
			pid_t child = syscall(SYS_clone3, &args, sizeof args);
			if (child < 0)
				continue; // another has the pid
			if (child == 0) {
				char name[64];
				if (setuid(1000 + i))
					_exit(1);
				snprintf(name, sizeof name, "%d.%s.%s", i, i % 2 ? "touch" : "shapes", i % 2 ? "touch" : "shapes");
				if (i % 2)
					touch(name);
				make(name);
				_exit(0);
			}
			pid = child;
			waitpid(child, 0, 0);
		}
	} else {
		errx(1, "no such shape: %s", shape);
	}
	while (wait(0) > 0)
		;
	return 0;
}
