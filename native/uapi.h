// What the kernel's interface has and the system headers may not.
//
// The calls are younger than the headers on most build machines, and <linux/mount.h> cannot be
// included beside <sys/mount.h> everywhere. So each constant is defined here if the headers did
// not, and the structs live in namespace uapi, where they clash with nothing. Include this file,
// never <linux/mount.h>. Every value is compared with the kernel's own headers, where those have
// it, by test/flags.test.ts, which reads the lines below: keep them one definition a line.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

static_assert(sizeof(long) == 8 && sizeof(void*) == 8, "64-bit only: arguments are not split");

// System-call numbers. The same on every architecture this builds for.
#ifndef SYS_open_tree
#define SYS_open_tree 428  // since Linux 5.2
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429  // since Linux 5.2
#endif
#ifndef SYS_fsopen
#define SYS_fsopen 430  // since Linux 5.2
#endif
#ifndef SYS_fsconfig
#define SYS_fsconfig 431  // since Linux 5.2
#endif
#ifndef SYS_fsmount
#define SYS_fsmount 432  // since Linux 5.2
#endif
#ifndef SYS_fspick
#define SYS_fspick 433  // since Linux 5.2
#endif
#ifndef SYS_openat2
#define SYS_openat2 437  // since Linux 5.6
#endif
#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442  // since Linux 5.12
#endif
#ifndef SYS_statmount
#define SYS_statmount 457  // since Linux 6.8
#endif
#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467  // since Linux 6.15
#endif

// fsopen(2), fspick(2), fsmount(2).
#ifndef FSOPEN_CLOEXEC
#define FSOPEN_CLOEXEC 0x00000001  // since Linux 5.2
#endif
#ifndef FSPICK_CLOEXEC
#define FSPICK_CLOEXEC 0x00000001  // since Linux 5.2
#endif
#ifndef FSPICK_SYMLINK_NOFOLLOW
#define FSPICK_SYMLINK_NOFOLLOW 0x00000002  // since Linux 5.2
#endif
#ifndef FSPICK_NO_AUTOMOUNT
#define FSPICK_NO_AUTOMOUNT 0x00000004  // since Linux 5.2
#endif
#ifndef FSPICK_EMPTY_PATH
#define FSPICK_EMPTY_PATH 0x00000008  // since Linux 5.2
#endif
#ifndef FSMOUNT_CLOEXEC
#define FSMOUNT_CLOEXEC 0x00000001  // since Linux 5.2
#endif

// fsconfig(2) commands. The headers may have them as an enum only: a macro of the same name and
// value may follow it.
#ifndef FSCONFIG_SET_FLAG
#define FSCONFIG_SET_FLAG 0  // since Linux 5.2
#endif
#ifndef FSCONFIG_SET_STRING
#define FSCONFIG_SET_STRING 1  // since Linux 5.2
#endif
#ifndef FSCONFIG_SET_BINARY
#define FSCONFIG_SET_BINARY 2  // since Linux 5.2
#endif
#ifndef FSCONFIG_SET_PATH
#define FSCONFIG_SET_PATH 3  // since Linux 5.2
#endif
#ifndef FSCONFIG_SET_PATH_EMPTY
#define FSCONFIG_SET_PATH_EMPTY 4  // since Linux 5.2
#endif
#ifndef FSCONFIG_SET_FD
#define FSCONFIG_SET_FD 5  // since Linux 5.2
#endif
#ifndef FSCONFIG_CMD_CREATE
#define FSCONFIG_CMD_CREATE 6  // since Linux 5.2
#endif
#ifndef FSCONFIG_CMD_RECONFIGURE
#define FSCONFIG_CMD_RECONFIGURE 7  // since Linux 5.2
#endif
#ifndef FSCONFIG_CMD_CREATE_EXCL
#define FSCONFIG_CMD_CREATE_EXCL 8  // since Linux 6.6
#endif

// Mount attributes: fsmount(2), mount_setattr(2), open_tree_attr(2).
#ifndef MOUNT_ATTR_RDONLY
#define MOUNT_ATTR_RDONLY 0x00000001  // since Linux 5.2
#endif
#ifndef MOUNT_ATTR_NOSUID
#define MOUNT_ATTR_NOSUID 0x00000002  // since Linux 5.2
#endif
#ifndef MOUNT_ATTR_NODEV
#define MOUNT_ATTR_NODEV 0x00000004  // since Linux 5.2
#endif
#ifndef MOUNT_ATTR_NOEXEC
#define MOUNT_ATTR_NOEXEC 0x00000008  // since Linux 5.2
#endif
#ifndef MOUNT_ATTR__ATIME
#define MOUNT_ATTR__ATIME 0x00000070  // since Linux 5.2, a mask
#endif
#ifndef MOUNT_ATTR_RELATIME
#define MOUNT_ATTR_RELATIME 0x00000000  // since Linux 5.2
#endif
#ifndef MOUNT_ATTR_NOATIME
#define MOUNT_ATTR_NOATIME 0x00000010  // since Linux 5.2
#endif
#ifndef MOUNT_ATTR_STRICTATIME
#define MOUNT_ATTR_STRICTATIME 0x00000020  // since Linux 5.2
#endif
#ifndef MOUNT_ATTR_NODIRATIME
#define MOUNT_ATTR_NODIRATIME 0x00000080  // since Linux 5.2
#endif
#ifndef MOUNT_ATTR_IDMAP
#define MOUNT_ATTR_IDMAP 0x00100000  // since Linux 5.12
#endif
#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000  // since Linux 5.14
#endif

// open_tree(2), move_mount(2).
#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 0x00000001  // since Linux 5.2
#endif
#ifndef OPEN_TREE_CLOEXEC
#define OPEN_TREE_CLOEXEC O_CLOEXEC  // since Linux 5.2
#endif
#ifndef MOVE_MOUNT_F_SYMLINKS
#define MOVE_MOUNT_F_SYMLINKS 0x00000001  // since Linux 5.2
#endif
#ifndef MOVE_MOUNT_F_AUTOMOUNTS
#define MOVE_MOUNT_F_AUTOMOUNTS 0x00000002  // since Linux 5.2
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 0x00000004  // since Linux 5.2
#endif
#ifndef MOVE_MOUNT_T_SYMLINKS
#define MOVE_MOUNT_T_SYMLINKS 0x00000010  // since Linux 5.2
#endif
#ifndef MOVE_MOUNT_T_AUTOMOUNTS
#define MOVE_MOUNT_T_AUTOMOUNTS 0x00000020  // since Linux 5.2
#endif
#ifndef MOVE_MOUNT_T_EMPTY_PATH
#define MOVE_MOUNT_T_EMPTY_PATH 0x00000040  // since Linux 5.2
#endif
#ifndef MOVE_MOUNT_SET_GROUP
#define MOVE_MOUNT_SET_GROUP 0x00000100  // since Linux 5.15
#endif
#ifndef MOVE_MOUNT_BENEATH
#define MOVE_MOUNT_BENEATH 0x00000200  // since Linux 6.5
#endif

// mount(2), umount2(2), statfs(2).
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 0x00000100  // since Linux 5.10
#endif
#ifndef MS_LAZYTIME
#define MS_LAZYTIME 0x02000000  // since Linux 4.0
#endif
#ifndef UMOUNT_NOFOLLOW
#define UMOUNT_NOFOLLOW 0x00000008  // since Linux 2.6.34
#endif
#ifndef ST_NOSYMFOLLOW
#define ST_NOSYMFOLLOW 0x2000  // since Linux 5.10
#endif
#ifndef OVERLAYFS_SUPER_MAGIC
#define OVERLAYFS_SUPER_MAGIC 0x794c7630  // since Linux 3.18
#endif
#ifndef TMPFS_MAGIC
#define TMPFS_MAGIC 0x01021994  // since Linux 2.4
#endif

// The AT_* flags of calls on a directory fd.
#ifndef AT_STATX_SYNC_AS_STAT
#define AT_STATX_SYNC_AS_STAT 0x0000  // since Linux 4.11
#endif
#ifndef AT_STATX_FORCE_SYNC
#define AT_STATX_FORCE_SYNC 0x2000  // since Linux 4.11
#endif
#ifndef AT_STATX_DONT_SYNC
#define AT_STATX_DONT_SYNC 0x4000  // since Linux 4.11
#endif
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000  // since Linux 5.2
#endif

// openat2(2).
#ifndef RESOLVE_NO_XDEV
#define RESOLVE_NO_XDEV 0x01  // since Linux 5.6
#endif
#ifndef RESOLVE_NO_MAGICLINKS
#define RESOLVE_NO_MAGICLINKS 0x02  // since Linux 5.6
#endif
#ifndef RESOLVE_NO_SYMLINKS
#define RESOLVE_NO_SYMLINKS 0x04  // since Linux 5.6
#endif
#ifndef RESOLVE_BENEATH
#define RESOLVE_BENEATH 0x08  // since Linux 5.6
#endif
#ifndef RESOLVE_IN_ROOT
#define RESOLVE_IN_ROOT 0x10  // since Linux 5.6
#endif
#ifndef RESOLVE_CACHED
#define RESOLVE_CACHED 0x20  // since Linux 5.12
#endif

// statx(2): what is wanted and was got, then attributes.
#ifndef STATX_TYPE
#define STATX_TYPE 0x0001  // since Linux 4.11
#endif
#ifndef STATX_MODE
#define STATX_MODE 0x0002  // since Linux 4.11
#endif
#ifndef STATX_NLINK
#define STATX_NLINK 0x0004  // since Linux 4.11
#endif
#ifndef STATX_UID
#define STATX_UID 0x0008  // since Linux 4.11
#endif
#ifndef STATX_GID
#define STATX_GID 0x0010  // since Linux 4.11
#endif
#ifndef STATX_ATIME
#define STATX_ATIME 0x0020  // since Linux 4.11
#endif
#ifndef STATX_MTIME
#define STATX_MTIME 0x0040  // since Linux 4.11
#endif
#ifndef STATX_CTIME
#define STATX_CTIME 0x0080  // since Linux 4.11
#endif
#ifndef STATX_INO
#define STATX_INO 0x0100  // since Linux 4.11
#endif
#ifndef STATX_SIZE
#define STATX_SIZE 0x0200  // since Linux 4.11
#endif
#ifndef STATX_BLOCKS
#define STATX_BLOCKS 0x0400  // since Linux 4.11
#endif
#ifndef STATX_BASIC_STATS
#define STATX_BASIC_STATS 0x07ff  // since Linux 4.11
#endif
#ifndef STATX_BTIME
#define STATX_BTIME 0x0800  // since Linux 4.11
#endif
#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000  // since Linux 5.8
#endif
#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x2000  // since Linux 6.1
#endif
#ifndef STATX_MNT_ID_UNIQUE
#define STATX_MNT_ID_UNIQUE 0x4000  // since Linux 6.8, instead of STATX_MNT_ID
#endif
#ifndef STATX_ATTR_COMPRESSED
#define STATX_ATTR_COMPRESSED 0x00000004  // since Linux 4.11
#endif
#ifndef STATX_ATTR_IMMUTABLE
#define STATX_ATTR_IMMUTABLE 0x00000010  // since Linux 4.11
#endif
#ifndef STATX_ATTR_APPEND
#define STATX_ATTR_APPEND 0x00000020  // since Linux 4.11
#endif
#ifndef STATX_ATTR_NODUMP
#define STATX_ATTR_NODUMP 0x00000040  // since Linux 4.11
#endif
#ifndef STATX_ATTR_ENCRYPTED
#define STATX_ATTR_ENCRYPTED 0x00000800  // since Linux 4.11
#endif
#ifndef STATX_ATTR_AUTOMOUNT
#define STATX_ATTR_AUTOMOUNT 0x00001000  // since Linux 4.11
#endif
#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x00002000  // since Linux 5.8
#endif
#ifndef STATX_ATTR_VERITY
#define STATX_ATTR_VERITY 0x00100000  // since Linux 5.5
#endif
#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX 0x00200000  // since Linux 5.8
#endif

// Namespaces, credentials.
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000  // since Linux 5.2
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080  // since Linux 5.6
#endif
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000  // since Linux 4.6
#endif
#ifndef NS_GET_MNTNS_ID
#define NS_GET_MNTNS_ID _IOR(0xb7, 5, uint64_t)  // since Linux 6.11
#endif
#ifndef PIDFD_GET_USER_NAMESPACE
#define PIDFD_GET_USER_NAMESPACE _IO(0xFF, 9)  // since Linux 6.11; its argument must be 0
#endif
#ifndef SECBIT_NO_SETUID_FIXUP
#define SECBIT_NO_SETUID_FIXUP 0x00000004  // since Linux 2.6.26
#endif
#ifndef SECBIT_NO_SETUID_FIXUP_LOCKED
#define SECBIT_NO_SETUID_FIXUP_LOCKED 0x00000008  // since Linux 2.6.26
#endif

namespace uapi {

// mount_setattr(2), open_tree_attr(2); since Linux 5.12.
struct mount_attr {
  uint64_t attr_set;
  uint64_t attr_clr;
  uint64_t propagation;
  uint64_t userns_fd;
};
static_assert(sizeof(mount_attr) == 32, "MOUNT_ATTR_SIZE_VER0");

// openat2(2); since Linux 5.6.
struct open_how {
  uint64_t flags;
  uint64_t mode;
  uint64_t resolve;
};
static_assert(sizeof(open_how) == 24, "OPEN_HOW_SIZE_VER0");

// statmount(2); since Linux 6.8.
struct mnt_id_req {
  uint32_t size;
  uint32_t spare;
  uint64_t mnt_id;
  uint64_t param;
};
static_assert(sizeof(mnt_id_req) == 24, "MNT_ID_REQ_SIZE_VER0");

// The same of another mount namespace; since Linux 6.11.
struct mnt_id_req_ns {
  mnt_id_req request;
  uint64_t mnt_ns_id;
};
static_assert(sizeof(mnt_id_req_ns) == 32, "MNT_ID_REQ_SIZE_VER1");

struct statx_timestamp {
  int64_t tv_sec;
  uint32_t tv_nsec;
  int32_t reserved;
};

// statx(2); since Linux 4.11, stx_mnt_id since 5.8.
struct statx {
  uint32_t stx_mask;
  uint32_t stx_blksize;
  uint64_t stx_attributes;
  uint32_t stx_nlink;
  uint32_t stx_uid;
  uint32_t stx_gid;
  uint16_t stx_mode;
  uint16_t spare0;
  uint64_t stx_ino;
  uint64_t stx_size;
  uint64_t stx_blocks;
  uint64_t stx_attributes_mask;
  statx_timestamp stx_atime;
  statx_timestamp stx_btime;
  statx_timestamp stx_ctime;
  statx_timestamp stx_mtime;
  uint32_t stx_rdev_major;
  uint32_t stx_rdev_minor;
  uint32_t stx_dev_major;
  uint32_t stx_dev_minor;
  uint64_t stx_mnt_id;
  uint32_t stx_dio_mem_align;
  uint32_t stx_dio_offset_align;
  uint64_t spare3[12];
};
static_assert(sizeof(statx) == 256, "the kernel fills 256 bytes");

}  // namespace uapi
