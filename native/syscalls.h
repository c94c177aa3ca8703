// One inline wrapper per system call: the result (>= 0) or -errno. Knows nothing of N-API.
//
// Rules: one call is one system call; nothing is retried (EINTR reaches the caller, and close(2)
// is never to be repeated: the fd is gone even then); no defaults, so that O_CLOEXEC is given by
// whoever calls. Everything goes through syscall(2): the libc in use may lack the newer calls, and
// some of its wrappers (setfsuid and the like) speak for the whole process or hide the errno.
// All are safe on any thread; those marked "thread" change the calling thread only.
#pragma once

#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "uapi.h"

template <typename... Args>
inline long sys_call(long number, Args... args) {
  const long result = syscall(number, args...);
  return result == -1 ? -static_cast<long>(errno) : result;
}

// Files.

inline long sys_openat(int dir_fd, const char* path, int flags, unsigned mode) {
  return sys_call(SYS_openat, dir_fd, path, flags, mode);
}

// since Linux 5.6
inline long sys_openat2(int dir_fd, const char* path, const uapi::open_how* how) {
  return sys_call(SYS_openat2, dir_fd, path, how, sizeof(*how));
}

inline long sys_close(int fd) { return sys_call(SYS_close, fd); }

inline long sys_read(int fd, void* buffer, size_t size) {
  return sys_call(SYS_read, fd, buffer, size);
}

inline long sys_write(int fd, const void* buffer, size_t size) {
  return sys_call(SYS_write, fd, buffer, size);
}

// since Linux 4.11
inline long sys_statx(int dir_fd, const char* path, int flags, unsigned mask, uapi::statx* out) {
  return sys_call(SYS_statx, dir_fd, path, flags, mask, out);
}

inline long sys_fstatfs(int fd, struct statfs* out) { return sys_call(SYS_fstatfs, fd, out); }

inline long sys_statfs(const char* path, struct statfs* out) {
  return sys_call(SYS_statfs, path, out);
}

// With the NUL that ends it.
inline long sys_getcwd(char* buffer, size_t size) { return sys_call(SYS_getcwd, buffer, size); }

// The target is not NUL-terminated; a result equal to `size` may be cut.
inline long sys_readlinkat(int dir_fd, const char* path, char* buffer, size_t size) {
  return sys_call(SYS_readlinkat, dir_fd, path, buffer, size);
}

inline long sys_mkdirat(int dir_fd, const char* path, unsigned mode) {
  return sys_call(SYS_mkdirat, dir_fd, path, mode);
}

inline long sys_unlinkat(int dir_fd, const char* path, int flags) {
  return sys_call(SYS_unlinkat, dir_fd, path, flags);
}

inline long sys_fchownat(int dir_fd, const char* path, uint32_t uid, uint32_t gid, int flags) {
  return sys_call(SYS_fchownat, dir_fd, path, uid, gid, flags);
}

// The system call has no flags: a symbolic link is followed.
inline long sys_fchmodat(int dir_fd, const char* path, unsigned mode) {
  return sys_call(SYS_fchmodat, dir_fd, path, mode);
}

inline long sys_lsetxattr(const char* path, const char* name, const void* value, size_t size,
                          int flags) {
  return sys_call(SYS_lsetxattr, path, name, value, size, flags);
}

// Size 0 asks for the size of the value; too small a buffer is ERANGE.
inline long sys_lgetxattr(const char* path, const char* name, void* value, size_t size) {
  return sys_call(SYS_lgetxattr, path, name, value, size);
}

// The names one after the other, each with its NUL. Size 0 asks for the size of the list.
inline long sys_llistxattr(const char* path, char* list, size_t size) {
  return sys_call(SYS_llistxattr, path, list, size);
}

// Mounts.

// since Linux 5.2
inline long sys_fsopen(const char* type, unsigned flags) {
  return sys_call(SYS_fsopen, type, flags);
}

// since Linux 5.2; what key, value and aux must be depends on the command
inline long sys_fsconfig(int fs_fd, unsigned command, const char* key, const void* value, int aux) {
  return sys_call(SYS_fsconfig, fs_fd, command, key, value, aux);
}

// since Linux 5.2
inline long sys_fsmount(int fs_fd, unsigned flags, unsigned attributes) {
  return sys_call(SYS_fsmount, fs_fd, flags, attributes);
}

// since Linux 5.2
inline long sys_fspick(int dir_fd, const char* path, unsigned flags) {
  return sys_call(SYS_fspick, dir_fd, path, flags);
}

// since Linux 5.2
inline long sys_open_tree(int dir_fd, const char* path, unsigned flags) {
  return sys_call(SYS_open_tree, dir_fd, path, flags);
}

// since Linux 6.15
inline long sys_open_tree_attr(int dir_fd, const char* path, unsigned flags,
                               const uapi::mount_attr* attr) {
  return sys_call(SYS_open_tree_attr, dir_fd, path, flags, attr, sizeof(*attr));
}

// since Linux 5.2
inline long sys_move_mount(int from_fd, const char* from_path, int to_fd, const char* to_path,
                           unsigned flags) {
  return sys_call(SYS_move_mount, from_fd, from_path, to_fd, to_path, flags);
}

// since Linux 5.12
inline long sys_mount_setattr(int dir_fd, const char* path, unsigned flags,
                              const uapi::mount_attr* attr) {
  return sys_call(SYS_mount_setattr, dir_fd, path, flags, attr, sizeof(*attr));
}

// since Linux 6.8; struct statmount is 512 bytes, and what does not fit is cut
inline long sys_statmount(const uapi::mnt_id_req* request, void* out, size_t size) {
  return sys_call(SYS_statmount, request, out, size, 0);
}

// since Linux 6.11; of an fd of a mount namespace, its own id, which is never used again
inline long sys_mount_namespace_id(int fd) {
  uint64_t id = 0;
  const long status = sys_call(SYS_ioctl, fd, NS_GET_MNTNS_ID, &id);
  return status < 0 ? status : static_cast<long>(id);
}

// Data longer than 4095 bytes is cut without an error.
inline long sys_mount(const char* source, const char* target, const char* type, unsigned long flags,
                      const void* data) {
  return sys_call(SYS_mount, source, target, type, flags, data);
}

inline long sys_inotify_init1(int flags) { return sys_call(SYS_inotify_init1, flags); }

inline long sys_inotify_add_watch(int fd, const char* path, uint32_t mask) {
  return sys_call(SYS_inotify_add_watch, fd, path, mask);
}

inline long sys_umount2(const char* target, int flags) {
  return sys_call(SYS_umount2, target, flags);
}

inline long sys_pivot_root(const char* new_root, const char* put_old) {
  return sys_call(SYS_pivot_root, new_root, put_old);
}

// Namespaces and credentials.

// Reaps one child, whose status and resource usage nobody wants.
inline long sys_wait4(int pid, int options) {
  return sys_call(SYS_wait4, pid, nullptr, options, nullptr);
}

// thread
inline long sys_fcntl(int fd, int command, long argument) {
  return sys_call(SYS_fcntl, fd, command, argument);
}

inline long sys_setns(int fd, int type) { return sys_call(SYS_setns, fd, type); }

// thread
inline long sys_unshare(int flags) { return sys_call(SYS_unshare, flags); }

// thread, unless it shares CLONE_FS with others (as threads of one process do)
inline long sys_chdir(const char* path) { return sys_call(SYS_chdir, path); }

// thread, as chdir
inline long sys_fchdir(int fd) { return sys_call(SYS_fchdir, fd); }

// thread, as chdir
inline long sys_chroot(const char* path) { return sys_call(SYS_chroot, path); }

// thread. Always 0: the kernel answers the previous id and never an error. Call it again with -1
// (which changes nothing) through syscall(2) to see whether an id was taken.
inline long sys_setfsuid(uint32_t uid) {
  syscall(SYS_setfsuid, uid);
  return 0;
}

// thread. As sys_setfsuid.
inline long sys_setfsgid(uint32_t gid) {
  syscall(SYS_setfsgid, gid);
  return 0;
}

// thread, for most operations
inline long sys_prctl(int operation, unsigned long arg2, unsigned long arg3, unsigned long arg4,
                      unsigned long arg5) {
  return sys_call(SYS_prctl, operation, arg2, arg3, arg4, arg5);
}
