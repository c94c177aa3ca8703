// A user namespace for a mapping, as an fd, without forking the process image.
#pragma once

// Creates a user namespace whose uid_map and gid_map are the given texts (user_namespaces(7)) and
// returns an O_CLOEXEC fd of it, or -errno. Linux 3.8; needs /proc of this process's own pid
// namespace (ENOENT without it), and CAP_SETUID and CAP_SETGID for more than the caller's own ids.
// Call it on a thread with all signals blocked.
//
//   getpid, readlinkat of /proc/self                is it the /proc that knows our children?
//   clone(CLONE_VM | CLONE_FILES | CLONE_NEWUSER)   a child that only waits
//   openat, write, close of /proc/PID/uid_map       then the same of gid_map
//   openat of /proc/PID/ns/user
//   futex, wait4(PID, __WALL)                       the child ends
//
// The child: prctl(PR_SET_PDEATHSIG), getppid, futex, exit.
long MakeUserNamespace(const char* uid_map, const char* gid_map);
