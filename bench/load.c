//go:build ignore

// load works on files as fast as it can, or at a given rate, under names that names.go knows.
//
//	load MODE DIR N WIDTH RATE
//
// files: in WIDTH directories that exist, creates, writes, closes, renames and deletes N files, one after the other.
// trees: makes N trees as mkdir -p does, 8 directories deep with a file at the bottom, and removes them as rm -r
//        does; WIDTH of them stand at a time.
// opens: opens and closes WIDTH files that exist, N times in all.
//
// RATE is in files, trees or opens a second; 0 is full speed. It prints its own time and processor time.

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DEPTH = 8 };

static void check(int result, const char *call, const char *path)
{
	if (result < 0)
		err(1, "%s %s", call, path);
}

static void file(long i, long width)
{
	char from[64], to[64];
	snprintf(from, sizeof from, "d%04ld/f%07ld", i % width, i);
	snprintf(to, sizeof to, "d%04ld/r%07ld", i % width, i);
	int fd = open(from, O_WRONLY | O_CREAT | O_EXCL, 0644);
	check(fd, "create", from);
	check(write(fd, "fanlight\n", 9), "write", from);
	check(close(fd), "close", from);
	check(rename(from, to), "rename", from);
	check(unlink(to), "unlink", to);
}

// tree names the directory of tree i at the given depth: t0000007, t0000007/a, t0000007/a/b ...
static int tree(char *path, size_t size, long i, int depth)
{
	int n = snprintf(path, size, "t%07ld", i);
	for (int d = 1; d < depth; d++)
		n += snprintf(path + n, size - n, "/%c", 'a' + d - 1);
	return n;
}

static void make_tree(long i)
{
	char path[64];
	for (int depth = 1; depth <= DEPTH; depth++) {
		tree(path, sizeof path, i, depth);
		check(mkdir(path, 0755), "mkdir", path);
	}
	strcat(path, "/x");
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
	check(fd, "create", path);
	check(close(fd), "close", path);
}

static void remove_tree(long i)
{
	char path[64];
	tree(path, sizeof path, i, DEPTH);
	strcat(path, "/x");
	check(unlink(path), "unlink", path);
	for (int depth = DEPTH; depth >= 1; depth--) {
		tree(path, sizeof path, i, depth);
		check(rmdir(path), "rmdir", path);
	}
}

static void open_close(long i, long width)
{
	char path[64];
	snprintf(path, sizeof path, "o%04ld", i % width);
	int fd = open(path, O_RDONLY);
	check(fd, "open", path);
	check(close(fd), "close", path);
}

static struct timespec start;

// pace waits until operation i is due.
static void pace(long i, long rate)
{
	if (rate == 0)
		return;
	struct timespec due = start;
	due.tv_sec += i / rate;
	due.tv_nsec += i % rate * (1000000000 / rate);
	if (due.tv_nsec >= 1000000000) {
		due.tv_sec++;
		due.tv_nsec -= 1000000000;
	}
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
}

static long micros(struct timeval t) { return t.tv_sec * 1000000 + t.tv_usec; }

int main(int argc, char **argv)
{
	if (argc != 6)
		errx(2, "usage: load files|trees|opens DIR N WIDTH RATE");
	const char *mode = argv[1];
	long n = atol(argv[3]), width = atol(argv[4]), rate = atol(argv[5]);
	if (n < 1 || width < 1 || rate < 0)
		errx(2, "N and WIDTH are at least 1, RATE at least 0");
	check(chdir(argv[2]), "chdir", argv[2]);

	clock_gettime(CLOCK_MONOTONIC, &start);
	if (strcmp(mode, "files") == 0) {
		for (long i = 0; i < n; i++) {
			pace(i, rate);
			file(i, width);
		}
	} else if (strcmp(mode, "trees") == 0) {
		for (long first = 0; first < n; first += width) {
			long end = first + width < n ? first + width : n;
			for (long i = first; i < end; i++) {
				pace(i, rate);
				make_tree(i);
			}
			for (long i = first; i < end; i++)
				remove_tree(i);
		}
	} else if (strcmp(mode, "opens") == 0) {
		for (long i = 0; i < n; i++) {
			pace(i, rate);
			open_close(i, width);
		}
	} else {
		errx(2, "no mode %s", mode);
	}

	struct timespec end;
	clock_gettime(CLOCK_MONOTONIC, &end);
	struct rusage used;
	getrusage(RUSAGE_SELF, &used);
	long wall = (end.tv_sec - start.tv_sec) * 1000000 + (end.tv_nsec - start.tv_nsec) / 1000;
	printf("wall_us=%ld user_us=%ld sys_us=%ld ops=%ld\n", wall, micros(used.ru_utime), micros(used.ru_stime), n);
}
