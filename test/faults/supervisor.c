/*
 * Lets system calls of another process fail, from outside of it: seccomp_unotify(2).
 *
 *   supervisor PROGRAM ARGUMENTS...
 *
 * The program runs under a filter that asks for each call of the list below; all are let through but those that it
 * asked to have failed. It asks over a socket whose number is in OVERLAYFD_FAULTS, a message each way:
 *
 *   arm                            from now on, calls of threads whose name begins with "ofd-" are written down
 *   arm NAME INDEX CALL ERRNO ...  and the INDEX-th (from 0) of threads called NAME fails, if it is a CALL
 *   arm NAME INDEX CALL hold       the INDEX-th CALL of those threads is held: an unasked message "held" says so
 *   hold N                         the same, and the N-th (from 0) of all these calls is held
 *   step                           lets go what is held; the next of these calls is held
 *   release TID                    lets go what is held when thread TID waits for something with a time limit, as one
 *                                  does that ends and waits for others; of thread 0: now. No answer
 *   pass                           lets it go now; answers "asleep" when the thread that made it waits for work
 *   report                         no more; answers a line a call: NAME TID CALL ARGUMENT ERRNO (0: let through)
 *   calls                          the names of the list
 *
 * Another process that shares the name (the child of a clone) is not told apart: it makes no call of the list.
 * close(2) frees the fd whatever it answers, so the file of a close that is to fail is taken out of the table: what is
 * there afterwards is an empty memfd called "closed", which nobody can take for a new file, and which a second close of
 * the same number hits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* what older headers lack */
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif
#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV /* 5.19 */
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS /* 6.6 */
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

static const struct {
  const char* name;
  int number;
} calls[] = {
#define CALL(name) {#name, SYS_##name}
    CALL(openat),        CALL(openat2),    CALL(close),         CALL(fsopen),
    CALL(fsconfig),      CALL(fsmount),    CALL(open_tree),     CALL(open_tree_attr),
    CALL(move_mount),    CALL(mount),      CALL(mount_setattr), CALL(umount2),
    CALL(statx),         CALL(fstatfs),    CALL(fchdir),        CALL(chdir),
    CALL(mkdirat),       CALL(unlinkat),   CALL(fchownat),      CALL(fchmodat),
    CALL(lsetxattr),     CALL(setns),      CALL(unshare),       CALL(pivot_root),
    CALL(chroot),        CALL(fcntl),      CALL(fspick),        CALL(inotify_add_watch),
    CALL(readlinkat),    CALL(clone),      CALL(write),         CALL(wait4),
    CALL(capget),        CALL(capset),
#undef CALL
};
enum { kCalls = sizeof calls / sizeof *calls, kNameSize = 16, kMost = 16384, kMessage = 1 << 20 };
enum { kHold = -1, kPatience = 20 /* seconds */ };

struct fault {
  char thread[kNameSize];
  int index, call, error;
};
struct made {
  char thread[kNameSize];
  int tid, call, error;
  long long argument;
};

static struct fault faults[16];
static int fault_count, made_count, armed, spare;
static int hold_at = -1;
static struct made made[kMost];
static char message[kMessage];

/* what is held: the call's id, its thread; whom it is held for, until then; and a thread that is to fall asleep */
static struct {
  unsigned long long id;
  int tid, waiter, sleeper;
  time_t patient_until;
} held;

static void die(const char* what) {
  fprintf(stderr, "supervisor: %s: %s\n", what, strerror(errno));
  exit(125);
}

static int call_by_name(const char* name) {
  for (int i = 0; i < kCalls; i++) {
    if (strcmp(calls[i].name, name) == 0) return i;
  }
  return -1;
}

static int call_by_number(int number) {
  for (int i = 0; i < kCalls; i++) {
    if (calls[i].number == number) return i;
  }
  return -1;
}

/* The filter of the program; answers the listener. Writes of 8 bytes are those that wake an event loop. */
static int install(void) {
  struct sock_filter code[2 * kCalls + 16];
  int n = 0;
#define AT(field) (unsigned)offsetof(struct seccomp_data, field)
#define STATEMENT(c, k) code[n++] = (struct sock_filter)BPF_STMT(c, k)
#define JUMP(c, k, yes, no) code[n++] = (struct sock_filter)BPF_JUMP(c, k, yes, no)
  STATEMENT(BPF_LD | BPF_W | BPF_ABS, AT(arch));
  JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
  STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  STATEMENT(BPF_LD | BPF_W | BPF_ABS, AT(nr));
  JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 4);
  STATEMENT(BPF_LD | BPF_W | BPF_ABS, AT(args[2]));
  JUMP(BPF_JMP | BPF_JEQ | BPF_K, 8, 0, 1);
  STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
  for (int i = 0; i < kCalls; i++) {
    JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].number, 0, 1);
    STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
  }
  STATEMENT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
#undef JUMP
#undef STATEMENT
#undef AT
  struct sock_fprog program = {(unsigned short)n, code};
  const unsigned flags = SECCOMP_FILTER_FLAG_NEW_LISTENER;
  long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                    flags | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &program);
  if (fd < 0) fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
  return (int)fd;
}

union control {
  char space[CMSG_SPACE(sizeof(int))];
  struct cmsghdr align;
};

static void send_fd(int to, int fd) {
  union control control = {{0}};
  char byte = 0;
  struct iovec part = {&byte, 1};
  struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                        .msg_controllen = sizeof control};
  struct cmsghdr* rights = CMSG_FIRSTHDR(&head);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  if (sendmsg(to, &head, 0) != 1) die("sendmsg");
}

static int receive_fd(int from) {
  union control control;
  char byte;
  int fd;
  struct iovec part = {&byte, 1};
  struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                        .msg_controllen = sizeof control};
  if (recvmsg(from, &head, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&head) == NULL)
    die("no filter: it takes CAP_SYS_ADMIN");
  memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&head)), sizeof fd);
  return fd;
}

/* The name of a thread; empty if it is gone. */
static void name_of(int tid, char name[kNameSize]) {
  char path[32];
  snprintf(path, sizeof path, "/proc/%d/comm", tid);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? 0 : read(fd, name, kNameSize - 1);
  if (fd >= 0) close(fd);
  if (size > 0 && name[size - 1] == '\n') size--;
  name[size > 0 ? size : 0] = 0;
}

/* The errno that a call is to answer, or 0, or kHold; an owned thread's is written down. */
static int judge(const struct seccomp_notif* asked) {
  struct made one = {.tid = (int)asked->pid, .call = call_by_number(asked->data.nr),
                     .argument = (int)asked->data.args[0]};
  if (!armed || one.call < 0 || made_count == kMost) return 0;
  name_of(one.tid, one.thread);
  if (strncmp(one.thread, "ofd-", 4) != 0) return 0;
  int index = 0, nth = 0;
  for (int i = 0; i < made_count; i++) {
    if (strcmp(made[i].thread, one.thread) != 0) continue;
    index++;
    nth += made[i].call == one.call;
  }
  for (int i = 0; i < fault_count; i++) {
    const struct fault* f = &faults[i];
    if (f->call != one.call || strcmp(f->thread, one.thread) != 0) continue;
    if (f->index == (f->error == kHold ? nth : index)) one.error = f->error;
  }
  const int error = made_count == hold_at ? kHold : one.error;
  if (error == kHold) one.error = 0;
  made[made_count++] = one;
  return error;
}

static void take_out(int listener, const struct seccomp_notif* asked) {
  struct seccomp_notif_addfd addfd = {.id = asked->id, .flags = SECCOMP_ADDFD_FLAG_SETFD,
                                      .srcfd = (unsigned)spare, .newfd = (unsigned)asked->data.args[0],
                                      .newfd_flags = O_CLOEXEC};
  if (ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &addfd) < 0 && errno != ENOENT) die("NOTIF_ADDFD");
}

static void let_go(int listener) {
  struct seccomp_notif_resp answer = {.id = held.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
  if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) < 0 && errno != ENOENT) die("NOTIF_SEND");
  held.id = 0;
  held.waiter = 0;
}

/* Whether a thread waits on a condition, with a time limit or without; one that is gone waits for nothing. */
static int waits(int tid, int limited) {
  char path[48], text[160];
  unsigned long long operation, limit;
  int number;
  snprintf(path, sizeof path, "/proc/%d/syscall", tid);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  const ssize_t size = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  if (size <= 0) return !limited;
  text[size] = 0;
  if (sscanf(text, "%d %*x %llx %*x %llx", &number, &operation, &limit) != 3) return 0;
  return number == SYS_futex && (operation & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && (limit != 0) == limited;
}

/* What was waited for may have come; answers how long the next look may wait. */
static int look(int listener, int control) {
  if (held.id != 0 && held.waiter != 0) {
    const int is_late = time(NULL) > held.patient_until;
    if (is_late) fprintf(stderr, "supervisor: thread %d never waited\n", held.waiter);
    if (is_late || waits(held.waiter, 1)) let_go(listener);
  }
  if (held.sleeper != 0 && waits(held.sleeper, 0)) {
    held.sleeper = 0;
    send(control, "asleep\n", 7, MSG_NOSIGNAL);
  }
  return (held.id != 0 && held.waiter != 0) || held.sleeper != 0 ? 1 : -1;
}

static void answer_call(int listener, int control) {
  struct seccomp_notif asked;
  memset(&asked, 0, sizeof asked);
  if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) < 0) {
    if (errno == ENOENT || errno == EINTR) return; /* the thread was killed meanwhile */
    die("NOTIF_RECV");
  }
  struct seccomp_notif_resp answer = {.id = asked.id};
  const int error = judge(&asked);
  if (error == kHold) {
    held.id = asked.id;
    held.tid = (int)asked.pid;
    if (send(control, "held\n", 5, MSG_NOSIGNAL) != 5) let_go(listener);
    return;
  }
  if (error == 0) {
    answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  } else {
    answer.error = -error;
    if (asked.data.nr == SYS_close) take_out(listener, &asked);
  }
  if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) < 0 && errno != ENOENT) die("NOTIF_SEND");
}

static size_t arm(char* words) {
  fault_count = made_count = 0;
  hold_at = -1;
  char* thread;
  while ((thread = strtok(words, " ")) != NULL) {
    words = NULL;
    const char* index = strtok(NULL, " ");
    const char* call = strtok(NULL, " ");
    const char* error = strtok(NULL, " ");
    if (error == NULL || call_by_name(call) < 0 || fault_count == sizeof faults / sizeof *faults)
      return (size_t)snprintf(message, sizeof message, "refused");
    struct fault* f = &faults[fault_count++];
    snprintf(f->thread, sizeof f->thread, "%s", thread);
    f->index = atoi(index);
    f->call = call_by_name(call);
    f->error = strcmp(error, "hold") == 0 ? kHold : atoi(error);
  }
  armed = 1;
  return (size_t)snprintf(message, sizeof message, "armed");
}

static size_t report(void) {
  size_t size = 0;
  armed = 0;
  for (int i = 0; i < made_count && size < sizeof message - 128; i++) {
    size += (size_t)snprintf(message + size, sizeof message - size, "%s %d %s %lld %d\n", made[i].thread,
                             made[i].tid, calls[made[i].call].name, made[i].argument, made[i].error);
  }
  return size;
}

static size_t list(void) {
  size_t size = 0;
  for (int i = 0; i < kCalls; i++) {
    size += (size_t)snprintf(message + size, sizeof message - size, "%s\n", calls[i].name);
  }
  return size;
}

static int answer_program(int listener, int control) {
  char asked[4096];
  const ssize_t size = recv(control, asked, sizeof asked - 1, 0);
  if (size <= 0) return 0;
  asked[size] = 0;
  size_t length;
  if (strncmp(asked, "release ", 8) == 0) {
    held.waiter = atoi(asked + 8);
    if (held.id != 0 && held.waiter == 0) let_go(listener);
    held.patient_until = time(NULL) + kPatience;
    return 1;
  }
  if (strcmp(asked, "step") == 0) {
    hold_at = made_count;
    if (held.id != 0) let_go(listener);
    return 1;
  }
  if (strcmp(asked, "pass") == 0) {
    held.sleeper = held.tid;
    if (held.id != 0) let_go(listener);
    return 1;
  }
  /* nothing is held from one case to the next */
  if (held.id != 0) let_go(listener);
  if (strncmp(asked, "arm", 3) == 0) {
    length = arm(asked + 3);
  } else if (strncmp(asked, "hold ", 5) == 0) {
    length = arm(asked + strlen(asked));
    hold_at = atoi(asked + 5);
  } else if (strcmp(asked, "report") == 0) {
    length = report();
  } else if (strcmp(asked, "calls") == 0) {
    length = list();
  } else {
    length = (size_t)snprintf(message, sizeof message, "unknown");
  }
  /* a message is never empty: that would be the end */
  message[length++] = '\n';
  return send(control, message, length, MSG_NOSIGNAL) == (ssize_t)length;
}

int main(int count, char** arguments) {
  int ends[2];
  if (count < 2) {
    fprintf(stderr, "usage: supervisor PROGRAM ARGUMENTS...\n");
    return 125;
  }
  if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) < 0) die("socketpair");
  const int most = kMessage;
  setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &most, sizeof most);
  const pid_t child = fork();
  if (child < 0) die("fork");
  if (child == 0) {
    char number[16];
    close(ends[0]);
    /* not to be left waiting for answers that nobody gives */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    snprintf(number, sizeof number, "%d", ends[1]);
    setenv("OVERLAYFD_FAULTS", number, 1);
    const int listener = install();
    if (listener < 0) die("seccomp");
    send_fd(ends[1], listener);
    /* closing it is a call of the list, and is answered */
    close(listener);
    execvp(arguments[1], arguments + 1);
    die(arguments[1]);
  }
  close(ends[1]);
  fcntl(ends[0], F_SETFD, FD_CLOEXEC);
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* whoever waits for it is gone */
  setpriority(PRIO_PROCESS, 0, -20); /* everything waits for it */
  spare = memfd_create("closed", MFD_CLOEXEC);
  const int listener = receive_fd(ends[0]);
  const unsigned long long together = 1; /* SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP */
  ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, together);
  struct pollfd waited[2] = {{listener, POLLIN, 0}, {ends[0], POLLIN, 0}};
  for (;;) {
    if (poll(waited, 2, look(listener, ends[0])) < 0 && errno != EINTR) die("poll");
    if (waited[0].revents & POLLIN) answer_call(listener, ends[0]);
    /* nobody is under the filter any more */
    if (waited[0].revents & (POLLHUP | POLLERR)) break;
    if ((waited[1].revents & (POLLIN | POLLHUP)) && !answer_program(listener, ends[0])) waited[1].fd = -1;
  }
  int status;
  if (waitpid(child, &status, 0) < 0) die("waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
