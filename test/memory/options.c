/*
 * The sanitizers' options, for each process by itself; preloaded before the runtime, which has a
 * definition of its own.
 *
 * Leaks are looked for in node alone, for other programs leak at their end as they like, and where
 * LeakSanitizer can look, or it ends the process: not in one that strace has, for a process has one
 * tracer at most, and not where no /proc is mounted. There ASAN_OPTIONS would not be found either,
 * which is why this is no variable. What is found is written down and changes nothing of how a
 * process ends (test/memory/run reads it); an error of memory ends it.
 */
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPTIONS                                                                           \
  "verify_asan_link_order=0:exitcode=0:abort_on_error=1:log_exe_name=1:log_path=" REPORTS \
  ":detect_leaks="

/* memcmp, strstr and atoi are the runtime's, which is not ready yet */
static int IsSame(const char *text, const char *wanted) {
  while (*wanted != '\0' && *text == *wanted) text++, wanted++;
  return *wanted == '\0';
}

static int IsNode(void) {
  char path[4097];
  long length = syscall(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", path, sizeof path - 1);
  if (length < 5) return 0;
  path[length] = '\0';
  return IsSame(path + length - 5, "/node");
}

static int IsUntraced(void) {
  char status[4097];
  int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return 0;
  long length = syscall(SYS_read, fd, status, sizeof status - 1);
  syscall(SYS_close, fd);
  if (length < 0) return 0;
  status[length] = '\0';
  for (const char *at = status; *at != '\0'; at++)
    if (IsSame(at, "\nTracerPid:\t0\n")) return 1;
  return 0;
}

const char *__asan_default_options(void) {
  return IsNode() && IsUntraced() ? OPTIONS "1" : OPTIONS "0";
}
