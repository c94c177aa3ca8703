/*
 * lock.c - threads that do nothing but take one lock and pass it on.
 *
 *   cc -O2 -pthread -o lock lock.c
 *   ./lock SLICES MILLISECONDS CPU...
 *
 * One thread on each CPU named, pinned. A ticket lock, first come first served as the kernel's
 * queued spinlocks are. (A test-and-set lock is retaken by the CPU that has its line, which hides
 * what a handoff costs.) All waiters spin on one line, as those of a seqlock do. The critical
 * section counts, in a line of its own: acquisitions, and handoffs, those by another thread than
 * the last. They differ where a thread has no CPU meanwhile.
 *
 * Prints a line a slice: acquisitions, handoffs, nanoseconds. Fails if the lock did not exclude.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* two lines of 64 bytes are fetched together by some CPUs */
#define LINE __attribute__((aligned(128)))

static struct { uint32_t next, serving; } lock LINE;
static struct { uint64_t acquisitions, handoffs, owner; } counted LINE;
static int stop LINE;
static pthread_barrier_t begin;
struct spinner {
  int cpu;
  uint64_t number, acquisitions;
  pthread_t thread;
} LINE;

static void breathe(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static uint64_t read_count(const uint64_t *count) {
  return __atomic_load_n(count, __ATOMIC_RELAXED);
}

static void add(uint64_t *count, uint64_t more) {
  __atomic_store_n(count, read_count(count) + more, __ATOMIC_RELAXED);
}

static void *spin(void *argument) {
  struct spinner *own = argument;
  uint64_t acquisitions = 0;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(own->cpu, &set);
  int error = pthread_setaffinity_np(pthread_self(), sizeof set, &set);
  if (error) {
    fprintf(stderr, "cpu %d: %s\n", own->cpu, strerror(error));
    exit(1);
  }
  pthread_barrier_wait(&begin);
  while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
    uint32_t ticket = __atomic_fetch_add(&lock.next, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&lock.serving, __ATOMIC_ACQUIRE) != ticket) breathe();
    /* no atomic additions: it is the lock that protects them, and only the main thread looks */
    add(&counted.acquisitions, 1);
    add(&counted.handoffs, counted.owner != own->number);
    counted.owner = own->number;
    __atomic_store_n(&lock.serving, ticket + 1, __ATOMIC_RELEASE);
    acquisitions++;
  }
  own->acquisitions = acquisitions;
  return NULL;
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

int main(int argc, char **argv) {
  if (argc < 4) {
    fprintf(stderr, "usage: lock SLICES MILLISECONDS CPU...\n");
    return 2;
  }
  int slices = atoi(argv[1]), count = argc - 3;
  struct timespec pause = {0, atoi(argv[2]) * 1000000L};
  struct spinner *spinners = aligned_alloc(128, count * sizeof *spinners);
  pthread_barrier_init(&begin, NULL, count + 1);
  for (int i = 0; i < count; i++) {
    spinners[i] = (struct spinner){.cpu = atoi(argv[3 + i]), .number = i};
    int error = pthread_create(&spinners[i].thread, NULL, spin, &spinners[i]);
    if (error) {
      fprintf(stderr, "thread %d: %s\n", i, strerror(error));
      return 1;
    }
  }
  pthread_barrier_wait(&begin);
  for (int slice = 0; slice < slices; slice++) {
    uint64_t time = now(), acquisitions = read_count(&counted.acquisitions);
    uint64_t handoffs = read_count(&counted.handoffs);
    nanosleep(&pause, NULL);
    acquisitions = read_count(&counted.acquisitions) - acquisitions;
    handoffs = read_count(&counted.handoffs) - handoffs;
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", acquisitions, handoffs, now() - time);
  }
  __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
  uint64_t sum = 0;
  for (int i = 0; i < count; i++) {
    pthread_join(spinners[i].thread, NULL);
    sum += spinners[i].acquisitions;
  }
  if (sum != counted.acquisitions) {
    fprintf(stderr, "the lock did not exclude: %" PRIu64 " acquisitions, counted %" PRIu64 "\n",
            sum, counted.acquisitions);
    return 1;
  }
  return 0;
}
