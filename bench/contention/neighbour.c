/*
 * neighbour.c - an innocent neighbour: a process that does nothing but look up one path, and times
 * each lookup.
 *
 *   cc -O2 -o neighbour neighbour.c
 *   ./neighbour BEGUN SECONDS PATH
 *
 * Waits until the file BEGUN is there, then calls stat(2) on PATH for that long. What a storm of
 * mounts does to others shows in the longest of these: a lookup that meets a writer of mount_lock
 * starts over or waits. It also waits when it has no CPU; how much of the time that was is told
 * too, because it has nothing to do with mounts.
 *
 * Prints JSON: seconds, of these onCpu and waitedForCpu (both null where the kernel does not count
 * them), how often it slept, and its latencies as [nanoseconds, count], rounded down to seven
 * binary digits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { DIGITS = 7, VALUES = 1 << DIGITS };
static uint64_t counts[64][VALUES];

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void record(uint64_t value) {
  int length = 64 - __builtin_clzll(value | 1), shift = length > DIGITS ? length - DIGITS : 0;
  counts[shift][value >> shift]++;
}

/* /proc/self/schedstat: nanoseconds on a CPU, nanoseconds runnable without one */
struct schedule {
  unsigned long long ran, waited;
  int is_known;
};
static struct schedule schedule(void) {
  struct schedule found = {0};
  FILE *file = fopen("/proc/self/schedstat", "r");
  if (!file) return found;
  found.is_known = fscanf(file, "%llu %llu", &found.ran, &found.waited) == 2 && found.ran > 0;
  fclose(file);
  return found;
}

int main(int argc, char **argv) {
  if (argc != 4) {
    fprintf(stderr, "usage: neighbour BEGUN SECONDS PATH\n");
    return 2;
  }
  const char *begun = argv[1], *path = argv[3], *comma = "";
  struct timespec pause = {0, 500000};
  struct stat status;
  struct rusage before, after;
  while (access(begun, F_OK)) nanosleep(&pause, NULL);
  getrusage(RUSAGE_SELF, &before);
  struct schedule first = schedule();
  uint64_t start = now(), end = start + (uint64_t)(atof(argv[2]) * 1e9), time = start;
  while (time < end) {
    /* looked up from the root each time: `time` is both the end of one and the start of the next */
    if (stat(path, &status)) {
      fprintf(stderr, "stat %s: %s\n", path, strerror(errno));
      return 1;
    }
    uint64_t then = now();
    record(then - time);
    time = then;
  }
  struct schedule last = schedule();
  getrusage(RUSAGE_SELF, &after);
  printf("{\"seconds\":%.6f,\"slept\":%ld,", (time - start) / 1e9,
         after.ru_nvcsw - before.ru_nvcsw);
  if (first.is_known)
    printf("\"onCpu\":%.6f,\"waitedForCpu\":%.6f,", (last.ran - first.ran) / 1e9,
           (last.waited - first.waited) / 1e9);
  else
    printf("\"onCpu\":null,\"waitedForCpu\":null,");
  printf("\"latencies\":[");
  for (int shift = 0; shift < 64; shift++)
    for (uint64_t value = 0; value < VALUES; value++)
      if (counts[shift][value]) {
        printf("%s[%llu,%llu]", comma, (unsigned long long)(value << shift),
               (unsigned long long)counts[shift][value]);
        comma = ",";
      }
  printf("]}\n");
  return 0;
}
