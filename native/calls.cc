#include "calls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <cstring>

#include "claims.h"
#include "fsids.h"
#include "syscalls.h"
#include "userns.h"

namespace {

#define ARG(type, i) (type)(v.raw[i])
#define FD(i) static_cast<int>(v.raw[i])
#define TEXT(i) reinterpret_cast<const char*>(v.raw[i])
#define CALL(name, signature, trait, expression)                                        \
  {                                                                                     \
    name, signature,                                                                    \
        [](const Values& v, [[maybe_unused]] void* out) -> long { return expression; }, \
        Trait::trait                                                                    \
  }

// The order is the numbering; lib/program/step.ts has the same, and a test compares the two.
constexpr Call kCalls[] = {
    CALL("openat", "fpii", kMakesFd, sys_openat(FD(0), TEXT(1), FD(2), ARG(unsigned, 3))),
    CALL("openat2", "fph", kMakesFd, sys_openat2(FD(0), TEXT(1), &v.how)),
    CALL("close", "f", kCloses, sys_close(FD(0))),
    CALL("fsopen", "pi", kMakesFd, sys_fsopen(TEXT(0), ARG(unsigned, 1))),
    CALL("fsconfig", "fiPPv", kNone,
         // the length of binary values would have to be checked, and no plan has any
         ARG(unsigned, 1) == FSCONFIG_SET_BINARY
             ? -EINVAL
             : sys_fsconfig(FD(0), ARG(unsigned, 1), TEXT(2), TEXT(3), FD(4))),
    CALL("fsmount", "fii", kMakesFd, sys_fsmount(FD(0), ARG(unsigned, 1), ARG(unsigned, 2))),
    CALL("open_tree", "fpi", kMakesFd, sys_open_tree(FD(0), TEXT(1), ARG(unsigned, 2))),
    CALL("open_tree_attr", "fpia", kMakesFd,
         sys_open_tree_attr(FD(0), TEXT(1), ARG(unsigned, 2), &v.attr)),
    CALL("move_mount", "fpfpi", kNone,
         sys_move_mount(FD(0), TEXT(1), FD(2), TEXT(3), ARG(unsigned, 4))),
    CALL("mount_setattr", "fpia", kNone,
         sys_mount_setattr(FD(0), TEXT(1), ARG(unsigned, 2), &v.attr)),
    CALL("mount", "PpPiP", kNone,
         sys_mount(TEXT(0), TEXT(1), TEXT(2), ARG(unsigned long, 3), TEXT(4))),
    CALL("umount2", "pi", kNone, sys_umount2(TEXT(0), FD(1))),
    CALL("statx", "fpiix", kNone,
         sys_statx(FD(0), TEXT(1), FD(2), ARG(unsigned, 3), static_cast<uapi::statx*>(out))),
    CALL("fstatfs", "fs", kNone, sys_fstatfs(FD(0), static_cast<struct statfs*>(out))),
    CALL("fchdir", "f", kChangesDirectory, sys_fchdir(FD(0))),
    CALL("chdir", "p", kChangesDirectory, sys_chdir(TEXT(0))),
    // with the umask of the thread
    CALL("mkdirat", "fpi", kChangesThread, sys_mkdirat(FD(0), TEXT(1), ARG(unsigned, 2))),
    CALL("unlinkat", "fpi", kNone, sys_unlinkat(FD(0), TEXT(1), FD(2))),
    CALL("fchownat", "fpiii", kNone,
         sys_fchownat(FD(0), TEXT(1), ARG(uint32_t, 2), ARG(uint32_t, 3), FD(4))),
    CALL("fchmodat", "fpi", kNone, sys_fchmodat(FD(0), TEXT(1), ARG(unsigned, 2))),
    CALL("lsetxattr", "ppbi", kNone, sys_lsetxattr(TEXT(0), TEXT(1), TEXT(2), v.size[2], FD(3))),
    CALL("assume_fsids", "ii", kChangesThread, AssumeFsIds(ARG(uint32_t, 0), ARG(uint32_t, 1))),
    CALL("restore_fsids", "ii", kChangesThread, RestoreFsIds(ARG(uint32_t, 0), ARG(uint32_t, 1))),
    CALL("userns", "pp", kMakesFd, MakeUserNamespace(TEXT(0), TEXT(1))),
    CALL("inotify_add_watch", "fpi", kNone,
         sys_inotify_add_watch(FD(0), TEXT(1), ARG(uint32_t, 2))),
    CALL("claim", "fx", kClaims,
         sys_statx(FD(0), "", AT_EMPTY_PATH, STATX_INO, static_cast<uapi::statx*>(out))),
    CALL("retire_claim", "i", kNone, (RetireClaim(ARG(uint64_t, 0)), 0L)),
    CALL("restore_claim", "i", kNone, (RestoreClaim(ARG(uint64_t, 0)), 0L)),
    CALL("drop_claim", "i", kNone, (DropClaim(ARG(uint64_t, 0)), 0L)),
    CALL("setns", "fi", kMovesThread, sys_setns(FD(0), FD(1))),
    CALL("unshare", "i", kMovesThread, sys_unshare(FD(0))),
    CALL("pivot_root", "pp", kMovesThread, sys_pivot_root(TEXT(0), TEXT(1))),
    CALL("chroot", "p", kMovesThread, sys_chroot(TEXT(0))),
    // other commands make no fd
    CALL("fcntl", "fii", kMakesFd,
         FD(1) == F_DUPFD_CLOEXEC ? sys_fcntl(FD(0), FD(1), FD(2)) : -EINVAL),
    CALL("fspick", "fpi", kMakesFd, sys_fspick(FD(0), TEXT(1), ARG(unsigned, 2))),
};

#undef CALL
#undef TEXT
#undef FD
#undef ARG

}  // namespace

uint32_t CallCount() { return sizeof kCalls / sizeof *kCalls; }

const Call& CallOf(uint32_t number) { return kCalls[number]; }

size_t OutSize(const Call& call) {
  if (strchr(call.signature, 'x')) return sizeof(uapi::statx);
  if (strchr(call.signature, 's')) return sizeof(struct statfs);
  return 0;
}

std::vector<std::string> ProgramCalls() {
  std::vector<std::string> names;
  for (uint32_t i = 0; i < CallCount(); i++) {
    names.push_back(std::string(CallOf(i).name) + ":" + CallOf(i).signature);
  }
  return names;
}
