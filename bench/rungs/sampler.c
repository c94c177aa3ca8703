/*
 * sampler.c - how many more mounts a process's mount namespace has than it should, looked at without a pause.
 *
 *   cc -O2 -o sampler sampler.c
 *   ./sampler PID TARGET...
 *
 * Reads /proc/PID/mountinfo, says "ready", and reads it again and again until its stdin ends. What is there more than
 * the first time, beside mounts at the TARGETs, is the excess. At the end it prints how often it looked, the largest
 * excess, and how many TARGETs it saw in one look.
 *
 * A table of more than a page is not read in one go, so a look may see a mount that has gone since and one that has
 * come instead: it may tell too much, and hides nothing that is there for the whole of it.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void fail(const char *what) {
	perror(what);
	exit(1);
}

static int is_target(const char *line, char **targets, int count, char *found) {
	const char *point = line;
	for (int i = 0; i < 4 && point; i++)
		if ((point = strchr(point, ' '))) point++;
	if (!point) return 0;
	size_t size = strcspn(point, " ");
	for (int i = 0; i < count; i++)
		if (strlen(targets[i]) == size && memcmp(targets[i], point, size) == 0) return found[i] = 1;
	return 0;
}

/* mounts that are not at a target; how many targets there are comes to *seen */
static int look(int fd, char **targets, int count, int *seen) {
	static char text[1 << 16];
	size_t kept = 0;
	int others = 0;
	char found[64] = {0};
	if (lseek(fd, 0, SEEK_SET) < 0) fail("lseek");
	for (;;) {
		ssize_t got = read(fd, text + kept, sizeof text - 1 - kept);
		if (got < 0) fail("read");
		if (got == 0) break;
		text[kept + got] = 0;
		char *line = text;
		for (char *end; (end = strchr(line, '\n')); line = end + 1) {
			*end = 0;
			others += !is_target(line, targets, count, found);
		}
		kept = strlen(line);
		memmove(text, line, kept);
	}
	*seen = 0;
	for (int i = 0; i < count; i++) *seen += found[i];
	return others;
}

int main(int argc, char **argv) {
	if (argc < 2 || argc > 2 + 64) {
		fprintf(stderr, "usage: sampler PID TARGET...  (64 at most)\n");
		return 2;
	}
	char path[64];
	snprintf(path, sizeof path, "/proc/%s/mountinfo", argv[1]);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) fail(path);
	int seen, most = 0, excess = 0;
	long samples = 0;
	int before = look(fd, argv + 2, argc - 2, &seen);
	puts("ready");
	fflush(stdout);
	struct pollfd input = {.fd = 0, .events = POLLIN};
	do {
		int more = look(fd, argv + 2, argc - 2, &seen) - before;
		if (more > excess) excess = more;
		if (seen > most) most = seen;
		samples++;
	} while (poll(&input, 1, 0) == 0);
	printf("%ld %d %d\n", samples, excess, most);
	return 0;
}
