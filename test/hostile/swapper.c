// Exchanges directory entries as fast as it can, with pauses of every length between none and some microseconds, until
// its standard input ends: what a hostile neighbour does with the names that a mount is made of.
//
//   swapper A B [C D …]: renameat2(A, B, RENAME_EXCHANGE), renameat2(C, D, RENAME_EXCHANGE), …
//
// Entries that are mount points are busy (EBUSY), which is no end. Each pair is back as it began when it ends: pairs are
// exchanged back where an exchange was counted.
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

int main(int argc, char **argv) {
  const int pairs = (argc - 1) / 2;
  unsigned char is_exchanged[64] = {0};
  if (pairs < 1 || pairs > 64 || argc % 2 == 0) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (write(STDOUT_FILENO, "ready\n", 6) != 6) return 2;
  struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
  unsigned long count = 0;
  unsigned seed = 1;
  while (count % 64 != 0 || poll(&in, 1, 0) == 0) {
    const int i = (int)(count % (unsigned)pairs);
    if (renameat2(AT_FDCWD, argv[1 + 2 * i], AT_FDCWD, argv[2 + 2 * i], RENAME_EXCHANGE) == 0) {
      is_exchanged[i] ^= 1;
    }
    count++;
    for (volatile int spin = rand_r(&seed) % 20000; spin > 0; spin--) {
    }
  }
  int left = 0;
  for (int i = 0; i < pairs; i++) {
    if (is_exchanged[i] &&
        renameat2(AT_FDCWD, argv[1 + 2 * i], AT_FDCWD, argv[2 + 2 * i], RENAME_EXCHANGE) != 0) {
      left++;
    }
  }
  printf("%lu %d\n", count, left);
  return 0;
}
